"""The result of the fusion step: one label per pixel and the evidence per mask, with short ways to files and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.formats import coco, panoptic, render
from fusion.formats.partition import Partition, Segment

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Segment", "Segmentation"]


class Segmentation(Partition):
    """A `Partition` made by `fuse`; its methods stand for the functions of `fusion.formats` that they name."""

    def to_coco(self, image_id: int = 1, file_name: str = "", first_annotation_id: int = 1) -> dict[str, Any]:
        """COCO instances of this image alone: `coco.instances`."""
        return coco.instances(self, image_id, file_name, first_annotation_id)

    def to_panoptic(
        self, image_id: int = 1, file_name: str = "", first_annotation_id: int = 1
    ) -> tuple[dict[str, Any], bytes]:
        """Its COCO panoptic entry, and the bytes of its PNG: `panoptic.entry`."""
        return panoptic.entry(self, image_id, file_name, first_annotation_id)

    def overlay(self, image: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: `image` with its regions drawn, and a legend: `render.overlay`."""
        return render.overlay(image, self)
