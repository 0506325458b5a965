"""Images of any common kind → (H, W, 3) uint8 RGB, as a viewer shows them: rotated by EXIF, on white, 8 bits."""

from __future__ import annotations

import warnings
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_MEGAPIXELS = 180.0  # about Pillow's own guard against decompression bombs
_SIXTEEN_BIT = 65535
_WHITE = (255, 255, 255, 255)

ImageLike = Image.Image | NDArray[np.uint8]  # what users may give: see `as_rgb`


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file: rotated by EXIF, first frame, transparency on white, 16 bits scaled.

    Raises FileNotFoundError on a missing file, and ValueError with path and reason on one that is no image,
    that is truncated, or that has more pixels than `limit_pixels` lets pass.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            # Large images and odd metadata are fine as long as they decode.
            warnings.simplefilter("ignore")
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image, or of a kind that Pillow cannot read") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large: {error} limit_pixels (--max-megapixels) allows more") from None
    except Exception as error:
        # Decoders of damaged files raise almost anything: OSError, SyntaxError, IndexError, …
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: cannot be decoded: {reason}") from error


def limit_pixels(megapixels: float = MAX_MEGAPIXELS) -> None:
    """Let files of up to so many million pixels be read: Pillow's guard, a setting of the whole process.

    ValueError unless it is a finite number above 0.
    """
    if not (isfinite(megapixels) and megapixels > 0):
        raise ValueError(f"max_megapixels is {megapixels!r}, expected a finite number above 0")
    # Pillow warns above this number, and refuses above its double.
    Image.MAX_IMAGE_PIXELS = int(megapixels * 1e6 / 2)


def as_rgb(image: ImageLike) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a PIL image of any mode or of such an array; ValueError on anything else.

    A PIL image is taken as it is oriented: EXIF belongs to files (`read_image`).
    """
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"image is a PIL image of {image.width}x{image.height} px, expected at least 1x1")
        return _to_rgb(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image is {type(image).__name__}, expected a PIL.Image or an (H, W, 3) uint8 array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image is an array {image.shape} {image.dtype}, expected (H, W, 3) uint8 with H and W from 1")
    return image


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Any mode → (H, W, 3) uint8. Pillow scales 16-bit colour by itself, but would clip 16-bit grey."""
    if image.mode.split(";")[0] == "I":
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > _SIXTEEN_BIT:
            raise ValueError(f"grey values {grey.min()} to {grey.max()} are outside the 16 bits 0 to {_SIXTEEN_BIT}")
        scaled = np.round(grey / (_SIXTEEN_BIT / 255)).astype(np.uint8)
        return np.repeat(scaled[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers without a known range, expected 8 or 16 bits a channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB"))
    return np.array(image.convert("RGB"))
