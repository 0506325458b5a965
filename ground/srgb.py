"""Colours: an image with an ICC profile → the same colours in sRGB, what screens show and models have learned from."""

from __future__ import annotations

import io
import logging

import numpy as np
from PIL import Image, ImageCms

log = logging.getLogger(__name__)


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB or RGBA of an image of mode L, LA, RGB, RGBA, CMYK or LAB.

    Without a profile, and with one that is damaged, of another kind of image, or sRGB itself, colours stay what they
    are. Converted by LittleCMS, with the perceptual intent.
    """
    mode = "RGBA" if image.mode.endswith("A") else "RGB"
    if profile:
        try:
            transform = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), image.mode, mode
            )
            if _changes(transform, image.mode) and (converted := ImageCms.applyTransform(image, transform)):
                return converted
        except Exception as error:  # LittleCMS is missing, or it raises almost anything on what is no profile
            log.info("colour profile ignored: %s", error)
    return image if image.mode == mode else image.convert(mode)


def _changes(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform from `mode` to RGB or RGBA moves any of 216 colours by more than rounding."""
    if mode not in ("RGB", "RGBA"):
        return True
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    cube = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)).convert(mode)
    difference = np.asarray(cube, np.int16) - np.asarray(ImageCms.applyTransform(cube, transform), np.int16)
    return bool(np.abs(difference).max() > 1)
