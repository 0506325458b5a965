"""Normalised cuts: features → clusters, as many as the image asks for, in place of a number K that is fixed before.

The graph and the cut are Shi and Malik's (TPAMI 2000); that features of a diffusion model make a good graph, its edges
the power α of their cosines, and that it is cut again and again while a cut costs less than τ, is DiffCut's (NeurIPS
2024). Here every cut along the eigenvector is tried, and the cheapest cut of all pieces is made first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

_TINY = np.finfo(np.float64).tiny


def cosine_affinity(
    features: NDArray[np.float32], power: float, grid: tuple[int, int], position_weight: float = 0.0
) -> NDArray[np.float64]:
    """(N, N) float64 in 0..1: how alike the (N, C) features of the positions of a `grid` (h, w) are, row by row.

    Cosines, brought to 0..1 by the least and the largest of the image, to the `power` α. With a `position_weight` w
    they fall with the distance, by exp(−w²d²), as in Shi and Malik; the longer side of the grid counts as 1. All 1
    where no two features differ in direction.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = (features / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float64)
    cosines = units @ units.T
    least, spread = cosines.min(), np.ptp(cosines)
    if spread < 1e-6:
        return np.ones_like(cosines)
    affinity: NDArray[np.float64] = ((cosines - least) / spread).clip(0, 1) ** power
    return affinity * np.exp(-(position_weight**2) * _squared_distances(grid))


def normalised_cuts(affinity: NDArray[np.float64], threshold: float, most: int) -> NDArray[np.int32]:
    """(N,) int32 piece of each position of a symmetric (N, N) affinity ≥ 0, numbered by their first positions.

    The piece whose best cut is the cheapest is cut in two, until none costs less than `threshold` τ or there are `most`
    pieces. Costs are NCut = cut(A, B)/assoc(A) + cut(A, B)/assoc(B), 0..2, within the piece. A larger τ cuts the
    pieces of a smaller one further, and never otherwise.
    """
    cuts = [_best_cut(affinity, np.arange(len(affinity)))]
    while len(cuts) < most:
        cheapest = min(range(len(cuts)), key=lambda index: cuts[index].cost)
        if cuts[cheapest].cost >= threshold:
            break
        cuts += [_best_cut(affinity, side) for side in cuts.pop(cheapest).sides]
    assignment = np.empty(len(affinity), np.int32)
    for index, cut in enumerate(sorted(cuts, key=lambda cut: int(cut.piece.min()))):
        assignment[cut.piece] = index
    return assignment


@dataclass(frozen=True, eq=False)
class _Cut:
    """The best cut of a piece in two."""

    piece: NDArray[np.intp]  # its positions
    cost: float  # NCut; infinite if there is nothing to cut
    sides: tuple[NDArray[np.intp], ...] = ()  # the positions of both


def _best_cut(affinity: NDArray[np.float64], piece: NDArray[np.intp]) -> _Cut:
    """Of the cuts between two positions that follow each other in the order of the second eigenvector, the cheapest."""
    weights = affinity[np.ix_(piece, piece)]
    if len(piece) == 1 or weights.min() == weights.max():
        return _Cut(piece, np.inf)
    degrees = weights.sum(axis=1)
    order = np.argsort(_second_eigenvector(weights, degrees), kind="stable")
    # Of the first k in that order: assoc(A, V), and assoc(A, A), a corner of the sums over rows and columns.
    of_first = degrees[order].cumsum()
    within = np.diagonal(weights[np.ix_(order, order)].cumsum(axis=0).cumsum(axis=1))
    cut, first = (of_first - within)[:-1].clip(0), of_first[:-1]
    costs = cut / np.maximum(first, _TINY) + cut / np.maximum(of_first[-1] - first, _TINY)
    best = int(costs.argmin())
    return _Cut(piece, float(costs[best]), (piece[order[: best + 1]], piece[order[best + 1 :]]))


def _second_eigenvector(weights: NDArray[np.float64], degrees: NDArray[np.float64]) -> NDArray[Any]:
    """(N,) y of (D − W)·y = μ·D·y for the second smallest μ.

    The first, constant, is taken out of D^−½·W·D^−½ beforehand: where pieces do not touch at all it has companions of
    the same μ = 0, and an eigenvector among these might else be constant.
    """
    roots = np.sqrt(np.maximum(degrees, _TINY))
    first = roots / np.linalg.norm(roots)
    normalised = weights / np.outer(roots, roots) - np.outer(first, first)
    last = len(weights) - 1
    _, vectors = eigh(normalised, subset_by_index=(last, last))
    return vectors[:, 0] / roots


def _squared_distances(grid: tuple[int, int]) -> NDArray[np.float64]:
    """(N, N) between the positions of a grid (h, w), whose longer side is 1."""
    rows, columns = (axis.ravel() / max(grid) for axis in np.mgrid[: grid[0], : grid[1]])
    squares: NDArray[np.float64] = np.subtract.outer(rows, rows) ** 2 + np.subtract.outer(columns, columns) ** 2
    return squares
