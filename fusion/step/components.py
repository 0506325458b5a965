"""Masks and label maps made tidy: masks split into connected parts, crumbs absorbed by the label around them."""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from ground.label_maps import connected_components, pixel_counts
from ground.strips import renumber, strips


def connected_parts(masks: Masks, min_area: int = 0) -> Masks:
    """The connected parts of masks as masks of their own, by their first pixel, with the features of their mask.

    k-means puts what looks alike into one mask, wherever it is: parts may well be different things. Parts of fewer than
    `min_area` px first go to the masks around them, as `absorb_small` says: they are crumbs of a border, not things.
    """
    # Parts have no counterparts on the grid of clusters.
    nowhere, features, affinity = np.zeros_like(masks.low_res), masks.features, masks.affinity
    tidy = absorb_small(masks.label_map, min_area)
    # Of a large image each map counts.
    del masks
    parts, owners = connected_components(tidy)
    return Masks(parts, nowhere, features[owners], affinity=affinity)


def absorb_small(label_map: NDArray[Any], min_area: int) -> NDArray[Any]:
    """`label_map` (H, W) without components of fewer than `min_area` px; every pixel keeps exactly one label.

    The smallest component goes first (of equal ones the first in reading order): it takes the label with
    which it shares the longest border (pixel sides; of equal ones the lower label) and is one with those
    neighbours from then on. So crumbs grow together or vanish until none is left, or until one component is
    the whole map. 0 absorbs and is absorbed as any label.
    """
    components, component_labels = connected_components(label_map)
    areas: list[int] = pixel_counts(components).tolist()
    if min(areas) >= min_area:
        return label_map
    labels = component_labels.tolist()
    borders = border_lengths(components)
    absorbed_by = list(range(len(areas)))
    queue = [(area, component) for component, area in enumerate(areas) if area < min_area]
    heapq.heapify(queue)
    while queue:
        area, component = heapq.heappop(queue)
        if absorbed_by[component] != component or areas[component] != area or not borders[component]:
            continue  # gone or grown since it was queued, or alone on the map
        around: dict[int, int] = defaultdict(int)
        for neighbour, length in borders[component].items():
            around[labels[neighbour]] += length
        labels[component] = min(around, key=lambda label: (-around[label], label))
        joined = [n for n in borders[component] if labels[n] == labels[component]]
        root = max(joined, key=lambda n: (areas[n], -n))  # the others move to the largest: its own entries stay put
        for part in (component, *(n for n in joined if n != root)):
            _move_borders(borders, part, root)
            areas[root] += areas[part]
            absorbed_by[part] = root
        if areas[root] < min_area:
            heapq.heappush(queue, (areas[root], root))
    final = np.array([labels[_root(absorbed_by, component)] for component in range(len(areas))], np.int32)
    return renumber(components, final)


def border_lengths(components: NDArray[np.int32]) -> list[dict[int, int]]:
    """Per component: its side neighbours and how many pixel sides it shares with each."""
    count = int(components.max()) + 1
    codes, lengths = [], []
    for rows in strips(components.shape):
        here, below = components[rows], components[rows.start + 1 : rows.stop + 1]
        sides = [(here[:, :-1], here[:, 1:]), (here[: len(below)], below)]
        pairs = np.concatenate([np.stack([a[a != b], b[a != b]], axis=1) for a, b in sides]).astype(np.int64)
        pairs.sort(axis=1)
        found, times = np.unique(pairs[:, 0] * count + pairs[:, 1], return_counts=True)
        codes.append(found)
        lengths.append(times)
    unique, inverse = np.unique(np.concatenate(codes), return_inverse=True)
    totals = np.bincount(inverse, weights=np.concatenate(lengths), minlength=len(unique)).astype(np.int64)
    borders: list[dict[int, int]] = [{} for _ in range(count)]
    for code, length in zip(unique.tolist(), totals.tolist(), strict=True):
        a, b = divmod(code, count)
        borders[a][b] = borders[b][a] = length
    return borders


def _move_borders(borders: list[dict[int, int]], part: int, root: int) -> None:
    """Make the borders of `part` those of `root`; the border between the two disappears."""
    for neighbour, length in borders[part].items():
        del borders[neighbour][part]
        if neighbour != root:
            borders[neighbour][root] = borders[root][neighbour] = borders[root].get(neighbour, 0) + length
    borders[part] = {}


def _root(absorbed_by: list[int], component: int) -> int:
    while absorbed_by[component] != component:
        component = absorbed_by[component]
    return component
