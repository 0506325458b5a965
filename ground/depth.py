"""Samples of 16 bits → 8 bits: an image whose file keeps 12 bits in words of 16 comes out in its full brightness."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

BITS = range(9, 17)  # that a sample of 16 bits may hold
# If no sample reaches this, the image is nearly black as 16 bits, and its samples probably hold fewer.
_DARK = 2**12
_BITS_PER_SAMPLE = 258  # the TIFF tag

log = logging.getLogger(__name__)


def to_8_bits(image: Image.Image, source: Path | bytes | None = None, bits: int | None = None) -> Image.Image:
    """`image`, which is loaded, with at most 8 bits a channel. `source` is the file that it was loaded from.

    Grey of 16 bits, and colours of a 16-bit PNG, are scaled by the `bits` that they hold. Where these are not given,
    they are what the file says (a PNG in its chunk sBIT, a TIFF in BitsPerSample), provided that all samples fit, and
    else 16; a note is logged if the image then is nearly black. ValueError on samples that do not fit, and on
    floating-point ones.
    """
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers without a known range, expected 8 or 16 bits a channel")
    stored, held = _file_bits(image, source)
    is_grey = image.mode.split(";")[0] == "I"
    samples = np.asarray(image) if is_grey else None
    if source and image.format == "PNG" and not is_grey and stored == 16 and (bits or held < 16 or _is_dark(image)):
        samples = _colors(source)  # Pillow keeps the upper 8 bits of colours, which here may be empty
    if samples is None:
        return image
    lowest, highest = int(samples.min()), int(samples.max())
    if lowest < 0 or highest >= 2**16:
        raise ValueError(f"grey values {lowest} to {highest} are outside the 16 bits 0 to {2**16 - 1}")
    if bits is not None and highest >= 2**bits:
        raise ValueError(f"a sample is {highest}, more than {bits} bits can hold")
    scale = bits or (held if highest < 2**held else 16)
    if scale == 16 and bits is None and 0 < highest < _DARK:
        where = f"{source}: " if isinstance(source, Path) else ""
        log.warning("%sno 16-bit sample is above %d: if they hold 12 bits, say --bits 12", where, highest)
    return _replaced(image, np.round(samples / ((2**scale - 1) / 255)).astype(np.uint8), samples)


def _replaced(image: Image.Image, pixels: NDArray[np.uint8], samples: NDArray[np.uint16]) -> Image.Image:
    """`pixels` (H, W) or (H, W, 3), made of `samples`, with the transparency and all metadata of `image`."""
    info = dict(image.info)
    transparent = info.pop("transparency", None)
    scaled = Image.fromarray(pixels)
    if image.mode == "RGBA":
        scaled.putalpha(image.getchannel("A"))
    elif transparent is not None:
        # One sample, or one triple of them, stands for transparency.
        is_seen = np.atleast_3d(samples != np.array(transparent)).any(axis=2)
        scaled.putalpha(Image.fromarray(is_seen.astype(np.uint8) * 255))
    scaled.info, scaled.format = info, image.format
    return scaled


def _is_dark(image: Image.Image) -> bool:
    """Whether colours that Pillow cut to 8 bits were all below _DARK."""
    return int(np.asarray(image.convert("RGB")).max()) < _DARK >> 8


def _file_bits(image: Image.Image, source: Path | bytes | None) -> tuple[int, int]:
    """(bits that a sample is stored with, those of them that hold data), as far as the file of an image says it."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = min(image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0], 16)
        return bits, bits
    return _png_bits(source) if source and image.format == "PNG" else (16, 16)


def _png_bits(source: Path | bytes) -> tuple[int, int]:
    """The same for a PNG: what its chunk sBIT says, if it has one."""
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        stored = file.read(33)[24]  # signature and header
        while len(start := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            if kind == b"sBIT" and 1 <= length <= 4:
                colors = file.read(length)[: length - (length in (2, 4))]  # without alpha
                return stored, max(colors) or stored
            if kind in (b"PLTE", b"IDAT"):
                break
            file.seek(length + 4, 1)
    return stored, stored


def _colors(source: Path | bytes) -> NDArray[np.uint16] | None:
    """(H, W, 3) uint16 RGB of a 16-bit PNG, or None if OpenCV cannot read it as such."""
    data = np.frombuffer(source.read_bytes() if isinstance(source, Path) else source, np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3:
        return None
    return np.ascontiguousarray(decoded[..., 2::-1])
