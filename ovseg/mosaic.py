"""The coarse maps of an image's tiles as one: each tile says what is in the pixels that it owns.

A tile keeps its logits on their own grid, and scores are made of them when they are asked for: of the size of the image
there is one map, of one byte a pixel for up to 256 labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ground.tiles import Tile
from ovseg.coarse import CoarseMap, EmbeddingPart, ScoreTile
from ovseg.labels import Label
from ovseg.resolve import Floats, tiles
from ovseg.resolve import Tile as Resolved


@dataclass(frozen=True, eq=False)
class CoarsePart:
    """What is kept of the coarse map of a tile."""

    tile: Tile
    logits: NDArray[np.float32]  # (L, h, w)
    embeddings: NDArray[np.float32]  # (C, h', w')

    def score_tiles(self) -> Iterator[ScoreTile]:
        """The parts of what the tile owns, as `CoarseMap.score_tiles`, in px of the image."""
        size_hw = (self.tile.rows[1] - self.tile.rows[0], self.tile.columns[1] - self.tile.columns[0])
        for resolved in tiles(self.logits.shape[1:], size_hw):
            rows, within_rows = _owned(resolved.rows, self.tile.rows[0], self.tile.own_rows)
            columns, within_columns = _owned(resolved.columns, self.tile.columns[0], self.tile.own_columns)
            if rows.start < rows.stop and columns.start < columns.stop:
                scores = partial(_scores, self.logits, resolved, (within_rows, within_columns))
                yield ScoreTile(rows, columns, scores)


@dataclass(frozen=True, eq=False)
class CoarseMosaic:
    """Where the labels are in a large image (H, W): what `fuse` asks of a `CoarseMap`."""

    labels: tuple[Label, ...]  # as given, background labels last
    label_map: NDArray[Any]  # (H, W) uint8, or uint16 of more than 256 labels: index into labels
    parts: tuple[CoarsePart, ...]  # of the tiles, in their order
    text_embeddings: NDArray[np.float32]  # (L, C) unit
    background: tuple[Label, ...]
    absent: tuple[Label, ...]  # those that were not to compete in any tile

    def score_tiles(self) -> Iterator[ScoreTile]:
        """Rectangles that cover the image, each pixel once."""
        for part in self.parts:
            yield from part.score_tiles()

    def patch_labels(self, among: NDArray[np.intp]) -> NDArray[Any]:
        """The label in the middle of what each tile owns, (rows, columns) of tiles: their patches make no one grid."""
        middles = [(sum(part.tile.own_rows) // 2, sum(part.tile.own_columns) // 2) for part in self.parts]
        found = np.array([self.label_map[middle] for middle in middles])
        return found.reshape(self.parts[-1].tile.row + 1, -1)

    def embedding_parts(self) -> Iterator[EmbeddingPart]:
        """The embeddings of each tile."""
        for part in self.parts:
            tile = part.tile
            yield EmbeddingPart(tile.window, tile.within(tile.own_rows, tile.own_columns), part.embeddings)


def join_coarse(parts: Iterable[tuple[Tile, CoarseMap]], size_hw: tuple[int, int]) -> CoarseMosaic:
    """One map of `size_hw` px from those of all tiles of an image, with the same labels, in any order."""
    label_map: NDArray[Any] | None = None
    kept: dict[int, CoarsePart] = {}
    absent: set[Label] | None = None
    for tile, coarse in parts:
        if label_map is None:
            label_map = np.empty(size_hw, np.uint8 if len(coarse.labels) <= 256 else np.uint16)
        label_map[tile.owned] = coarse.label_map[tile.within(tile.own_rows, tile.own_columns)]
        kept[tile.index] = CoarsePart(tile, coarse.logits, coarse.embeddings)
        absent = set(coarse.absent) if absent is None else absent & set(coarse.absent)
    assert label_map is not None and absent is not None  # there is a tile
    return CoarseMosaic(
        labels=coarse.labels,
        label_map=label_map,
        parts=tuple(kept[index] for index in sorted(kept)),
        text_embeddings=coarse.text_embeddings,
        background=coarse.background,
        absent=tuple(label for label in coarse.labels if label in absent),
    )


def _owned(span: slice, start: int, own: tuple[int, int]) -> tuple[slice, slice]:
    """What of a span of a tile, which begins at `start`, it owns: in px of the image, and of the span."""
    first, last = max(span.start + start, own[0]), min(span.stop + start, own[1])
    return slice(first, last), slice(first - span.start - start, last - span.start - start)


def _scores(
    logits: Floats, resolved: Resolved, within: tuple[slice, slice], labels: NDArray[np.intp]
) -> NDArray[np.float32]:
    planes = resolved.resolve(logits, labels)
    planes -= resolved.log_sum_exp(logits)
    inside = np.ascontiguousarray(planes[:, within[0], within[1]])
    return np.exp(inside, out=inside)
