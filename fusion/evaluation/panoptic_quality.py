"""Panoptic quality: true and predicted regions of an image → what matches, per label → PQ, SQ and RQ.

Kirillov, He, Girshick, Rother, Dollár: Panoptic Segmentation (CVPR 2019), with void and crowds as panopticapi counts
them. Only the labels are averaged here; images are added up before, so that a bootstrap adds them up with weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.metrics import UNKNOWN
from ground.label_maps import contingency


def panoptic_counts(
    truth_regions: NDArray[np.int32],
    region_labels: NDArray[np.int32],
    crowds: frozenset[int],
    predicted_regions: NDArray[np.int32],
    predicted_labels: NDArray[np.int32],
    num_labels: int,
) -> NDArray[np.float64]:
    """(L, 4) float64 for the labels 1 … L of one image: sum of the IoU of matches, TP, FP, FN.

    `truth_regions` (H, W) int32 has ids from 0 with the labels `region_labels` (R,), 0 = none of the labels; those
    pixels and UNKNOWN ones are void. `crowds` are the ids of regions that hold several objects. `predicted_regions`
    (H, W) int32 has ids from 0 with the labels `predicted_labels` (P,), and -1 where nothing is. Ids without a pixel
    count nowhere.

    Two regions of one label match if their IoU, with the prediction's void pixels left out of the union, is over
    one half. A crowd matches nothing and is never missed. A prediction without a match is no false positive if more
    than half of it is void or in crowds of its label (panopticapi: in the last one of them). Raises ValueError on maps
    of different shapes, and on ids or labels out of range.
    """
    if truth_regions.shape != predicted_regions.shape:
        raise ValueError(f"predicted regions are {predicted_regions.shape}, expected {truth_regions.shape} as the true")
    true_labels = np.append(region_labels, 0)  # the last one stands for UNKNOWN
    found_labels = np.asarray(predicted_labels)
    for name, regions, labels in (
        ("true", truth_regions, true_labels[:-1]),
        ("predicted", predicted_regions, found_labels),
    ):
        _check(f"{name} regions", regions, -1, len(labels) - 1)
        _check(f"labels of {name} regions", labels, 0, num_labels)
    truth = np.where(truth_regions == UNKNOWN, len(region_labels), truth_regions)
    overlaps = contingency(predicted_regions + 1, truth, (len(found_labels) + 1, len(true_labels)))
    true_areas = overlaps.sum(axis=0)
    overlaps = overlaps[1:]  # P x (R + 1)
    areas = overlaps.sum(axis=1)
    void = overlaps[:, true_labels == 0].sum(axis=1)
    is_crowd = np.isin(np.arange(len(true_labels)), list(crowds))
    alike = (found_labels[:, None] == true_labels) & (true_labels > 0)
    unions = areas[:, None] + true_areas - overlaps - void[:, None]
    matches = alike & ~is_crowd & (2 * overlaps > unions)
    pardoned = void + (overlaps * (alike & is_crowd)).sum(axis=1)
    wrong = (areas > 0) & ~matches.any(axis=1) & (2 * pardoned <= areas)
    missed = (true_areas > 0) & ~matches.any(axis=0) & ~is_crowd
    found, true = np.nonzero(matches)
    per_label = [
        np.bincount(found_labels[found], overlaps[found, true] / unions[found, true], num_labels + 1),
        np.bincount(found_labels[found], minlength=num_labels + 1),
        np.bincount(found_labels[wrong], minlength=num_labels + 1),
        np.bincount(true_labels[missed], minlength=num_labels + 1),
    ]
    return np.stack(per_label, axis=1)[1:].astype(np.float64)


def panoptic_quality(
    counts: NDArray[np.float64], labels: NDArray[np.bool_] | None = None
) -> dict[str, NDArray[np.float64]]:
    """{"pq", "sq", "rq"}, 0..1, each (...): means over the labels that occur.

    `counts` (..., L, 4) are sums of `panoptic_counts`. A label occurs if it was found, rightly or wrongly, or missed.
    `labels` (L,) says which take part, things alone for instance. NaN where none of them occurs. PQ is
    IoU / (TP + FP / 2 + FN / 2), SQ the mean IoU of matches, 0 without any, and RQ = TP / (TP + FP / 2 + FN / 2).
    """
    chosen = counts if labels is None else counts[..., labels, :]
    iou, hits, wrong, missed = np.moveaxis(chosen, -1, 0)
    occurs = hits + wrong + missed > 0
    halves = hits + (wrong + missed) / 2
    values = {"pq": _ratio(iou, halves, 0.0), "sq": _ratio(iou, hits, 0.0), "rq": _ratio(hits, halves, 0.0)}
    return {name: _ratio(value.sum(axis=-1), occurs.sum(axis=-1), np.nan) for name, value in values.items()}


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], otherwise: float) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole > 0)


def _check(what: str, values: NDArray[np.int32], low: int, high: int) -> None:
    if values.size and not low <= values.min() <= values.max() <= high:
        raise ValueError(f"{what} have values {values.min()} … {values.max()}, expected {low} … {high}")
