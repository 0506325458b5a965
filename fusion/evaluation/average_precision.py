"""Mask AP, COCO's: the instances of one image matched with the true ones → AP over all images, by pycocotools.

`COCOeval` does both steps, but not at once: what it found in an image is kept as a few arrays, which can be saved, and
added up at the end, or again and again with other weights for a bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import find_objects

from fusion.formats.coco import encode_region

_ANY_AREA = (0, 10**10)  # px, COCO's "all"
_MAX_DETECTIONS = 100  # of one label in one image, the highest scores


@dataclass(frozen=True, eq=False)
class Instances:
    """What was found in an image (H, W); masks may overlap."""

    masks: tuple[dict[str, Any], ...]  # P pycocotools RLEs of H x W
    labels: NDArray[np.int32]  # (P,): label index from 1
    scores: NDArray[np.float64]  # (P,)


@dataclass(frozen=True, eq=False)
class ImageMatches:
    """Which of the D instances of an image match a true one at the T = 10 thresholds of IoU, 0.50 … 0.95."""

    labels: NDArray[np.int32]  # (D,)
    scores: NDArray[np.float64]  # (D,), falling within a label
    matched: NDArray[np.bool_]  # (T, D)
    ignored: NDArray[np.bool_]  # (T, D): neither right nor wrong, in a crowd
    truth_labels: NDArray[np.int32]  # (G,): of the true instances, crowds left out

    def __post_init__(self) -> None:
        count, shape = len(self.labels), self.matched.shape
        if self.scores.shape != (count,) or self.ignored.shape != shape or shape[1:] != (count,):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in self.to_arrays().items())
            raise ValueError(f"matches of an image are {shapes}, expected one length D throughout and T x D")

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Its fields by name, as `np.savez` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> ImageMatches:
        """What `to_arrays` gave; other entries are left alone. ValueError on a missing one or shapes that disagree."""
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"matches of an image lack {', '.join(missing)}, expected {', '.join(names)}")
        return cls(**{name: arrays[name] for name in names})


def match_image(
    truth_regions: NDArray[np.int32],
    region_labels: NDArray[np.int32],
    crowds: frozenset[int],
    found: Instances,
    labels: Sequence[int],
) -> ImageMatches:
    """The instances of one image that match true regions, by `COCOeval.evaluate`; of `labels` alone, those of things.

    `truth_regions` (H, W) int32: ids from 0, negative where no region is; `region_labels` (R,): label index of each;
    `crowds`: ids of regions that hold several objects. COCO knows no void: an instance where nobody said what is there
    counts as wrong.
    """
    height, width = truth_regions.shape
    boxes = enumerate(find_objects(truth_regions + 1))
    truth = [
        _annotation(encode_region(truth_regions, region, box), region_labels[region], iscrowd=int(region in crowds))
        for region, box in boxes
        if box is not None and region_labels[region] in labels
    ]
    predicted = [
        _annotation(mask, label, score=float(score))
        for mask, label, score in zip(found.masks, found.labels, found.scores, strict=True)
        if label in labels
    ]
    evaluation = _evaluation(labels, _MAX_DETECTIONS)
    with redirect_stdout(StringIO()):
        evaluation.cocoGt, evaluation.cocoDt = (_document(made, (height, width)) for made in (truth, predicted))
        evaluation.evaluate()
    of_labels = [made for made in evaluation.evalImgs if made is not None]
    nothing = np.zeros((len(evaluation.params.iouThrs), 0), bool)
    return ImageMatches(
        labels=np.repeat(
            [made["category_id"] for made in of_labels], [len(made["dtIds"]) for made in of_labels]
        ).astype(np.int32),
        scores=np.array([score for made in of_labels for score in made["dtScores"]], np.float64),
        matched=np.concatenate([nothing, *(made["dtMatches"] > 0 for made in of_labels)], axis=1),
        ignored=np.concatenate([nothing, *(made["dtIgnore"] for made in of_labels)], axis=1),
        truth_labels=np.array([one["category_id"] for one in truth if not one["iscrowd"]], np.int32),
    )


def average_precision(
    matches: Sequence[ImageMatches], labels: Sequence[int], weights: NDArray[np.int64] | None = None
) -> dict[str, float]:
    """{"ap", "ap50", "ap75"}, 0..1, of all images by `COCOeval.accumulate`: means over those of `labels` that occur.

    "ap" is the mean over the thresholds of IoU 0.50, 0.55 … 0.95. Each image counts `weights` (n,) times, once without
    them. NaN if there is no true instance, crowds aside. ValueError on weights of another length.
    """
    if weights is not None and len(weights) != len(matches):
        raise ValueError(f"there are {len(weights)} weights, expected one for each of {len(matches)} images")
    times = [1] * len(matches) if weights is None else weights.tolist()
    drawn = [image for image, count in zip(matches, times, strict=True) for _ in range(count)]
    occurring = sorted(set(labels) & {label for image in drawn for label in image.truth_labels.tolist()})
    if not occurring:
        return dict.fromkeys(("ap", "ap50", "ap75"), float("nan"))
    # All images as one, in which every instance that was matched counts.
    parts = zip(*((image.labels, image.scores, image.matched, image.ignored) for image in drawn), strict=True)
    found_labels, scores, matched, ignored = (np.concatenate(part, axis=-1) for part in parts)
    truth_labels = np.concatenate([image.truth_labels for image in drawn])
    evaluation = _evaluation(occurring, max(1, len(scores)))
    evaluation._paramsEval = evaluation.params
    evaluation.evalImgs = [
        {
            "dtScores": scores[found_labels == label],
            "dtMatches": matched[:, found_labels == label],
            "dtIgnore": ignored[:, found_labels == label],
            "gtIgnore": np.zeros(np.count_nonzero(truth_labels == label)),
        }
        for label in occurring
    ]
    with redirect_stdout(StringIO()):
        evaluation.accumulate()
    # T x recall x label, each of which has a true instance.
    precision = evaluation.eval["precision"][..., 0, 0]
    of_threshold = {f"ap{round(100 * iou)}": p for iou, p in zip(evaluation.params.iouThrs, precision, strict=True)}
    chosen = {"ap": precision, "ap50": of_threshold["ap50"], "ap75": of_threshold["ap75"]}
    return {name: float(values.mean()) for name, values in chosen.items()}


def _evaluation(labels: Sequence[int], max_detections: int) -> COCOeval:
    """COCO's measure of masks of any area, in one image."""
    evaluation = COCOeval(iouType="segm")
    evaluation.params.imgIds, evaluation.params.catIds = [1], list(labels)
    evaluation.params.areaRng, evaluation.params.maxDets = [list(_ANY_AREA)], [max_detections]
    return evaluation


def _annotation(mask: dict[str, Any], label: int, **more: Any) -> dict[str, Any]:
    area = int(rle_codec.area(mask))
    return {"image_id": 1, "category_id": int(label), "segmentation": mask, "area": area, "iscrowd": 0, **more}


def _document(annotations: Sequence[dict[str, Any]], size_hw: tuple[int, int]) -> COCO:
    """The annotations of one image, numbered from 1: to COCOeval 0 means unmatched."""
    document = COCO()
    document.dataset = {
        "images": [{"id": 1, "height": size_hw[0], "width": size_hw[1]}],
        "annotations": [{"id": number, **one} for number, one in enumerate(annotations, start=1)],
        "categories": [],
    }
    document.createIndex()
    return document
