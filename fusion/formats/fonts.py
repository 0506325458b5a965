"""Text on images: every sign in a font that has it, Pillow's own or one of the system's.

Pillow's font has Latin letters. A label in another script is drawn in the first font of the usual folders that has it;
what no font has is drawn as boxes, and a note says so.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Beginnings of the names of fonts without serifs that have many scripts, in the order they are tried; then any others.
_FAMILIES = (
    "notosanscjk",
    "notosans",
    "dejavusans",
    "hiragino",
    "pingfang",
    "yugoth",
    "msyh",
    "malgun",
    "arial",
    "wqy",
)
_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "mono", "serif")
# These have every sign, but draw its script or nothing at all.
_STAND_INS = ("lastresort", "adobeblank")
_MAX_FILES = 400  # that are looked into for a sign
_PROBE = 16  # px of the font in which a sign is looked for
_NO_SIGN = "\U0010ffff"
_NONE = "no font"

log = logging.getLogger(__name__)


def text_length(text: str, size: int) -> float:
    """px that `text` takes in fonts of `size` px."""
    return sum(font.getlength(part) for part, font in _parts(text, size))


def draw_text(draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, size: int, fill: tuple[int, ...]) -> None:
    """Draw `text` in fonts of `size` px, from its left middle `xy` on."""
    left, middle = xy
    for part, font in _parts(text, size):
        draw.text((left, middle), part, font=font, fill=fill, anchor="lm")
        left += font.getlength(part)


@lru_cache(1000)
def _parts(text: str, size: int) -> tuple[tuple[str, Font], ...]:
    """`text`, if one font has all its signs, or pieces of it, each with a font that has its signs."""
    # Marks and joiners belong to the sign before them.
    signs = {sign for sign in text if unicodedata.category(sign)[0] not in "MCZ"}
    whole = _file_with("".join(sorted(signs)))
    if whole is not _NONE:
        return ((text, _font(whole, size)),)
    parts: list[tuple[str, str | None]] = []
    for sign in text:
        path = _file_with(sign) if sign in signs or not parts else parts[-1][1]
        if parts and path in (parts[-1][1], _NONE):
            parts[-1] = (parts[-1][0] + sign, parts[-1][1])
        else:
            parts.append((sign, path))
    _note_missing("".join(sorted(sign for sign in signs if _file_with(sign) is _NONE)))
    return tuple((part, _font(None if path is _NONE else path, size)) for part, path in parts)


@cache
def _note_missing(signs: str) -> None:
    if signs:
        log.warning("no font on this machine has %s, which is drawn as boxes: install one, such as Noto", signs)


@cache
def _file_with(signs: str) -> str | None:
    """The first font file that has all `signs`, None for Pillow's own, or _NONE."""
    fonts = (None, *_files()) if signs else (None,)
    return next((path for path in fonts if all(_has(path, sign) for sign in signs)), _NONE)


@cache
def _has(path: str | None, sign: str) -> bool:
    """Whether a font draws `sign`, and not what it draws for signs that it does not have."""
    try:
        font = _open(path, _PROBE)
        drawn, none = font.getmask(sign), font.getmask(_NO_SIGN)
    except (OSError, ValueError):  # no font, one of fixed other sizes, or Pillow's without FreeType
        return False
    return drawn.size != none.size or bytes(drawn) != bytes(none)


def _open(path: str | None, size: int) -> Font:
    """A font of `size` px: that of a file, or Pillow's own."""
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)


_font = cache(_open)


@cache
def _files() -> tuple[str, ...]:
    """The fonts of the usual folders, those first that are meant for plain text."""
    found = {
        os.path.join(folder, name)
        for top in _folders()
        for folder, _, names in os.walk(top)
        for name in names
        if name.lower().endswith((".ttf", ".otf", ".ttc")) and not name.lower().startswith(_STAND_INS)
    }
    return tuple(sorted(found, key=_rank)[:_MAX_FILES])


def _rank(path: str) -> tuple[int, int, str]:
    name = "".join(letter for letter in Path(path).stem.lower() if letter.isalnum())
    family = next((place for place, family in enumerate(_FAMILIES) if name.startswith(family)), len(_FAMILIES))
    return sum(style in name for style in _STYLES), family, path


def _folders() -> Iterable[str]:
    """Where systems keep fonts, and matplotlib its own."""
    yield from map(os.path.expanduser, ("~/.fonts", "~/.local/share/fonts", "~/Library/Fonts"))
    yield from ("/usr/local/share/fonts", "/usr/share/fonts", "/Library/Fonts", "/System/Library/Fonts")
    yield os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")
    if "LOCALAPPDATA" in os.environ:
        yield os.path.join(os.environ["LOCALAPPDATA"], "Microsoft", "Windows", "Fonts")
    if (matplotlib := find_spec("matplotlib")) and matplotlib.origin:
        yield os.path.join(os.path.dirname(matplotlib.origin), "mpl-data", "fonts", "ttf")
