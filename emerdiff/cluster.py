"""Low-resolution masks (step 2b): the UNet's features at t_f → clusters → M^1 … M^K on the layer's grid."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.image import grid_to_graph
from torch import Tensor

from emerdiff.config import Clustering, EmerDiffConfig
from emerdiff.merging import SelfAttention, merged_by_flow
from emerdiff.ncut import cosine_affinity, normalised_cuts

RESTARTS = 3  # of k-means, from other first means; the best result counts

logger = logging.getLogger(__name__)


def low_resolution_masks(
    features: NDArray[np.float32],
    grid: tuple[int, int],
    config: EmerDiffConfig,
    attention: SelfAttention | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(h, w) int32 cluster of each position of the `grid` (h, w), and (K, C) float32 mean of each cluster's features.

    `features` are (N, C) float32, row by row of the grid. K may be below `config.clusters` where they are too much
    alike, or `config.merge` makes one of several; with normalised cuts, or `config.merge_attention`, which needs the
    `attention` about the feature layer, the image says what K is.
    """
    low_res = merged(_clustered(features, grid, config), features, config.merge).reshape(grid)
    if config.merge_attention is not None and attention is not None:
        low_res = merged_by_flow(low_res, attention.flow(one_hot(low_res)), config.merge_attention)
    return low_res, cluster_means(features, low_res.ravel())


def _clustered(features: NDArray[np.float32], grid: tuple[int, int], config: EmerDiffConfig) -> NDArray[np.int32]:
    if config.clustering == Clustering.NCUT:
        affinity = cosine_affinity(features, config.ncut_power, grid, config.position_weight)
        return normalised_cuts(affinity, config.ncut_threshold, config.clusters)
    placed = with_positions(features, grid, config.position_weight)
    return cluster(placed, config.clusters, grid if config.clustering == Clustering.WARD else None)


def merged(assignment: NDArray[np.int32], features: NDArray[np.float32], above: float) -> NDArray[np.int32]:
    """(N,) int32 `assignment` of N positions with (N, C) features to fewer clusters, numbered from 0.

    This is ours, not the paper's: each cluster costs two trajectories, also if another is nearly the same. The two that
    are most alike become one, until the mean features of none have a cosine above `above`; 1 merges none.
    """
    while above < 1:
        means = cluster_means(features, assignment)
        units = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        cosines = np.triu(units @ units.T, k=1) - 2 * np.tri(len(units), dtype=np.float32)
        first, second = np.unravel_index(cosines.argmax(), cosines.shape)
        if cosines[first, second] <= above:
            break
        together = np.where(assignment == second, first, assignment)
        assignment = (together - (together > second)).astype(np.int32)
    return assignment


def cluster_means(features: NDArray[np.float32], assignment: NDArray[np.int32]) -> NDArray[np.float32]:
    """(K, C) float32: the mean of the (N, C) features of each of the clusters 0 … K−1."""
    return np.stack([features[assignment == index].mean(0) for index in range(assignment.max() + 1)])


def one_hot(low_res: NDArray[np.int32]) -> Tensor:
    """(K, h, w) float32, 0 or 1: the masks M^1 … M^K of an (h, w) label map."""
    return torch.from_numpy(low_res == np.arange(int(low_res.max()) + 1)[:, None, None]).float()


def with_positions(features: NDArray[np.float32], grid: tuple[int, int], position_weight: float) -> NDArray[np.float32]:
    """(N, C + 2) float32: features, scaled to unit total variance, and `position_weight` times their place on the grid.

    This is ours, not the paper's; SLIC does the same with colours. The longer side of the grid (h, w) counts as 1. With
    weight 0 the features are returned unchanged.
    """
    if position_weight == 0:
        return features
    height, width = grid
    rows, columns = np.mgrid[:height, :width] / max(grid)
    spread = np.sqrt(features.var(axis=0).sum()) or 1.0  # of features that are all the same: 0
    positions = np.stack([rows.ravel(), columns.ravel()], axis=1)
    return np.hstack([features / spread, position_weight * positions]).astype(np.float32)


def cluster(features: NDArray[np.float32], clusters: int, grid: tuple[int, int] | None = None) -> NDArray[np.int32]:
    """(N,) int32 cluster of each of N positions with (N, C) features, numbered from 0.

    k-means, as in the paper; with the `grid` (h, w) of the positions Ward's agglomeration (Ward 1963) of neighbours on
    it, so that each cluster is one connected region. The same features always give the same clusters. Fewer distinct
    features than `clusters` give fewer clusters; more clusters than positions is a ValueError.
    """
    if clusters > len(features):
        raise ValueError(
            f"emerdiff.clusters is {clusters}, expected at most {len(features)}, "
            "the number of positions that the feature layer has for this image"
        )
    labels = _kmeans(features, clusters) if grid is None else _ward(features, clusters, grid)
    used, assignment = np.unique(labels, return_inverse=True)
    if len(used) < clusters:
        logger.info("%d clusters instead of %d: the features do not differ more", len(used), clusters)
    return assignment.astype(np.int32)


def _kmeans(features: NDArray[np.float32], clusters: int) -> NDArray[np.int32]:
    with warnings.catch_warnings():
        # The warning says that some clusters are empty, which the caller handles.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(clusters, n_init=RESTARTS, random_state=0).fit_predict(features)


def _ward(features: NDArray[np.float32], clusters: int, grid: tuple[int, int]) -> NDArray[np.int32]:
    distinct = len(np.unique(features, axis=0))
    if distinct == 1:
        return np.zeros(len(features), np.int32)
    ward = AgglomerativeClustering(min(clusters, distinct), linkage="ward", connectivity=grid_to_graph(*grid))
    return ward.fit_predict(features)
