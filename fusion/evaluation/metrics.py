"""How good a label map is: prediction and truth → counts per class, IoU, pixel accuracy, boundary F, upper bound.

Pixels of which the truth is UNKNOWN count nowhere.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ground.label_maps import contingency

UNKNOWN = -1  # in a true map: nobody said what is there


def class_counts(truth: NDArray[np.int32], predicted: NDArray[np.int32], num_classes: int) -> NDArray[np.int64]:
    """(N, 3) int64: of every class the px that are found rightly, that are true, and that are found.

    Maps (H, W) with values 0 … N-1; the truth may be UNKNOWN. Counts of several images add up to those of all pixels,
    and the figures below need no more than that; they take (…, N, 3), as many counts at once as one likes.
    """
    known = truth != UNKNOWN
    truth, predicted = truth[known], predicted[known]
    maps = (truth[truth == predicted], truth, predicted)
    return np.stack([np.bincount(of_map, minlength=num_classes) for of_map in maps], axis=1)


def class_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(…, N) intersection over union of every class, 0..1; NaN for a class without a true pixel.

    A class that is only predicted has no figure of its own: its pixels count against the classes that they were
    taken from.
    """
    right, true, found = np.moveaxis(counts, -1, 0)
    unions = np.where(true > 0, true + found - right, 1)
    return np.where(true > 0, right / unions, np.nan)


def mean_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(…) mean of `class_iou` over the classes that have a true pixel; NaN if there is none."""
    there = counts[..., 1] > 0
    return _ratio(np.where(there, class_iou(counts), 0).sum(axis=-1), there.sum(axis=-1))


def frequency_weighted_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(…) sum of `class_iou` by their shares of the true pixels (Long et al., CVPR 2015); NaN if there are none."""
    true = counts[..., 1]
    return _ratio((np.where(true > 0, class_iou(counts), 0) * true).sum(axis=-1), true.sum(axis=-1))


def pixel_accuracy(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(…) share of the pixels that are right, 0..1; NaN if there are none."""
    return _ratio(counts[..., 0].sum(axis=-1), counts[..., 1].sum(axis=-1))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def majority_regions(mask_map: NDArray[np.int32], regions: NDArray[np.int32]) -> NDArray[np.int32]:
    """(H, W) int32: every mask as the true region that has most of its pixels; ties go to the lower id.

    Both maps are (H, W) of the same frame, ids from 0; regions may be UNKNOWN.
    """
    shape = int(mask_map.max()) + 1, max(int(regions.max()), 0) + 1
    known = regions != UNKNOWN
    return contingency(mask_map[known], regions[known], shape).argmax(axis=1).astype(np.int32)[mask_map]


def boundaries(label_map: NDArray[np.int32], known: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """(H, W) bool: pixels whose right or lower neighbour has another label, so that a border is one pixel wide.

    With `known` (H, W), only where both pixels are known.
    """
    known = np.ones(label_map.shape, bool) if known is None else known
    edge = np.zeros(label_map.shape, bool)
    edge[:, :-1] |= (label_map[:, :-1] != label_map[:, 1:]) & known[:, :-1] & known[:, 1:]
    edge[:-1] |= (label_map[:-1] != label_map[1:]) & known[:-1] & known[1:]
    return edge


def boundary_f(truth: NDArray[np.int32], predicted: NDArray[np.int32], tolerance: float) -> float:
    """F-score, 0..1, of the predicted borders against the true ones (H, W), `tolerance` px apart at most.

    Precision is the share of predicted border pixels near a true one, recall that of true ones near a
    predicted one (as in the boundary measure of DAVIS, Perazzi et al., CVPR 2016, without matching one to
    one). 1 if neither map has a border. Borders of what is UNKNOWN in the truth, and inside it, count for neither.
    """
    known = truth != UNKNOWN
    true_edge, predicted_edge = boundaries(truth, known), boundaries(predicted, known)
    if not true_edge.any() or not predicted_edge.any():
        return float(true_edge.any() == predicted_edge.any())
    precision = float(np.mean(_distances(true_edge)[predicted_edge] <= tolerance))
    recall = float(np.mean(_distances(predicted_edge)[true_edge] <= tolerance))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _distances(edge: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(H, W) float32: exact Euclidean distance in px to the nearest edge pixel."""
    distances = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distances.astype(np.float32, copy=False)
