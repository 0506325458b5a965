"""COCO instances: a segmentation → annotations with exact RLE, area and box; and the document around them.

One annotation per connected component of a thing (8-connectivity: corners touch), one per label of stuff.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec
from scipy.ndimage import find_objects

from fusion.formats.palette import label_colors
from fusion.step.components import connected_components
from fusion.step.overlap import contingency
from ground.versions import own_version
from ovseg.labels import Label

if TYPE_CHECKING:
    from fusion.step.segmentation import Segment, Segmentation

DIGITS = 6  # decimals of the scores in the files


def annotate(segmentation: Segmentation, labels: Sequence[Label]) -> tuple[list[dict[str, Any]], NDArray[np.int32]]:
    """(annotations of the regions of `segmentation`, their map (H, W) int32: 0 = other, i = annotations[i - 1]).

    By category, then in reading order; without `id` and `image_id`. Each has category_id, segmentation (RLE,
    column-major, `counts` as text), area (px of the decoded mask), bbox (xywh, px), iscrowd 0, and the
    evidence: score (mean over its pixels), share and margin (means over its pixels of their masks'),
    runner_up (of its largest mask) and mask_ids. Masks of another label whose crumbs were absorbed do not
    count.

    `labels` must be those of the segmentation, in the same order: ValueError otherwise.
    """
    if tuple(label.name for label in labels) != segmentation.labels:
        raise ValueError(
            f"labels are {', '.join(label.name for label in labels)}, "
            f"expected those of the segmentation: {', '.join(segmentation.labels)}"
        )
    regions, region_labels = _regions(segmentation.label_map, labels)
    scores = np.bincount(regions.ravel(), weights=segmentation.score_map.ravel())  # sums
    num_masks = int(segmentation.mask_map.max()) + 1
    overlaps = contingency(regions, segmentation.mask_map, (len(region_labels), num_masks))
    boxes = find_objects(regions + 1, max_label=len(region_labels))
    found: list[dict[str, Any]] = []
    numbers = np.zeros(len(region_labels), np.int32)
    for region in np.argsort(region_labels, kind="stable").tolist():
        label = int(region_labels[region])
        if label == 0 or boxes[region] is None:
            continue
        numbers[region] = len(found) + 1
        rle = encode_region(regions, region, boxes[region])
        area = int(rle_codec.area(rle))
        masks = [s for s in segmentation.segments if s.label == labels[label - 1].name and overlaps[region, s.mask_id]]
        found.append(
            {
                "category_id": label,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                "area": area,
                "bbox": [int(value) for value in rle_codec.toBbox(rle)],
                "iscrowd": 0,
                "score": round(float(scores[region] / area), DIGITS),
                **_evidence(masks, overlaps[region]),
            }
        )
    return found, numbers[regions]


def with_ids(annotations: Sequence[dict[str, Any]], image_id: int, first_id: int) -> list[dict[str, Any]]:
    """The annotations of an image, numbered from `first_id`."""
    return [{"id": first_id + index, "image_id": image_id, **found} for index, found in enumerate(annotations)]


def encode_region(regions: NDArray[np.int32], region: int, box: tuple[slice, slice]) -> dict[str, Any]:
    """pycocotools RLE of the pixels of `regions` (H, W) that are `region`, all of which lie in `box` (rows, columns).

    The same as `encode(np.asfortranarray(regions == region))`, without a pass over the whole picture for
    every region.
    """
    height, width = regions.shape
    rows, columns = box
    # The box column by column: w x (h + 2)
    inside = np.pad(regions[box] == region, ((1, 1), (0, 0))).T.astype(np.int8)  # an empty px at both ends
    column, row = np.nonzero(np.diff(inside, axis=1))  # where runs of pixels start and end, by turns
    changes = (columns.start + column) * height + rows.start + row  # in the column-major picture
    starts, ends = changes[::2], changes[1::2]
    apart = starts[1:] != ends[:-1]  # a run that ends at the bottom of a column may go on at the top of the next
    starts, ends = starts[np.r_[True, apart]], ends[np.r_[apart, True]]
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    counts = np.trim_zeros(np.diff(edges), "b").tolist()  # from the first pixel: outside, inside, outside, …
    return rle_codec.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def categories(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """One per label asked for, found or not: id = place in the list + 1, name exactly as given."""
    return [
        {
            "id": index,
            "name": label.name,
            "supercategory": "stuff" if label.stuff else "thing",
            "isthing": int(not label.stuff),
            "color": list(color),
        }
        for index, (label, color) in enumerate(zip(labels, label_colors(labels), strict=True), start=1)
    ]


def image_entry(image_id: int, file_name: str, size_hw: tuple[int, int]) -> dict[str, Any]:
    """The entry of a picture of `size_hw` px."""
    return {"id": image_id, "file_name": file_name, "height": size_hw[0], "width": size_hw[1]}


def info() -> dict[str, Any]:
    """What made the file. No date: the same run gives the same bytes."""
    return {
        "description": "Open-vocabulary segmentation: EmerDiff masks, labelled by dense CLIP",
        "version": own_version(),
    }


def document(images: list[dict[str, Any]], found: list[dict[str, Any]], named: list[dict[str, Any]]) -> dict[str, Any]:
    """The COCO file of these images, annotations and categories."""
    return {"info": info(), "licenses": [], "images": images, "annotations": found, "categories": named}


def _regions(label_map: NDArray[np.int32], labels: Sequence[Label]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(regions (H, W) int32, label ids (R,)): components, but all those of one stuff label carry the first one's id."""
    components, component_labels = connected_components(label_map)
    merged = np.arange(len(component_labels), dtype=np.int32)
    for index, label in enumerate(labels, start=1):
        if label.stuff:
            parts = np.flatnonzero(component_labels == index)
            merged[parts] = parts[:1]
    return merged[components], component_labels


def _evidence(masks: Sequence[Segment], overlaps: NDArray[np.int64]) -> dict[str, Any]:
    """Of a region made of `masks`, with the pixels that it shares with each mask_id: means weighted by these."""
    weights = np.array([overlaps[mask.mask_id] for mask in masks])
    largest = masks[int(weights.argmax())]
    return {
        "share": round(float(np.average([mask.share for mask in masks], weights=weights)), DIGITS),
        "margin": round(float(np.average([mask.margin for mask in masks], weights=weights)), DIGITS),
        "runner_up": largest.runner_up,
        "mask_ids": [mask.mask_id for mask in masks],
    }
