"""Low-resolution masks (step 2): latent → the UNet's features at t_f → k-means → M^1 … M^K on the layer's grid."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
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

    `clean` is z0, (1, C, H, W) float32. K may be below `config.clusters` where the features are too much alike.
    """
    features = read_features(backbone, clean, config, generator)  # N C
    grid = token_grid((clean.shape[2], clean.shape[3]), len(features))
    assignment, means = cluster(features, config.clusters)
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
            noise = torch.randn(clean.shape, generator=generator).to(clean)
            backbone.predict(add_noise(backbone.schedule, clean, noise, timestep), timestep)
    features = torch.cat(queries).float().mean(0).cpu().numpy()
    if not np.isfinite(features).all():
        raise ValueError(f"features of {config.feature_layer} are not finite in this dtype; try bfloat16 or float32")
    return features


def cluster(features: NDArray[np.float32], clusters: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """k-means of (N, C) features: (N,) int32 cluster of each position, and (K, C) float32 mean of each cluster.

    Always the same for the same features. Fewer distinct features than `clusters` give fewer clusters; more clusters
    than positions is a ValueError.
    """
    if clusters > len(features):
        raise ValueError(
            f"emerdiff.clusters: {clusters} given, at most {len(features)} expected: "
            "the feature layer has no more positions for this picture"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # that some clusters are empty: handled below
        labels = KMeans(clusters, n_init=3, random_state=0).fit_predict(features)
    used, assignment = np.unique(labels, return_inverse=True)
    if len(used) < clusters:
        logger.info("%d clusters instead of %d: the features do not differ more", len(used), clusters)
    means = np.stack([features[assignment == index].mean(0) for index in range(len(used))])
    return assignment.astype(np.int32), means.astype(np.float32)
