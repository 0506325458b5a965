"""The contact sheet: boxes of one size, in the order of names, with what is largest in words."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks.sheet import COLUMNS, GAP, HEIGHT, WIDTH, boxed, drawn, files_of, largest, sheet
from emerseg import Label


def test_a_sheet_has_a_numbered_tile_for_each_photograph(tmp_path):
    labels = (Label("sky"), Label("dog"))
    label_map = np.zeros((40, 20), np.int32)
    label_map[:30], label_map[30:35] = 1, 2
    assert largest(label_map, labels) == "sky 75%, dog 12%"
    tile = drawn(label_map, labels)
    assert tile.shape == (HEIGHT, WIDTH, 3) and (tile[:, : WIDTH // 4] == 255).all()  # a tall image, in the middle
    pages = sheet([tile] * (COLUMNS + 1))
    assert pages.size == (COLUMNS * (WIDTH + GAP) - GAP, 2 * HEIGHT + GAP)
    assert boxed(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).max() == 0
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in files_of(tmp_path)] == ["a.JPG", "b.png"]
