"""Tiles: a large image as squares that overlap; each owns the pixels that are nearer to it than to its neighbours.

Seams run through the middle of what two tiles share. About a seam lies a band of the overlap's width, which both see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

MIN_SIDE = 16  # px

Span = tuple[int, int]  # px, the first and the one after the last


@dataclass(frozen=True)
class Tiling:
    """How images are cut. Raises ValueError on sizes that make no tiles."""

    side: int  # px of the image, of a square tile
    overlap: int = 0  # px that tiles have in common with a neighbour, at least

    def __post_init__(self) -> None:
        for name, low, high in (("side", MIN_SIDE, None), ("overlap", 0, self.side)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                what = "tile" if name == "side" else name
                raise ValueError(f"{what} is {value!r}, expected a whole number of px from {low}")
            if high is not None and 2 * value > high:
                raise ValueError(f"overlap is {value}, expected at most {high // 2} px, half of tile, which is {high}")

    def tiles(self, size_hw: tuple[int, int]) -> tuple[Tile, ...]:
        """The tiles of an image of `size_hw` px, row by row; all are of one size."""
        down, across = (_spans(length, self.side, self.overlap) for length in size_hw)
        return tuple(
            Tile(row * len(across) + column, row, column, rows, columns, own_rows, own_columns)
            for row, (rows, own_rows) in enumerate(down)
            for column, (columns, own_columns) in enumerate(across)
        )

    def seams(self, tiles: tuple[Tile, ...]) -> Iterator[Seam]:
        """Where neighbours meet: at sides, not at corners."""
        places = {(tile.row, tile.column): tile for tile in tiles}
        for tile in tiles:
            right, below = places.get((tile.row, tile.column + 1)), places.get((tile.row + 1, tile.column))
            if right is not None:
                yield Seam(tile, right, tile.own_rows, self._band(tile.own_columns[1]))
            if below is not None:
                yield Seam(tile, below, self._band(tile.own_rows[1]), tile.own_columns)

    def _band(self, cut: int) -> Span:
        start = cut - self.overlap // 2
        return start, start + self.overlap


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, in px of it."""

    index: int  # row by row
    row: int
    column: int
    rows: Span
    columns: Span
    own_rows: Span  # what it owns: each pixel of the image has one owner
    own_columns: Span

    @property
    def window(self) -> tuple[slice, slice]:
        """All of it, in the image."""
        return slice(*self.rows), slice(*self.columns)

    @property
    def owned(self) -> tuple[slice, slice]:
        """What it owns, in the image."""
        return slice(*self.own_rows), slice(*self.own_columns)

    def within(self, rows: Span, columns: Span) -> tuple[slice, slice]:
        """A rectangle of the image, which lies in the tile, in px of the tile."""
        return (
            slice(rows[0] - self.rows[0], rows[1] - self.rows[0]),
            slice(columns[0] - self.columns[0], columns[1] - self.columns[0]),
        )


@dataclass(frozen=True)
class Seam:
    """Two neighbours, and the band of the image about the seam between them: both see all of it."""

    first: Tile
    second: Tile
    rows: Span
    columns: Span


def _spans(length: int, side: int, overlap: int) -> list[tuple[Span, Span]]:
    """Along one side of an image: from where to where each tile goes, and what of that it owns."""
    if length <= side:
        return [((0, length), (0, length))]
    count = -(-(length - overlap) // (side - overlap))
    starts = [index * (length - side) // (count - 1) for index in range(count)]
    cuts = [0, *((before + side + after) // 2 for before, after in pairwise(starts)), length]
    return [((start, start + side), (cuts[index], cuts[index + 1])) for index, start in enumerate(starts)]
