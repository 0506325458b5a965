"""Rules for labels of masks, those of `fusion.step` and those that were tried beside them: votes of an image → labels.

Each rule takes `Votes` and gives (H, W) int32: i = labels[i - 1]. What they were worth stands in docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion import FusionConfig, fuse
from fusion.step.components import border_lengths, connected_parts
from fusion.step.embedding import mask_similarities
from fusion.step.overlap import rank_labels, vote_margins
from ground.label_maps import contingency
from ovseg import CoarseMap

Scores = NDArray[np.float64]  # (K, L)
LabelMap = NDArray[np.int32]  # (H, W)

_SMALL = 0.02  # share that a label has in a mask where nothing votes for it, when shares are multiplied


@dataclass(frozen=True, eq=False)
class Votes:
    """Masks of one image and what CLIP says of their pixels. There are no background labels."""

    masks: Masks
    coarse: CoarseMap
    config: FusionConfig

    @cached_property
    def voters(self) -> Masks:
        """The K masks that vote, by themselves."""
        return connected_parts(self.masks, self.config.min_area) if self.config.split else self.masks

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(K, L) pixels."""
        return contingency(
            self.voters.label_map, self.coarse.label_map, (self.voters.num_masks, len(self.coarse.labels))
        )

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """(K,) px, at least 1."""
        return np.maximum(self.counts.sum(axis=1), 1)

    @cached_property
    def shares(self) -> Scores:
        return self.counts / self.areas[:, None]

    @cached_property
    def log_scores(self) -> NDArray[np.float32]:
        """(L, H, W)."""
        return np.log(np.maximum(self.coarse.scores, np.finfo(np.float32).tiny))

    @cached_property
    def winners(self) -> NDArray[np.int64]:
        """(K,) by the overlap rule."""
        return rank_labels(self.counts, self.mean_of(self.coarse.scores))[:, 0]

    @cached_property
    def similarities(self) -> NDArray[np.float32]:
        """(K, L) cosines of mean embeddings and texts."""
        voters = self.voters
        return mask_similarities(
            voters.label_map, voters.num_masks, self.coarse.embedding_parts(), self.coarse.text_embeddings
        )

    @cached_property
    def neighbours(self) -> tuple[Scores, Scores]:
        """(K, K) pixel sides that masks share, and (K, K) cosines of their features, less the mean over the image."""
        borders = np.zeros((len(self.areas), len(self.areas)))
        for mask, around in enumerate(border_lengths(self.voters.label_map)):
            borders[mask, list(around)] = list(around.values())
        features = self.voters.features - np.average(self.voters.features, axis=0, weights=self.areas)
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
        return borders, features @ features.T

    def mean_of(self, planes: NDArray[np.float32]) -> Scores:
        """(K, L) means over masks of planes (L, H, W)."""
        places = self.voters.label_map.ravel()
        sums = [np.bincount(places, plane.ravel(), len(self.areas)) for plane in planes]
        return np.stack(sums, axis=1) / self.areas[:, None]

    def painted(self, labels: NDArray[np.int64]) -> LabelMap:
        """Every mask as its label, (K,)."""
        return (labels + 1).astype(np.int32)[self.voters.label_map]


def built(votes: Votes, rule: str, **settings: float) -> LabelMap:
    """A rule of `fusion.step`, with other settings of `FusionConfig`."""
    return fuse(votes.masks, votes.coarse, replace(votes.config, fuse=rule, **settings)).label_map


def coarse_map(votes: Votes) -> LabelMap:
    """No vote."""
    return votes.coarse.label_map + 1


def mean_score(votes: Votes, temperature: float) -> LabelMap:
    """Votes weighted by confidence: the highest sum of scores, of logits over `temperature`."""
    scaled = votes.log_scores / temperature
    scores = np.exp(scaled - scaled.max(axis=0))
    return votes.painted(votes.mean_of(scores / scores.sum(axis=0)).argmax(axis=1))


def mean_log_score(votes: Votes) -> LabelMap:
    """A product of experts: the highest sum of log scores."""
    return votes.painted(votes.mean_of(votes.log_scores).argmax(axis=1))


