"""Colours of the labels: as many distinct ones as asked for, always the same, or those that the user chose."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ovseg.labels import Label

RGB = tuple[int, int, int]  # 0..255

# Successive hues are far apart, however many follow.
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
# (lightness, chroma), one after the other, each for so many hues, which are at least 32 degrees apart.
_TONES = ((0.72, 0.17), (0.55, 0.19), (0.86, 0.11), (0.42, 0.12))
_HUES_PER_TONE = 8
# Radians; a warm red-orange.
_FIRST_HUE = 0.45


def palette(count: int) -> tuple[RGB, ...]:
    """The first `count` colours. A longer palette begins with the shorter one, so a label keeps its colour."""
    return tuple(_color(index) for index in range(count))


def label_colors(labels: Sequence[Label]) -> tuple[RGB, ...]:
    """The colour of each label: its own, or that of its place in the palette."""
    pairs = zip(labels, palette(len(labels)), strict=True)
    return tuple(default if label.color is None else label.color for label, default in pairs)


def _color(index: int) -> RGB:
    lightness, chroma = _TONES[index // _HUES_PER_TONE % len(_TONES)]
    return _oklch_to_rgb(lightness, chroma, _FIRST_HUE + index * _GOLDEN_ANGLE)


def _oklch_to_rgb(lightness: float, chroma: float, hue: float) -> RGB:
    """sRGB of an OKLCH colour, clipped to the gamut (B. Ottosson, "A perceptual color space for image processing")."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _gamma(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _gamma(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _gamma(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _gamma(linear: float) -> int:
    value = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * min(max(value, 0.0), 1.0))
