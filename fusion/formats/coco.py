"""COCO instances: a partition of an image → annotations with exact RLE, area and box; the document around them.

One annotation per connected component of a thing (8-connectivity: corners touch), one per label of stuff.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec
from scipy.ndimage import find_objects

from fusion.formats.palette import label_colors
from fusion.formats.partition import Partition, Segment
from fusion.formats.schema import DIGITS, Annotation, Category, Evidence, ImageEntry, Region, Result
from ground.label_maps import connected_components, shared_pixels
from ground.strips import renumber, strips
from ground.versions import own_version
from ovseg.labels import Label


def instances(
    partition: Partition, image_id: int = 1, file_name: str = "", first_annotation_id: int = 1
) -> dict[str, Any]:
    """COCO instances of one image: info, licenses, images, annotations, categories.

    See `regions` for the annotations; their ids start at `first_annotation_id`.
    """
    found, _ = regions(partition)
    height, width = partition.size_hw
    image = ImageEntry(id=image_id, file_name=file_name, height=height, width=width)
    return {
        "info": info(),
        "licenses": [],
        "images": [image.to_json()],
        "annotations": [one.to_json() for one in with_ids(found, image_id, first_annotation_id)],
        "categories": [one.to_json() for one in categories(partition.labels)],
    }


def regions(partition: Partition) -> tuple[list[Region], NDArray[np.int32]]:
    """(the regions that become annotations, their map (H, W) int32: 0 = other, i = regions[i - 1]).

    By category, then in reading order. Masks of another label whose crumbs were absorbed are no evidence for a region.
    """
    region_map, category_ids = label_regions(partition.label_map, partition.labels)
    scores = _score_sums(region_map, partition.score_map, len(category_ids) + 1)
    pairs, counts = shared_pixels(region_map, partition.mask_map)
    firsts = np.searchsorted(pairs[:, 0], np.arange(len(category_ids) + 2))  # of each region among the pairs
    segments: dict[tuple[int, Label | None], list[Segment]] = {}
    for segment in partition.segments:
        segments.setdefault((segment.mask_id, segment.label), []).append(segment)
    edited = set() if partition.edited_map is None else set(np.unique(region_map[partition.edited_map]).tolist())
    found: list[Region] = []
    for region, (category_id, box) in enumerate(zip(category_ids.tolist(), find_objects(region_map), strict=True), 1):
        rle = encode_region(region_map, region, box)
        area = int(rle_codec.area(rle))
        label = partition.labels[category_id - 1]
        own = slice(firsts[region], firsts[region + 1])
        overlaps = dict(zip(pairs[own, 1].tolist(), counts[own].tolist(), strict=True))
        found.append(
            Region(
                category_id=category_id,
                segmentation={"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                area=area,
                bbox=[int(value) for value in rle_codec.toBbox(rle)],
                iscrowd=0,
                evidence=_evidence(
                    [segment for mask in overlaps for segment in segments.get((mask, label), ())],
                    overlaps,
                    float(scores[region] / area),
                    edited=region in edited,
                ),
            )
        )
    return found, region_map


def label_regions(label_map: NDArray[np.int32], labels: Sequence[Label]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(regions (H, W) int32: 0 = other, i = the i-th; their category ids (R,) int32), in the order of `regions`.

    A region is a component of a thing, or all that has one label of stuff. `label_map` (H, W): i = labels[i - 1].
    """
    components, category_ids = connected_components(label_map)
    merged = np.arange(len(category_ids))
    for index, label in enumerate(labels, start=1):
        if label.stuff:
            parts = np.flatnonzero(category_ids == index)
            merged[parts] = parts[:1]
    order = np.argsort(category_ids, kind="stable")
    kept = order[(category_ids[order] > 0) & (merged[order] == order)]
    numbers = np.zeros(len(category_ids), np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return renumber(components, numbers[merged]), category_ids[kept]


def with_ids(found: Iterable[Region], image_id: int, first_id: int) -> list[Annotation]:
    """The regions of an image as annotations, numbered from `first_id`."""
    return [
        # Copies what is checked already: an image may have thousands.
        Annotation.model_construct(id=first_id + index, image_id=image_id, **dict(region))
        for index, region in enumerate(found)
    ]


def result(annotation: Annotation) -> Result:
    """The entry of a COCO results list that an annotation with RLE is, with its score."""
    return Result.model_construct(
        image_id=annotation.image_id,
        category_id=annotation.category_id,
        segmentation=annotation.segmentation,
        area=annotation.area,
        bbox=annotation.bbox,
        score=annotation.evidence.score,
    )


def encode_region(region_map: NDArray[np.int32], region: int, box: tuple[slice, slice]) -> dict[str, Any]:
    """pycocotools RLE of the pixels of `region_map` (H, W) that are `region`; all lie in `box` (rows, columns).

    The same as `encode(np.asfortranarray(region_map == region))`, without a pass over the whole image for every region.
    """
    height, width = region_map.shape
    changes = np.concatenate(list(_changes(region_map, region, box)))
    starts, ends = changes[::2], changes[1::2]
    # A run that ends at the bottom of a column may go on at the top of the next.
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.r_[True, apart]], ends[np.r_[apart, True]]
    edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    # Lengths of runs from the first pixel on: outside, inside, outside, …
    counts = np.trim_zeros(np.diff(edges), "b").tolist()
    return rle_codec.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _changes(region_map: NDArray[np.int32], region: int, box: tuple[slice, slice]) -> Iterator[NDArray[np.int64]]:
    """Where runs of the region's pixels start and end, by turns, in the column-major image: a few columns at a time."""
    rows, columns = box
    for some in strips((columns.stop - columns.start, rows.stop - rows.start)):
        part = region_map[rows, columns][:, some] == region
        # Column by column, w x (h + 2), with an empty pixel at both ends of each column.
        inside = np.pad(part, ((1, 1), (0, 0))).T.astype(np.int8)
        column, row = np.nonzero(np.diff(inside, axis=1))
        yield (columns.start + some.start + column) * region_map.shape[0] + rows.start + row


