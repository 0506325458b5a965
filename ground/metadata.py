"""What a file says beside its pixels: the orientation, read by itself, and a way past all that Pillow stumbles over.

Cameras and editors write tags that Pillow refuses, or cannot write again; viewers show such images all the same.
"""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress

from PIL import ExifTags, Image

# EXIF orientation → what makes the image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SHORT = 3  # the type of that tag
# What of a file's parts counts for its pixels, their orientation and their colours.
_JPEG_PARTS = re.compile(rb"\xe1Exif\0\0|\xe2ICC_PROFILE\0..|\xeeAdobe", re.DOTALL)
_PNG_PARTS = re.compile(rb"[A-Z]{4}|tRNS|eXIf|iCCP[^\0]*\0\0")
_TIFF_TAGS = {*range(254, 267), 273, 274, *range(277, 282), 284, 292, 293, 317, *range(320, 326), 338, 339, 347}
_TIFF_TAGS |= {*range(512, 522), *range(529, 533), 34675}


def upright(image: Image.Image) -> Image.Image:
    """`image`, which is loaded, turned as its EXIF says, or its XMP where EXIF says nothing."""
    if image.format == "TIFF":  # which Pillow turns when it is loaded
        return image
    exif = image.info.get("exif")
    if exif is None and (lines := image.info.get("Raw profile type exif")):
        with suppress(ValueError):
            exif = bytes.fromhex("".join(lines.split("\n")[3:]))
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp if isinstance(xmp, bytes) else xmp.encode())
    orientation = _exif_orientation(exif or b"") or (int(match[1]) if match else 1)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _exif_orientation(exif: bytes) -> int | None:
    """The orientation that EXIF gives, or None."""
    data = re.sub(rb"^(Exif\0\0)+", b"", exif)
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    with suppress(struct.error):
        (first,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", data, entry)
            if tag == ExifTags.Base.Orientation and kind == _SHORT:
                return int(value)
    return None


def without_metadata(data: bytes) -> bytes | None:
    """A JPEG, PNG, TIFF or AVIF without what its pixels, orientation and colours do not need; None if it is none."""
    strip = {b"\xff\xd8": _jpeg, b"\x89P": _png, b"II": _tiff, b"MM": _tiff}.get(data[:2], _avif)
    try:
        return strip(data)
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> bytes:
    """Without application segments and comments, but for _JPEG_PARTS."""
    parts, start = [data[:2]], 2
    while (marker := data[start + 1]) != 0xDA:  # the scan
        end = start + 2 + struct.unpack_from(">H", data, start + 2)[0]
        is_said = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not is_said or _JPEG_PARTS.match(data[start + 1 : start + 2] + data[start + 4 : end]):
            parts.append(data[start:end])
        start = end
    return b"".join([*parts, data[start:]])


def _png(data: bytes) -> bytes:
    """Without all chunks but _PNG_PARTS, and of these without those that are damaged and can be missed."""
    parts, start = [data[:8]], 8
    while start < len(data):
        end = start + 12 + struct.unpack_from(">I", data, start)[0]
        chunk, checksum = data[start + 4 : end - 4], data[end - 4 : end]
        is_whole = struct.pack(">I", zlib.crc32(chunk)) == checksum
        if _PNG_PARTS.match(chunk) and (is_whole or chunk[:4].isupper()):
            parts.append(data[start:end])
        start = end
    return b"".join(parts)


def _tiff(data: bytes) -> bytes:
    """With a new first directory at its end, of _TIFF_TAGS alone."""
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, first)
    entries = [data[at : at + 12] for at in range(first + 2, first + 2 + 12 * count, 12)]
    kept = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] in _TIFF_TAGS]
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + bytes(4)
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + directory


def _avif(data: bytes) -> bytes | None:
    """Without the entry of its EXIF in the list of its items; the orientation of an AVIF stands elsewhere."""
    rest = re.sub(rb"(infe\x02.{7})Exif", rb"\1skip", data, flags=re.DOTALL)
    return None if rest == data else rest
