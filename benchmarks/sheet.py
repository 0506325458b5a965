"""A contact sheet: what several presets, or runs before and after, say of the same photographs, side by side.

    python -m benchmarks.sheet docs/images/sheet.png PHOTOS --labels "sky, dog" --preset mini --preset mini-research
    python -m benchmarks.sheet sheet.png PHOTOS --labels "sky, tree, dog" --photographs

Label maps alone are drawn, for photographs that may not be shown; with --photographs the images stand before them.
PHOTOS are folders or files; numbers in the corners follow the order of their names, which are printed with the largest
labels of each preset.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from emerseg import Label, Segmenter, parse_labels
from fusion.formats.palette import label_colors
from fusion.formats.render import draw_overlay
from ground.images import read_image

WIDTH, HEIGHT, GAP = 240, 180, 6  # px: the box of a label map, and what is between two photographs
COLUMNS = 4  # photographs in a row
SUFFIXES = (".jpg", ".jpeg", ".png")
LARGEST = 4  # labels of a photograph that are printed
_SHADE = 235  # grey, where there is no label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="a PNG file")
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--preset", action="append", default=[], help="more than once: side by side (default: mini)")
    parser.add_argument("--photographs", action="store_true", help="draw the photographs, too")
    arguments = parser.parse_args()
    labels = parse_labels(arguments.labels)
    paths = [path for given in arguments.photos for path in files_of(given)]
    rows: list[list[NDArray[np.uint8]]] = [[] for _ in paths]
    if arguments.photographs:
        for row, path in zip(rows, paths, strict=True):
            row.append(boxed(read_image(path)))
    for preset in arguments.preset or ["mini"]:
        segmenter = Segmenter.from_preset(preset)
        for number, (row, path) in enumerate(zip(rows, paths, strict=True), start=1):
            label_map = segmenter.segment(read_image(path), labels, seed=0).label_map
            row.append(drawn(label_map, labels))
            print(f"{preset} {number} {path.stem}: {largest(label_map, labels)}", flush=True)
    sheet([np.hstack(row) for row in rows]).quantize(96).save(arguments.output, optimize=True)


def files_of(path: Path) -> list[Path]:
    """The image files of a folder, in the order of their names; a file is itself."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)


def drawn(label_map: NDArray[np.int32], labels: Sequence[Label]) -> NDArray[np.uint8]:
    """(180, 240, 3): a label map (H, W) in its labels' colours, with a legend and no image."""
    size = fitted(label_map.shape)
    small = np.asarray(Image.fromarray(label_map).resize(size, Image.Resampling.NEAREST))
    blank = np.full((*small.shape, 3), _SHADE, np.uint8)
    return boxed(draw_overlay(blank, small, [label.name for label in labels], label_colors(labels)))


def boxed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(180, 240, 3): the image in the middle of a white box."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    small = Image.fromarray(image).resize(fitted(image.shape[:2]))
    page.paste(small, ((WIDTH - small.width) // 2, (HEIGHT - small.height) // 2))
    return np.asarray(page)


def fitted(size_hw: tuple[int, ...]) -> tuple[int, int]:
    """(width, height) px of an image (height, width) that fills a box without leaving it."""
    scale = min(HEIGHT / size_hw[0], WIDTH / size_hw[1])
    return round(size_hw[1] * scale), round(size_hw[0] * scale)


def largest(label_map: NDArray[np.int32], labels: Sequence[Label]) -> str:
    """The labels that take most of a label map, with their shares."""
    shares = np.bincount(label_map.ravel(), minlength=len(labels) + 1)[1:] / label_map.size
    order = [int(index) for index in np.argsort(-shares, kind="stable")[:LARGEST] if shares[index]]
    return ", ".join(f"{labels[index].name} {shares[index]:.0%}" for index in order)


def sheet(tiles: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """The tiles, all of one size, row by row with their numbers."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    pen = ImageDraw.Draw(page)
    for index, tile in enumerate(tiles):
        left, top = (index % COLUMNS) * (width + GAP), (index // COLUMNS) * (height + GAP)
        page.paste(Image.fromarray(tile), (left, top))
        pen.text((left + width - 18, top + height - 14), str(index + 1), fill="black")
    return page


if __name__ == "__main__":
    main()