def margins(votes: Votes, scale: float) -> LabelMap:
    """Each pixel votes by how far its best label leads its second: 1 - exp(-margin of logits / scale)."""
    second, best = np.sort(votes.log_scores, axis=0)[-2:]
    paired = votes.voters.label_map.ravel() * votes.counts.shape[1] + votes.coarse.label_map.ravel()
    weights = 1 - np.exp((second - best) / scale)
    sums = np.bincount(paired, weights.ravel(), votes.counts.size).reshape(votes.counts.shape)
    return votes.painted(sums.argmax(axis=1))


def with_text(votes: Votes, scale: float) -> LabelMap:
    """Overlap and embedding as factors: share · exp(scale · similarity)."""
    return votes.painted((np.log(votes.shares + _SMALL) + scale * votes.similarities).argmax(axis=1))


def text_where_weak(votes: Votes, margin: float) -> LabelMap:
    """The embedding rule where the vote leads by less than `margin`."""
    weak = vote_margins(votes.counts) < margin
    return votes.painted(np.where(weak, votes.similarities.argmax(axis=1), votes.winners))


def coarse_where_weak(votes: Votes, margin: float) -> LabelMap:
    """The coarse map where the vote leads by less than `margin`."""
    weak = vote_margins(votes.counts) < margin
    return np.where(weak[votes.voters.label_map], coarse_map(votes), votes.painted(votes.winners))


def one_for_image(votes: Votes, margin: float) -> LabelMap:
    """Overlap or the coarse map for a whole image, by the mean margin of its pixels' masks."""
    clear = np.average(vote_margins(votes.counts), weights=votes.areas) >= margin
    return votes.painted(votes.winners) if clear else coarse_map(votes)


def together(votes: Votes, likeness: float, margin: float) -> LabelMap:
    """Neighbours that look alike vote together if one is weak: the weakest first, with the one that is most alike."""
    borders, alike = votes.neighbours
    counts, touching = votes.counts.copy(), borders > 0
    owners = np.arange(len(counts))
    while True:
        weak = np.where(counts.any(axis=1), vote_margins(counts), np.inf)
        joinable = touching & (alike > likeness)
        weak[~joinable.any(axis=1)] = np.inf
        first = int(weak.argmin())
        if not weak[first] < margin:
            return votes.painted(counts.argmax(axis=1)[owners])
        second = int(np.where(joinable[first], alike[first], -np.inf).argmax())
        counts[second] += counts[first]
        touching[second] |= touching[first]
        touching[:, second] |= touching[:, first]
        touching[second, second] = False
        counts[first], touching[first], touching[:, first] = 0, False, False
        owners[owners == first] = second


def smoothed(votes: Votes, weight: float, sweeps: int = 5) -> LabelMap:
    """Mean field over neighbours, weighted by the length of the border and the likeness of features."""
    borders, alike = votes.neighbours
    links = borders * np.clip(alike, 0, 1) / np.maximum(borders.sum(axis=1, keepdims=True), 1)
    own = np.log(votes.shares + _SMALL)
    beliefs = _softmax(own)
    for _ in range(sweeps):
        beliefs = _softmax(own + weight * links @ beliefs)
    return votes.painted(beliefs.argmax(axis=1))


def _softmax(values: Scores) -> Scores:
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


BASE = "overlap"
RULES: dict[str, Callable[[Votes], LabelMap]] = {
    BASE: partial(built, rule=BASE),
    "embedding": partial(built, rule="embedding"),
    "auto": partial(built, rule="auto"),
    **{f"auto, margin < {m}": partial(built, rule="auto", clear_margin=m) for m in (0.4, 0.8, 1.0)},
    "the coarse map alone": coarse_map,
    **{f"mean score, temperature {t}": partial(mean_score, temperature=t) for t in (0.5, 1, 2)},
    "mean log score": mean_log_score,
    **{f"votes by margin, {scale}": partial(margins, scale=scale) for scale in (0.3, 1, 3)},
    **{f"share and text, {scale}": partial(with_text, scale=scale) for scale in (10, 25)},
    "text where the margin < 0.1": partial(text_where_weak, margin=0.1),
    "coarse where the margin < 0.6": partial(coarse_where_weak, margin=0.6),
    "coarse for an image, margin < 0.5": partial(one_for_image, margin=0.5),
    **{f"alike vote together, margin < {m}": partial(together, likeness=0.8, margin=m) for m in (0.1, 0.3)},
    **{f"smoothed, {weight}": partial(smoothed, weight=weight) for weight in (0.5, 1)},
}
