"""What every file is written from: an image split into labelled regions, with the evidence for each mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovseg.labels import Label


@dataclass(frozen=True)
class Segment:
    """What became of one mask, or of the part of it that took one label, with the mask's evidence for that label.

    To `schema.DIGITS` decimals.
    """

    mask_id: int  # id in the mask map
    label: Label | None  # None: "other", by abstention or because a background label won
    score: float  # 0..1, mean softmax score of the label that won inside the mask
    share: float  # 0..1, that label's share of the mask's pixels in the coarse map
    runner_up: Label | None  # the label with the most pixels among the others; None if there is no other
    # share minus the runner-up's share; below 0 where `embedding` overrules the pixels, or `auto` divides the mask
    margin: float
    area: int  # px of the whole mask


@dataclass(frozen=True, eq=False)
class Partition:
    """An image (H, W) in which every pixel has one label, or is "other"."""

    label_map: NDArray[np.int32]  # (H, W): 0 = other, i = labels[i - 1]
    labels: tuple[Label, ...]  # the labels asked for, in that order, without background labels
    segments: tuple[Segment, ...]  # by mask_id; one per mask that has a pixel, or per label of a divided one
    score_map: NDArray[np.float32]  # (H, W) in 0..1: score of the pixel's label; 0 for other
    mask_map: NDArray[np.int32]  # (H, W): the mask_id each pixel came from
    absent: tuple[Label, ...] = ()  # labels that did not compete, see `ovseg.absence`
    edited_map: NDArray[np.bool_] | None = None  # (H, W): pixels to which a person gave their label; None: nowhere

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image, px."""
        height, width = self.label_map.shape
        return height, width
