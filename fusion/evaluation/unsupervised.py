"""Masks that learn their classes from the truth of the data set: the protocols without words.

`modified` (EmerDiff, arXiv 2401.11739, section 5): the features of all pixels of a class, over the data set, are
averaged to its concept vector; each mask takes the class of the nearest one. `traditional` (PiCIE, Cho et al., CVPR
2021, and others): the features of all masks are clustered into as many clusters as there are classes, which are then
matched one to one with the classes so that most pixels are right (Hungarian algorithm). Features are compared by their
cosine. A pixel's feature is that of its mask, so that a mask's feature and the classes of its pixels are all that need
be kept of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.metrics import UNKNOWN
from ground.label_maps import contingency

if TYPE_CHECKING:
    from emerdiff import Masks

_MINI_BATCH = 4096  # masks
_RESTARTS = 3


@dataclass(frozen=True, eq=False)
class MaskCounts:
    """The masks of one image, and what is true in them."""

    features: NDArray[np.float16]  # (K, C) of length 1: those of all images are held at once
    counts: NDArray[np.int64]  # (K, N) px of every class, from 0; unknown ones are left out


def count_masks(masks: Masks, truth: NDArray[np.int32], num_classes: int) -> MaskCounts:
    """The masks with the classes of their pixels; `truth` (H, W) in 0 … N-1, or UNKNOWN."""
    known = truth != UNKNOWN
    counts = contingency(masks.label_map[known], truth[known], (masks.num_masks, num_classes))
    return MaskCounts(_unit(masks.features.astype(np.float64)).astype(np.float16), counts)


def modified(images: Sequence[MaskCounts], seed: int = 0) -> list[NDArray[np.int64]]:
    """Per image `metrics.class_counts`, (N, 3), of masks that take the class of the nearest concept vector."""
    features, counts = _pooled(images)
    present = np.flatnonzero(counts.sum(axis=0))
    concepts = (counts.T @ features)[present] / counts.sum(axis=0)[present, None]  # N x C
    return _split(images, present[np.argmax(features @ _unit(concepts).T, axis=1)])


def traditional(images: Sequence[MaskCounts], seed: int = 0) -> list[NDArray[np.int64]]:
    """Per image `metrics.class_counts`, (N, 3), of masks that take the class that their cluster is matched with.

    ValueError if there are fewer masks than classes.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import MiniBatchKMeans

    features, counts = _pooled(images)
    # 0 is a class of its own only where the data set has pixels of none of the labels.
    classes = np.arange(counts.shape[1])[0 if counts[:, 0].any() else 1 :]
    if len(features) < len(classes):
        raise ValueError(
            f"there are {len(features)} masks in {len(images)} images, expected at least one for each of the "
            f"{len(classes)} classes: give protocol traditional more images"
        )
    kmeans = MiniBatchKMeans(len(classes), batch_size=_MINI_BATCH, n_init=_RESTARTS, random_state=seed)
    clusters = kmeans.fit_predict(features, sample_weight=counts.sum(axis=1).astype(float))
    shared = np.zeros((len(classes), len(classes)), np.int64)  # px of cluster r that are of class c
    np.add.at(shared, clusters, counts[:, classes])
    _, matched = linear_sum_assignment(shared, maximize=True)
    return _split(images, classes[matched[clusters]])


PROTOCOLS: dict[str, Callable[[Sequence[MaskCounts], int], list[NDArray[np.int64]]]] = {
    "modified": modified,
    "traditional": traditional,
}


def _pooled(images: Sequence[MaskCounts]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(features (M, C), of length 1, counts (M, N)) of the masks of all images."""
    features = np.concatenate([image.features for image in images]).astype(np.float64)
    return _unit(features), np.concatenate([image.counts for image in images])


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _split(images: Sequence[MaskCounts], classes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Per image the counts of masks whose `classes` (M,) are those of the masks of all images, one after the other."""
    ends = np.cumsum([len(image.features) for image in images])
    return [_counts(image.counts, own) for image, own in zip(images, np.split(classes, ends[:-1]), strict=True)]


def _counts(counts: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 3) as `metrics.class_counts`, of one image's masks (K, N) with their classes (K,)."""
    right, found = np.zeros((2, counts.shape[1]), np.int64)
    np.add.at(right, classes, counts[np.arange(len(classes)), classes])
    np.add.at(found, classes, counts.sum(axis=1))
    return np.stack([right, counts.sum(axis=0), found], axis=1)
