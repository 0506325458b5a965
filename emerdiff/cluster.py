"""Low-resolution masks (step 2): latent → the UNet's features at t_f → clusters → M^1 … M^K on the layer's grid."""

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

from emerdiff.attention import recorded_queries, token_grid
from emerdiff.backbone import Backbone
from emerdiff.config import EmerDiffConfig
from emerdiff.schedule import add_noise

logger = logging.getLogger(__name__)


def low_resolution_masks(
    backbone: Backbone, clean: Tensor, config: EmerDiffConfig, generator: torch.Generator
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(h, w) int32 cluster of each position of the feature layer, and (K, C) float32 mean query of each cluster.

    `clean` is z0, (1, C, H, W) float32. K is below `config.clusters` where too few features are distinct.
    """
    features = read_features(backbone, clean, config, generator)  # N C
    grid = token_grid((clean.shape[2], clean.shape[3]), len(features))
    placed = with_positions(features, grid, config.position_weight)
    assignment = cluster(placed, config.clusters, grid if config.clustering == "ward" else None)
    means = np.stack([features[assignment == index].mean(0) for index in range(assignment.max() + 1)])
    return assignment.reshape(grid), means


def read_features(
    backbone: Backbone, clean: Tensor, config: EmerDiffConfig, generator: torch.Generator
) -> NDArray[np.float32]:
    """(N, C) float32 query vectors of the feature layer at t_f, averaged over `feature_draws` independent noises.

    The timestep need not be on the schedule. Raises ValueError if they are not finite (float16 overflows).
    """
    timestep = config.timestep_feature
    with recorded_queries(backbone.layer(config.feature_layer, "feature_layer")) as queries:
        for _ in range(config.feature_draws):
            noise = torch.randn(clean.shape, generator=generator, dtype=torch.float32).to(clean)
            backbone.predict(add_noise(backbone.schedule, clean, noise, timestep), timestep)
    features = torch.cat(queries).float().mean(0).cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"features of {config.feature_layer} are not finite in this dtype; try bfloat16 or float32")
    return features


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
        return KMeans(clusters, n_init=3, random_state=0).fit_predict(features)


def _ward(features: NDArray[np.float32], clusters: int, grid: tuple[int, int]) -> NDArray[np.int32]:
    distinct = len(np.unique(features, axis=0))
    if distinct == 1:
        return np.zeros(len(features), np.int32)
    ward = AgglomerativeClustering(min(clusters, distinct), linkage="ward", connectivity=grid_to_graph(*grid))
    return ward.fit_predict(features)
