"""The result of the fusion step: one label per pixel, the evidence per mask, and the way to COCO and to a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.formats.coco import annotate, categories, document, image_entry, with_ids
from fusion.formats.palette import label_colors
from fusion.formats.panoptic import panoptic_entry, panoptic_png
from fusion.formats.render import draw_overlay
from ground.images import as_rgb
from ovseg.labels import Label, as_labels

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Segment:
    """What became of one mask, and on what evidence."""

    mask_id: int  # id in the mask map
    label: str | None  # None: "other", by abstention or because a background word won
    score: float  # 0..1, mean softmax score of the winning label inside the mask
    share: float  # 0..1, the winning label's share of the mask's pixels in the coarse map
    runner_up: str | None  # the label with the most pixels among the others; None if there is no other
    margin: float  # share minus the runner-up's share; below 0 only where `embedding` overrules the pixels
    area: int  # px of the mask


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A partition of the picture (H, W) into labelled regions."""

    label_map: NDArray[np.int32]  # (H, W): 0 = other, i = labels[i - 1]
    labels: tuple[str, ...]  # the names asked for, exactly as given, in that order
    segments: tuple[Segment, ...]  # one per mask that has a pixel, by mask_id
    score_map: NDArray[np.float32]  # (H, W) in 0..1: score of the pixel's label; 0 for other
    mask_map: NDArray[np.int32]  # (H, W): the mask_id each pixel came from

    def to_coco(
        self,
        image_id: int = 1,
        file_name: str = "",
        first_annotation_id: int = 1,
        labels: Sequence[str | Label] | None = None,
    ) -> dict[str, Any]:
        """COCO instances of this one picture: info, licenses, images, annotations, categories.

        `labels` (the ones asked for, as `Label`) say which are stuff and which colour they have; ids start at
        `first_annotation_id`. See `fusion.formats.coco.annotate` for the fields. ValueError if `labels` are not
        `self.labels`.
        """
        full = as_labels(self.labels if labels is None else labels)
        height, width = self.label_map.shape
        annotations, _ = annotate(self, full)
        found = with_ids(annotations, image_id, first_annotation_id)
        return document([image_entry(image_id, file_name, (height, width))], found, categories(full))

    def to_panoptic(
        self,
        image_id: int = 1,
        file_name: str = "",
        first_annotation_id: int = 1,
        labels: Sequence[str | Label] | None = None,
    ) -> tuple[dict[str, Any], bytes]:
        """(COCO panoptic annotation of this picture, PNG bytes of its ids: R + 256 G + 65536 B, 0 = void).

        The ids are those of `to_coco` with the same arguments; `file_name` is that of the PNG. ValueError as there.
        """
        annotations, id_map = annotate(self, as_labels(self.labels if labels is None else labels))
        entry = panoptic_entry(image_id, file_name, with_ids(annotations, image_id, first_annotation_id))
        return entry, panoptic_png(id_map, first_annotation_id)

    def overlay(
        self, image: Image.Image | NDArray[np.uint8], labels: Sequence[str | Label] | None = None
    ) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the picture with coloured regions, outlines and a legend of the labels that are present.

        `labels` as for `to_coco` (for their colours). ValueError if `image` is not of this segmentation's
        size.
        """
        full = as_labels(self.labels if labels is None else labels)
        return draw_overlay(as_rgb(image), self.label_map, self.labels, label_colors(full))
