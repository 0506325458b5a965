"""What tools are given: the regions of an image, the same as the annotations of instances.json, with their masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.formats import coco
from fusion.formats.partition import Partition
from fusion.formats.schema import Evidence
from ovseg.labels import Label


@dataclass(frozen=True, eq=False)
class LabelledRegion:
    """A connected piece of a thing, or all that is one label of stuff."""

    label: Label
    category_id: int  # the label's place among the labels asked for, from 1
    box_xywh: tuple[int, int, int, int]  # px, the smallest around the mask
    mask: NDArray[np.bool_]  # (h, w), within the box
    area: int  # px
    evidence: Evidence  # score, share, margin, runner-up


def labelled_regions(partition: Partition) -> list[LabelledRegion]:
    """The regions of `fusion.formats.coco.regions`, in that order."""
    regions, region_map = coco.regions(partition)
    found = []
    for number, region in enumerate(regions, start=1):
        left, top, width, height = region.bbox
        found.append(
            LabelledRegion(
                label=partition.labels[region.category_id - 1],
                category_id=region.category_id,
                box_xywh=(left, top, width, height),
                mask=region_map[top : top + height, left : left + width] == number,
                area=region.area,
                evidence=region.evidence,
            )
        )
    return found