def _score_sums(region_map: NDArray[np.int32], score_map: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """(count,) the sum of the scores in each region, 0 as well."""
    sums = np.zeros(count)
    for rows in strips(region_map.shape):
        sums += np.bincount(region_map[rows].ravel(), weights=score_map[rows].ravel(), minlength=count)
    return sums


def full_mask(region: Region) -> NDArray[np.bool_]:
    """A region's pixels (H, W) in the image. Its segmentation must be RLE, as it is in `ImageRecord`."""
    return np.asarray(rle_codec.decode(region.segmentation)) > 0


def region_mask(region: Region) -> NDArray[np.bool_]:
    """The same within its box (h, w)."""
    left, top, width, height = region.bbox
    return full_mask(region)[top : top + height, left : left + width]


def categories(labels: Sequence[Label]) -> list[Category]:
    """One per label asked for, found or not: id = place in the list + 1, name exactly as given."""
    return [
        Category(
            id=index,
            name=label.name,
            supercategory="stuff" if label.stuff else "thing",
            isthing=0 if label.stuff else 1,
            color=list(color),
        )
        for index, (label, color) in enumerate(zip(labels, label_colors(labels), strict=True), start=1)
    ]


def info() -> dict[str, Any]:
    """What made the file. No date: the same run gives the same bytes."""
    return {
        "description": "Open-vocabulary segmentation: EmerDiff masks, labelled by dense CLIP",
        "version": own_version(),
    }


def _evidence(masks: Sequence[Segment], overlaps: Mapping[int, int], score: float, *, edited: bool) -> Evidence:
    """Of a region made of `masks`, with the pixels that it shares with each mask_id: means weighted by these."""
    weights = np.array([overlaps[mask.mask_id] for mask in masks])
    runner_up = masks[int(weights.argmax())].runner_up
    return Evidence(
        score=round(score, DIGITS),
        share=round(float(np.average([mask.share for mask in masks], weights=weights)), DIGITS),
        margin=round(float(np.average([mask.margin for mask in masks], weights=weights)), DIGITS),
        runner_up=None if runner_up is None else runner_up.name,
        mask_ids=[mask.mask_id for mask in masks],
        edited=edited,
    )
