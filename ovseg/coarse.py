"""The result of the step: patch logits → label of every pixel and, label by label, its score.

Planes of size (H, W) are made one at a time, or in tiles, so that a large image with many labels needs little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from ground.arrays import check_array, check_indices
from ovseg.labels import Label, as_labels
from ovseg.resolve import Tile, log_sum_exp, tiles, upsampled


@dataclass(frozen=True)
class ScoreTile:
    """A rectangle of n x m pixels of a coarse map."""

    rows: slice  # px
    columns: slice  # px
    scores: Callable[[NDArray[np.intp]], NDArray[np.float32]]  # c indices of labels → (c, n, m) scores in 0..1


@dataclass(frozen=True, eq=False)
class EmbeddingPart:
    """Embeddings of a rectangle of the image, and what of it they count for."""

    window: tuple[slice, slice]  # rows and columns of the image, px
    owned: tuple[slice, slice]  # rows and columns of the window, px
    embeddings: NDArray[np.float32]  # (C, h, w), patches of the window


@dataclass(frozen=True, eq=False)
class CoarseMap:
    """Where the labels are, as dense CLIP sees it: L labels, (h, w) patches, C channels, (H, W) pixels.

    Logits that were refined have a grid of their own.

    Plain text stands for labels, too. ValueError for shapes, dtypes, indices or labels that do not fit, and for numbers
    that are not finite.
    """

    labels: tuple[Label, ...]  # as given, background labels last
    label_map: NDArray[np.int32]  # (H, W) index into labels: argmax of the upsampled logits
    logits: NDArray[np.float32]  # (L, h, w) cosine similarity x logit scale
    embeddings: NDArray[np.float32]  # (C, h, w) dense image embeddings: unit, or means over windows of such
    text_embeddings: NDArray[np.float32]  # (L, C) unit
    background: tuple[Label, ...] = ()  # the labels (a subset) whose pixels become "other"
    absent: tuple[Label, ...] = ()  # those that were not to compete: their logits are far below all others

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", as_labels(self.labels))
        for name in ("background", "absent"):
            self._check_subset(name)
        check_indices("CoarseMap.label_map", self.label_map, 2, len(self.labels))
        for name, ndim in (("logits", 3), ("embeddings", 3), ("text_embeddings", 2)):
            check_array(f"CoarseMap.{name}", getattr(self, name), np.float32, ndim)
        count, channels = len(self.labels), len(self.embeddings)
        if len(self.logits) != count or self.text_embeddings.shape != (count, channels):
            shapes = (count, self.logits.shape, self.embeddings.shape, self.text_embeddings.shape)
            raise ValueError(
                f"labels, logits, embeddings and text embeddings have the shapes {shapes}, "
                "expected L, (L, h, w), (C, h, w) and (L, C)"
            )

    def _check_subset(self, field: str) -> None:
        """That `field` holds some of the labels. Plain text means the label of that name, whatever else is known."""
        named = {label.name: label for label in self.labels}
        given = [named.get(label, label) if isinstance(label, str) else label for label in getattr(self, field)]
        object.__setattr__(self, field, as_labels(given) if given else ())
        if not set(getattr(self, field)) <= set(self.labels):
            some, labels = (", ".join(map(str, which)) for which in (getattr(self, field), self.labels))
            raise ValueError(f"{field} is {some}, expected labels of the map: {labels}")

    @property
    def scores(self) -> NDArray[np.float32]:
        """(L, H, W) float32: softmax over labels of the bilinearly upsampled logits. Takes 4 L H W bytes."""
        return np.stack(list(self.iter_scores()))

    def iter_scores(self) -> Iterator[NDArray[np.float32]]:
        """The planes of `scores`, (H, W) float32 each, in the order of `labels`."""
        for plane in upsampled(self.logits, self.label_map.shape):
            yield np.exp(plane - self._norm)

    def score_tiles(self) -> Iterator[ScoreTile]:
        """The parts of the image, row by row, for the scores of some labels in each: all of one would be much."""
        for tile in tiles(self.logits.shape[1:], self.label_map.shape):
            yield ScoreTile(tile.rows, tile.columns, partial(self._scores_in, tile))

    def patch_labels(self, among: NDArray[np.intp]) -> NDArray[np.intp]:
        """(h, w) the label with the highest logit at each patch, of some labels."""
        return among[np.argmax(self.logits[among], axis=0)]

    def embedding_parts(self) -> Iterator[EmbeddingPart]:
        """All embeddings, for whoever takes a map and the parts of a large image alike."""
        whole = (slice(0, self.label_map.shape[0]), slice(0, self.label_map.shape[1]))
        yield EmbeddingPart(whole, whole, self.embeddings)

    def _scores_in(self, tile: Tile, labels: NDArray[np.intp]) -> NDArray[np.float32]:
        planes = tile.resolve(self.logits, labels)
        planes -= self._norm[tile.rows, tile.columns]
        return np.exp(planes, out=planes)

    @cached_property
    def _norm(self) -> NDArray[np.float32]:
        """(H, W) float32: what scores are normalised by, as a logit."""
        return log_sum_exp(self.logits, self.label_map.shape)
