"""How good a label map is: prediction and truth → confusion matrix, IoU, pixel accuracy, boundary F, upper bound.

Pixels of which the truth is UNKNOWN count nowhere.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ground.label_maps import contingency

UNKNOWN = -1  # in a true map: nobody said what is there


def confusion_matrix(truth: NDArray[np.int32], predicted: NDArray[np.int32], num_classes: int) -> NDArray[np.int64]:
    """(N, N) int64: how many pixels of true class r were predicted as c. Maps (H, W) with values 0 … N-1.

    The truth may be UNKNOWN.
    """
    known = truth != UNKNOWN
    return contingency(truth[known], predicted[known], (num_classes, num_classes))


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean intersection over union, 0..1, of the classes that have a true pixel; NaN if there is none.

    A class that is only predicted has no term of its own: its pixels count against the classes that they were
    taken from.
    """
    hits = np.diagonal(confusion)
    unions = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    present = confusion.sum(axis=1) > 0
    return float(np.mean(hits[present] / unions[present])) if present.any() else float("nan")


def pixel_accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of the pixels that are right, 0..1; NaN if there are none."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else float("nan")


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
