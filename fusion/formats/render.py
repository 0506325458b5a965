"""What people look at: image + partition → the image with coloured regions, outlines and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fusion.formats.fonts import draw_text, text_length
from fusion.formats.palette import RGB, label_colors
from fusion.formats.partition import Partition
from ground.images import as_rgb
from ground.label_maps import pixel_counts
from ground.strips import strips

OPACITY = 0.45  # of the colours over the image
_PANEL = (20, 22, 26, 205)  # RGBA behind the legend
_TEXT = (255, 255, 255, 255)
_MIN_FONT = 10  # px; smaller is not legible
_MAX_HEIGHT, _MAX_WIDTH = 0.6, 0.5  # share of the image that the legend may cover


def overlay(image: Image.Image | NDArray[np.uint8], partition: Partition) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: `image` with the regions of `partition` tinted and outlined, and a legend of their labels.

    ValueError if `image` is no image, or not of the partition's size.
    """
    names = [label.name for label in partition.labels]
    return draw_overlay(as_rgb(image), partition.label_map, names, label_colors(partition.labels))


def draw_overlay(
    image: NDArray[np.uint8], label_map: NDArray[np.int32], names: Sequence[str], colors: Sequence[RGB]
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: `image` with the regions of `label_map` (H, W) tinted and outlined, and a legend.

    0 of the label map is left as it is; i is drawn in `colors[i - 1]` and called `names[i - 1]` in the
    legend, which lists the labels that are present, the largest first. ValueError if the sizes differ.
    """
    painted = draw_regions(image, label_map, colors)
    areas = pixel_counts(label_map, len(names) + 1)[1:]
    present = [int(index) for index in np.argsort(-areas, kind="stable") if areas[index]]
    entries = [(names[index], colors[index]) for index in present]
    return draw_legend(painted, entries, busy=_borders(label_map, 1))


def draw_regions(image: NDArray[np.uint8], label_map: NDArray[np.int32], colors: Sequence[RGB]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: `image` with tinted and outlined regions, without a legend. Same arguments and errors."""
    if image.shape[:2] != label_map.shape:
        raise ValueError(f"image is {image.shape[:2]} and the label map {label_map.shape}: expected one size, (H, W)")
    palette = np.array([(0, 0, 0), *colors], np.uint8)
    outline = _borders(label_map, max(1, round(min(label_map.shape) / 350)))
    painted = np.empty_like(image)
    for rows in strips(label_map.shape):
        solid, labelled = palette[label_map[rows]], label_map[rows] > 0  # h x W x 3, h x W
        tinted = cv2.addWeighted(solid, OPACITY, image[rows], 1 - OPACITY, 0)
        painted[rows] = np.where(labelled[..., None], tinted, image[rows])
        drawn = outline[rows] & labelled
        painted[rows][drawn] = solid[drawn]
    return painted


def draw_legend(
    image: NDArray[np.uint8], entries: Sequence[tuple[str, RGB]], busy: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: `image` with a panel of (name, colour) lines, in the corner that is least `busy` (H, W).

    There are as many lines as there is room for; the others are counted in a last line, and long names end in
    "…". An image that is too small for a line of legible text gets no legend.
    """
    height, width = image.shape[:2]
    size = max(_MIN_FONT, round(min(height, width) * 0.034))  # px of the font; the rest is in proportion
    line, pad = round(size * 1.45), round(size * 0.6)
    room, text_width = int(height * _MAX_HEIGHT - pad) // line, int(width * _MAX_WIDTH) - 3 * size
    if not entries or room < 1 or text_width < 2 * size:
        return image
    shown = entries if len(entries) <= room else entries[: room - 1]
    rows: list[tuple[str, RGB | None]] = [(_shortened(name, size, text_width), color) for name, color in shown]
    if len(shown) < len(entries):
        rows.append((f"+ {len(entries) - len(shown)} more", None))

    panel_width = round(max(text_length(text, size) for text, _ in rows)) + round(1.5 * size) + 2 * pad
    panel = Image.new("RGBA", (panel_width, len(rows) * line + pad))
    draw = ImageDraw.Draw(panel)
    draw.rounded_rectangle((0, 0, panel.width - 1, panel.height - 1), radius=pad, fill=_PANEL)
    for row, (text, color) in enumerate(rows):
        top = pad // 2 + row * line + (line - size) // 2
        if color is not None:
            draw.rounded_rectangle((pad, top, pad + size, top + size), radius=size // 5, fill=color)
        draw_text(draw, (pad + round(1.5 * size), top + size / 2), text, size, _TEXT)
    corners = [(left, top) for top in (height - pad - panel.height, pad) for left in (pad, width - pad - panel.width)]
    left, top = min(corners, key=lambda c: busy[c[1] : c[1] + panel.height, c[0] : c[0] + panel.width].sum())
    place = slice(top, top + panel.height), slice(left, left + panel.width)
    canvas = Image.fromarray(np.ascontiguousarray(image[place]))
    canvas.paste(panel, (0, 0), panel)
    drawn = image.copy()
    drawn[place] = np.asarray(canvas)
    return drawn


def _borders(label_map: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """(H, W) bool: pixels at most `width` px away from one of another label."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    found = np.empty(label_map.shape, bool)
    for rows in strips(label_map.shape):
        top = max(0, rows.start - width)
        ids = label_map[top : rows.stop + width].astype(np.float32)  # what OpenCV takes; exact up to 2 ** 24 labels
        inner = slice(rows.start - top, rows.stop - top)
        found[rows] = cv2.dilate(ids, kernel)[inner] != cv2.erode(ids, kernel)[inner]
    return found


def _shortened(name: str, size: int, max_width: int) -> str:
    """`name` on one line, cut to `max_width` px in fonts of `size` px."""
    text = " ".join(name.split())
    if text_length(text, size) <= max_width:
        return text
    while text and text_length(text + "…", size) > max_width:
        text = text[:-1]
    return text + "…"
