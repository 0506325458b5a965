"""Images of any common kind → (H, W, 3) uint8 RGB, as a viewer shows them: turned by EXIF, in sRGB, on white, 8 bits.

Of what a file says beside its pixels, orientation and colour profile count; whatever is wrong with the rest never keeps
an image from being read.
"""

from __future__ import annotations

import io
import warnings
from functools import cache
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from ground.depth import to_8_bits
from ground.metadata import upright, without_metadata
from ground.srgb import in_srgb

MAX_MEGAPIXELS = 180.0  # about Pillow's own guard against decompression bombs
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
# Bytes that a PNG's texts and colour profile may take: as much as the largest image; Pillow's own limit is 1 MB.
_MAX_TEXT = int(3e6 * MAX_MEGAPIXELS)
_DECODED_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
_WHITE = (255, 255, 255, 255)

ImageLike = Image.Image | NDArray[np.uint8]  # what users may give: see `as_rgb`


def read_image(path: str | Path, bits: int | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an image file: turned by EXIF, in sRGB, first frame, transparency on white.

    Samples of 16 bits are scaled to 8. Where they hold fewer, `bits` says how many (see `ground.depth`). HEIC is read
    where the package pillow-heif is installed. Raises FileNotFoundError on a missing file, and ValueError with path and
    reason on one that is no image, that is truncated, or that has more pixels than `limit_pixels` lets pass.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file {path}")
    return _read(path, str(path), bits)


def decode_image(data: bytes, bits: int | None = None) -> NDArray[np.uint8]:
    """The same of what an image file holds. ValueError as for `read_image`, with "image" in place of the path.

    It may come from anybody: only _DECODED_FORMATS are read, for which Pillow starts no other program (as for EPS).
    """
    return _read(data, "image", bits)


def _read(source: Path | bytes, name: str, bits: int | None) -> NDArray[np.uint8]:
    """The image of a file, or of its bytes; `name` stands for it in errors."""
    reads_heif()
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT
    try:
        with warnings.catch_warnings():
            # Large images and odd metadata are fine as long as they decode.
            warnings.simplefilter("ignore")
            with _decoded(source) as image:
                return _to_rgb(upright(to_8_bits(image, source, bits)))
    except UnidentifiedImageError:
        install = "; HEIC needs the extra: pip install 'emerseg[heic]'"
        hint = install if name.lower().endswith(HEIF_SUFFIXES) and not reads_heif() else ""
        raise ValueError(f"{name}: not an image, or of a kind that Pillow cannot read{hint}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: too large: {error} limit_pixels (--max-megapixels) allows more") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name}: cannot be decoded: {reason}") from error


def limit_pixels(megapixels: float = MAX_MEGAPIXELS) -> None:
    """Let files of up to so many million pixels be read: Pillow's guard, a setting of the whole process.

    ValueError unless it is a finite number above 0.
    """
    if not (isfinite(megapixels) and megapixels > 0):
        raise ValueError(f"max_megapixels is {megapixels!r}, expected a finite number above 0")
    # Pillow warns above this number, and refuses above its double.
    Image.MAX_IMAGE_PIXELS = int(megapixels * 1e6 / 2)


@cache
def reads_heif() -> bool:
    """Whether HEIC files can be read: from then on Pillow does, if pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def as_rgb(image: ImageLike) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a PIL image of any mode or of such an array; ValueError on anything else.

    A PIL image is taken as it is oriented: EXIF belongs to files (`read_image`). Its colour profile counts.
    """
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"image is a PIL image of {image.width}x{image.height} px, expected at least 1x1")
        return _to_rgb(to_8_bits(_loaded(image)))
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image is {type(image).__name__}, expected a PIL.Image or an (H, W, 3) uint8 array")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image is an array {image.shape} {image.dtype}, expected (H, W, 3) uint8 with H and W from 1")
    return image


def _decoded(source: Path | bytes) -> Image.Image:
    """The image of a file, or of its bytes, with its pixels; without metadata if that keeps it from being read."""
    try:
        return _loaded(Image.open(source) if isinstance(source, Path) else _opened(source))
    except Image.DecompressionBombError:
        raise
    except Exception:  # decoders of damaged files raise almost anything: OSError, SyntaxError, IndexError, …
        data = without_metadata(source.read_bytes() if isinstance(source, Path) else source)
        if data is None:
            raise
        return _loaded(_opened(data))


def _opened(data: bytes) -> Image.Image:
    """An image of one of _DECODED_FORMATS, its pixels not yet decoded."""
    Image.init()
    return Image.open(io.BytesIO(data), formats=[name for name in _DECODED_FORMATS if name in Image.OPEN])


def _loaded(image: Image.Image) -> Image.Image:
    """`image` with its pixels.

    Pillow maps a file that has a name into memory, by the wrong size if it is an uncompressed TIFF on its side.
    """
    if isinstance(image, ImageFile.ImageFile):
        name, image.filename = image.filename, ""
        try:
            image.load()
        finally:
            image.filename = name
    return image


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """8 bits of any mode → (H, W, 3) uint8."""
    base = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK", "LAB": "LAB"}.get(image.mode, "RGB")
    mode = base + "A" if image.has_transparency_data else base
    colored = in_srgb(image if image.mode == mode else image.convert(mode), image.info.get("icc_profile"))
    if colored.mode == "RGBA":
        colored = Image.alpha_composite(Image.new("RGBA", colored.size, _WHITE), colored).convert("RGB")
    return np.array(colored)
