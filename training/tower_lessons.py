"""What an image tower learns from: tagged images, and images with label maps.

Images are kept as squares, whatever they were, as uint8 tensors on the device that trains; a step draws some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.photos import KEPT_ASIDE
from training.tower_views import Drawn
from training.tower_words import Words

# How often a tag goes by one of its synonyms, only broad tags are looked for, and regions go by other
# names: those of scenes by their full ones, those of composites by broader ones.
SYNONYM, BROAD_ALONE, OTHER_NAMES = 0.4, 0.25, 0.3
# Images that are exhaustively tagged are drawn so many times as often.
EXHAUSTIVE = 3.0
# Height of a view, as a share of the image's, at least: of tagged images, exhaustively tagged ones, and label maps.
SMALLEST, SMALLEST_EXHAUSTIVE, SMALLEST_MAPPED = 0.75, 0.9, 0.25
Some = TypeVar("Some", bound="Words | Tagged | Mapped | TagDraw | MapDraw")


@dataclass(frozen=True, eq=False)
class TagDraw(Drawn):
    """Tagged images of a step, and the labels to find in each: first its tags, then what may be there as well."""

    sets: Tensor  # (B,) their sets of tags
    labels: Tensor  # (B, N) int64, -1 where there are fewer
    companions: Tensor  # (B, N) bool
    exhaustive: Tensor  # (B,) bool
    heights: Tensor  # (B, N) where labels usually are: 1 above, -1 below
    unsure: Tensor  # (B, N) bool: labels that may as well be missing


@dataclass(frozen=True, eq=False)
class MapDraw(Drawn):
    """Images with label maps of a step."""

    labels: Tensor  # (B, R + 1) int64: of each region, -1 for none
    closed: Tensor  # (B,) int64: the row of Mapped.closed whose labels are told apart


@dataclass(frozen=True, eq=False)
class Tagged:
    """N tagged images."""

    pixels: Tensor  # (N, S, S, 3) uint8
    sets: NDArray[np.int64]  # (N,) of Words.sets
    aspects: NDArray[np.float64]  # (N,) width to height, as they were

    def __len__(self) -> int:
        return len(self.pixels)

    def odds(self, words: Words) -> NDArray[np.float64]:
        """(N,) how often each is drawn: large sources must not drown small ones; 0 for those kept aside."""
        sources = [words.sets[i].source for i in self.sets]
        names, inverse, counts = np.unique(sources, return_inverse=True, return_counts=True)
        full = {of.source for of in words.sets if of.exhaustive}
        odds = np.array([EXHAUSTIVE if name in full else 1.0 for name in names]) / counts**0.5
        learning = np.arange(len(self)) % KEPT_ASIDE > 0
        some = odds[inverse] * learning
        return some / some.sum()

    def draw(self, words: Words, index: NDArray[np.int64], rng: np.random.Generator) -> TagDraw:
        """Those of `index`, with some of their tags, which at times go by synonyms."""
        rows = []
        for i in index:
            of = words.sets[int(self.sets[i])]
            alone = not of.specific or (of.broad and rng.random() < BROAD_ALONE)
            tags = of.broad if alone else of.specific
            spoken = [_one_of(words.synonyms.get(tag, ()), tag, rng) for tag in tags]
            rows.append((spoken, of.companions, of.exhaustive))
        width = max(len(tags) + len(others) for tags, others, _ in rows)
        labels, companions = np.full((len(index), width), -1), np.zeros((len(index), width), bool)
        for row, flags, (named, others, _) in zip(labels, companions, rows, strict=True):
            row[: len(named) + len(others)] = [*named, *others]
            flags[len(named) : len(named) + len(others)] = True
        exhaustive = np.array([full for _, _, full in rows])
        heights, unsure = words.heights[labels], words.unsure[labels] & companions
        arrays = (index, self.sets[index], labels, companions, exhaustive, heights, unsure)
        index_, *rest = map(torch.from_numpy, arrays)
        smallest = np.where(exhaustive, SMALLEST_EXHAUSTIVE, SMALLEST)
        return TagDraw(index_, self.aspects[index], smallest, *rest)


@dataclass(frozen=True, eq=False)
class Mapped:
    """M images with label maps."""

    pixels: Tensor  # (M, S, S, 3) uint8
    regions: Tensor  # (M, S, S) uint8
    labels: Tensor  # (2, M, R + 1) int64 of each region, by its usual and by its other name; -1: none
    closed: Tensor  # (K, V) bool: labels that their sources tell apart, whatever they mean
    rows: Tensor  # (2, M) int64 of `closed`
    aspects: NDArray[np.float64]  # (M,)

    def __len__(self) -> int:
        return len(self.pixels)

    def draw(self, index: NDArray[np.int64], rng: np.random.Generator | None) -> MapDraw:
        """Those of `index`, by the usual names of their regions or, at times, by the others."""
        full = rng.random(len(index)) < OTHER_NAMES if rng else np.zeros(len(index), bool)
        way, at = torch.from_numpy(full.astype(np.int64)), torch.from_numpy(index)
        smallest = np.full(len(index), SMALLEST_MAPPED)
        labels, rows = self.labels.cpu()[way, at], self.rows.cpu()[way, at]
        return MapDraw(at, self.aspects[index], smallest, labels, rows)


def moved(some: Some, device: torch.device) -> Some:
    """With its tensors on `device`."""
    values = {field.name: getattr(some, field.name) for field in fields(some)}
    on_device: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
    return replace(some, **on_device)


def _one_of(others: Sequence[int], label: int, rng: np.random.Generator) -> int:
    return others[int(rng.integers(len(others)))] if others and rng.random() < SYNONYM else label
