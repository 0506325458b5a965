"""The picture that people look at: image + label map → the image with coloured regions, outlines and a legend inside it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fusion.palette import RGB

OPACITY = 0.45  # of the colours over the picture
_PANEL = (20, 22, 26, 205)  # RGBA behind the legend
_TEXT = (255, 255, 255, 255)
_MIN_FONT = 9  # px; smaller is not legible
_MAX_HEIGHT, _MAX_WIDTH = 0.6, 0.5  # share of the picture that the legend may cover


def draw_overlay(
    image: NDArray[np.uint8], label_map: NDArray[np.int32], names: Sequence[str], colors: Sequence[RGB]
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: `image` with the regions of `label_map` (H, W) tinted and outlined, and a legend.

    0 of the label map is left as it is; i is drawn in `colors[i - 1]` and called `names[i - 1]` in the legend, which lists the
    labels that are present, the largest first. ValueError if the sizes differ.
    """
    painted = draw_regions(image, label_map, colors)
    areas = np.bincount(label_map.ravel(), minlength=len(names) + 1)[1:]
    present = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
    return draw_legend(painted, [names[index] for index in present], [colors[index] for index in present])


def draw_regions(
    image: NDArray[np.uint8], label_map: NDArray[np.int32], colors: Sequence[RGB]
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: `image` with tinted and outlined regions, without a legend."""
    if image.shape[:2] != label_map.shape:
        raise ValueError(f"image is {image.shape[:2]} and the label map {label_map.shape}: expected one size, (H, W)")
    solid = np.array([(0, 0, 0), *colors], np.uint8)[label_map]  # H x W x 3
    labelled = label_map > 0
    painted = np.where(labelled[..., None], cv2.addWeighted(solid, OPACITY, image, 1 - OPACITY, 0), image)
    width = max(1, round(min(label_map.shape) / 350))  # px of an outline on each side of a border
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    ids = label_map.astype(np.float32)  # exact up to 2 ** 24 labels
    border = cv2.dilate(ids, kernel) != cv2.erode(ids, kernel)
    painted[border & labelled] = solid[border & labelled]
    return painted


def draw_legend(image: NDArray[np.uint8], names: Sequence[str], colors: Sequence[RGB]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: `image` with a panel in its lower left corner, one line per name: as many as there is room for.

    Lines that do not fit are counted in a last line; long names end in "…". A picture too small for one line of legible text
    gets no legend.
    """
    height, width = image.shape[:2]
    font_size = max(_MIN_FONT, round(min(height, width) * 0.034))
    font = ImageFont.load_default(font_size)
    line = round(font_size * 1.45)
    room = int((height * _MAX_HEIGHT - font_size) // line)
    text_width = int(width * _MAX_WIDTH) - 3 * font_size
    if not names or room < 1 or text_width < 2 * font_size:
        return image
    hidden = len(names) - room if len(names) > room else 0
    shown = [_shortened(name, font, text_width) for name in names[: len(names) - hidden - bool(hidden)]]
    lines = [*shown, *([f"+ {hidden + 1} more"] if hidden else [])]

    layer = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(layer)
    pad = round(font_size * 0.6)
    panel_hw = len(lines) * line + pad, max(round(draw.textlength(text, font=font)) for text in lines) + 2 * font_size + pad
    left, top = pad, height - pad - panel_hw[0]
    draw.rounded_rectangle((left, top, left + panel_hw[1], top + panel_hw[0]), radius=pad, fill=_PANEL)
    for row, text in enumerate(lines):
        y = top + pad // 2 + row * line + line // 2
        if row < len(shown):
            box = (left + pad, y - font_size // 2, left + pad + font_size, y + font_size // 2)
            draw.rounded_rectangle(box, radius=font_size // 5, fill=colors[row])
        draw.text((left + pad + round(1.5 * font_size), y), text, font=font, fill=_TEXT, anchor="lm")
    return np.array(Image.alpha_composite(Image.fromarray(image).convert("RGBA"), layer).convert("RGB"))


def _shortened(name: str, font: ImageFont.FreeTypeFont, max_width: int) -> str:
    """`name` on one line, cut to `max_width` px."""
    text = " ".join(name.split())
    if font.getlength(text) <= max_width:
        return text
    while text and font.getlength(text + "…") > max_width:
        text = text[:-1]
    return text + "…"
