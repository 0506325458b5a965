"""Tiles joined: the masks of overlapping tiles → the masks of their image, in which what a seam cut is one mask again.

Ours, not the paper's. Each tile is segmented as an image of its own. Two masks of neighbours are one where, in the band
that both tiles see about their seam, they have nearly the same pixels, and the features of both are alike. Who is one
with whom depends on pairs alone, so that the order of tiles does not matter. Besides the map of the image, no more than
the bands of tiles whose neighbours are still to come are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from emerdiff.affinity import Affinity, TiledAffinity, WindowAffinity
from emerdiff.masks import Masks
from ground.label_maps import contingency
from ground.strips import renumber
from ground.tiles import Seam, Tile, Tiling

# Two masks are one if their intersection is more than this share of their union in the band. From 0.5 on a mask has no
# more than one partner there.
MIN_IOU = 0.5
# And if the cosine of their features, centred on the mean of both tiles' masks, is at least this.
MIN_COSINE = 0.3


@dataclass
class _Tiles:
    """What is known of the tiles so far."""

    grids: dict[int, NDArray[np.int32]] = field(default_factory=dict)  # low_res of each
    features: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    areas: dict[int, NDArray[np.int64]] = field(default_factory=dict)  # (K,) px that each mask has where the tile owns
    firsts: dict[int, int] = field(default_factory=dict)  # number of a tile's first mask in the map
    affinities: dict[int, Affinity | None] = field(default_factory=dict)
    # (first, second tile of a seam) → the ids of that of them which was there, in the band
    bands: dict[tuple[int, int], NDArray[np.int32]] = field(default_factory=dict)
    pairs: list[tuple[int, int]] = field(default_factory=list)  # masks that are one, by their numbers in the map


def join_tiles(parts: Iterable[tuple[Tile, Masks]], tiling: Tiling, size_hw: tuple[int, int]) -> Masks:
    """The masks of an image of `size_hw` px, from those of all its tiles, in any order.

    Masks are numbered by the first tile that has a part of them, then by their number there; features are means over
    their parts by area; `low_res` has the density of the tiles' own. One tile alone comes back as it is.
    """
    tiles = tiling.tiles(size_hw)
    if len(tiles) == 1:
        ((_, masks),) = parts
        return masks
    seams: dict[int, list[Seam]] = {tile.index: [] for tile in tiles}
    for seam in tiling.seams(tiles):
        seams[seam.first.index].append(seam)
        seams[seam.second.index].append(seam)
    label_map = np.empty(size_hw, np.int32)
    known = _Tiles()
    count = 0
    for tile, masks in parts:
        own = masks.label_map[tile.within(tile.own_rows, tile.own_columns)]
        label_map[tile.owned] = own + count
        known.grids[tile.index], known.features[tile.index] = masks.low_res, masks.features
        known.areas[tile.index] = np.bincount(own.ravel(), minlength=masks.num_masks)
        known.firsts[tile.index] = count
        # Those of attention would fill a GPU.
        known.affinities[tile.index] = masks.affinity if isinstance(masks.affinity, WindowAffinity) else None
        count += masks.num_masks
        for seam in seams[tile.index]:
            _meet(known, seam, tile, masks.label_map)
    groups = _numbered(known, tiles, count)
    return Masks(
        label_map=renumber(label_map, groups),
        low_res=_grid(known, tiles, size_hw, groups),
        features=_features(known, tiles, groups),
        affinity=TiledAffinity(tuple(known.affinities[tile.index] for tile in tiles)),
    )


def _meet(known: _Tiles, seam: Seam, tile: Tile, label_map: NDArray[np.int32]) -> None:
    """Keep the band of a seam as `tile` sees it or, if its neighbour was there before, compare both."""
    key = seam.first.index, seam.second.index
    band = label_map[tile.within(seam.rows, seam.columns)]
    earlier = known.bands.pop(key, None)
    if earlier is None:
        known.bands[key] = band.copy()
        return
    bands = (band, earlier) if tile == seam.first else (earlier, band)
    for one, another in same_masks(*bands, *(known.features[index] for index in key)):
        known.pairs.append((known.firsts[key[0]] + one, known.firsts[key[1]] + another))


def same_masks(
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    first_features: NDArray[np.float32],
    second_features: NDArray[np.float32],
) -> Iterator[tuple[int, int]]:
    """Which masks are one: pairs of ids, from what two tiles see, (h, w) each, and features (K, C) and (K', C)."""
    if not first.size:
        return
    shared = contingency(first, second, (len(first_features), len(second_features)))  # K x K'
    union = shared.sum(axis=1)[:, None] + shared.sum(axis=0)[None, :] - shared
    cosines = _cosines(first_features, second_features)
    for one, another in zip(*np.nonzero((shared > MIN_IOU * union) & (cosines >= MIN_COSINE)), strict=True):
        yield int(one), int(another)


def _cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, K') float32 cosines of features (K, C) and (K', C), less the mean of all, which they have in common.

    1 where nothing is left of one of them.
    """
    middle = np.concatenate([first, second]).mean(axis=0)
    units = []
    for features in (first - middle, second - middle):
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        units.append(features / np.where(lengths > 0, lengths, 1))
    nothing = ~units[0].any(axis=1)[:, None] | ~units[1].any(axis=1)[None, :]
    return np.where(nothing, np.float32(1), units[0] @ units[1].T)


def _numbered(known: _Tiles, tiles: tuple[Tile, ...], count: int) -> NDArray[np.int32]:
    """(count,) the final number of each mask of a tile, by its number in the map."""
    rows, columns = np.array(known.pairs, np.intp).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    _, groups = connected_components(graph, directed=False)
    order = np.concatenate([known.firsts[tile.index] + np.arange(len(known.features[tile.index])) for tile in tiles])
    _, first_places, inverse = np.unique(groups[order], return_index=True, return_inverse=True)
    ranks = np.empty(len(first_places), np.int32)
    ranks[np.argsort(first_places)] = np.arange(len(first_places))
    numbers = np.empty(count, np.int32)
    numbers[order] = ranks[inverse]
    return numbers


def _features(known: _Tiles, tiles: tuple[Tile, ...], groups: NDArray[np.int32]) -> NDArray[np.float32]:
    """(K, C) float32 means over the parts of each mask, by area; of those without a pixel that anybody owns: plain."""
    features = np.concatenate([known.features[tile.index] for tile in tiles])
    areas = np.concatenate([known.areas[tile.index] for tile in tiles]).astype(np.float64)
    members = np.concatenate([groups[known.firsts[tile.index] :][: len(known.features[tile.index])] for tile in tiles])
    totals = np.bincount(members, weights=areas)
    weights = np.where(totals[members] > 0, areas, 1)
    sums = np.zeros((len(totals), features.shape[1]))
    np.add.at(sums, members, features * weights[:, None])
    return (sums / np.bincount(members, weights=weights)[:, None]).astype(np.float32)


def _grid(
    known: _Tiles, tiles: tuple[Tile, ...], size_hw: tuple[int, int], groups: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(h, w) int32: at each position of a grid over the image the mask of the tile that owns its middle."""
    first = tiles[0]
    sides = (first.rows[1] - first.rows[0], first.columns[1] - first.columns[0])
    grid_hw = [
        max(1, round(length * positions / side))
        for length, positions, side in zip(size_hw, known.grids[first.index].shape, sides, strict=True)
    ]
    middles = [
        ((np.arange(count) + 0.5) * length / count).astype(np.intp)
        for count, length in zip(grid_hw, size_hw, strict=True)
    ]  # px
    low_res = np.zeros(grid_hw, np.int32)
    for tile in tiles:
        own = known.grids[tile.index]
        spans = zip(middles, (tile.own_rows, tile.own_columns), (tile.rows, tile.columns), own.shape, strict=True)
        chosen, places = [], []
        for middle, (begin, end), (start, stop), positions in spans:
            inside = np.flatnonzero((begin <= middle) & (middle < end))
            chosen.append(inside)
            places.append((middle[inside] - start) * positions // (stop - start))
        low_res[np.ix_(*chosen)] = groups[known.firsts[tile.index] + own[np.ix_(*places)]]
    return low_res
