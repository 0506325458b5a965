"""The recipe of the fusion step: class-agnostic masks + coarse map of the labels → `Segmentation` with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.formats.schema import DIGITS
from fusion.step.auto import Pieces, left_to_pixels
from fusion.step.choices import FuseRule
from fusion.step.components import absorb_small, connected_parts
from fusion.step.config import FusionConfig
from fusion.step.embedding import mask_similarities
from fusion.step.overlap import mean_scores, rank_labels, vote_margins
from fusion.step.segmentation import Segment, Segmentation
from ground.label_maps import contingency
from ground.strips import gathered, narrowed

if TYPE_CHECKING:
    from emerdiff import Masks
    from ovseg import CoarseMap, Label
    from ovseg.mosaic import CoarseMosaic

    AnyCoarse = CoarseMap | CoarseMosaic

DEFAULT_CONFIG = FusionConfig()
# A cosine is multiplied by about 100 before it becomes a score.
_SIMILARITY_DIGITS = DIGITS + 2


def fuse(masks: Masks, coarse: AnyCoarse, config: FusionConfig = DEFAULT_CONFIG) -> Segmentation:
    """Give every mask one of the coarse map's labels, or "other".

    By `config.fuse` a mask takes the label that covers most of its pixels (`overlap`: ties to the higher mean
    score, then the lower index), or the one whose text embedding is nearest to its mean dense embedding
    (`embedding`). With `auto` a mask takes the first of these if that leads by `config.clear_margin`; else each of its
    pixels takes the label with the highest product of its own score and the label's share of the mask, and the mask
    has a segment for each of these labels. The evidence is the same for all rules: shares are shares of the mask's
    pixels in the coarse map, so that a margin below 0 says that more of them have another label. Segments of a
    background label, and segments below `config.min_score` or `config.min_margin`, become 0 = "other"; then components
    smaller than `config.min_area` are absorbed by the label around them.

    With `config.split` the connected parts of masks take their place, numbered in reading order, after parts of fewer
    than `config.min_area` pixels have gone to the masks around them.

    Absent labels of the coarse map take no part.

    Evidence is rounded before anything is decided by it: what the files say is what the thresholds saw.

    Raises ValueError if masks and coarse map are not of one size.
    """
    if masks.label_map.shape != coarse.label_map.shape:
        raise ValueError(
            f"masks are {masks.label_map.shape} and the coarse map is {coarse.label_map.shape}: "
            "expected both of the same image, (H, W)"
        )
    if config.split:
        masks = connected_parts(masks, config.min_area)
    labels = tuple(label for label in coarse.labels if label not in coarse.background)
    counts = contingency(masks.label_map, coarse.label_map, (masks.num_masks, len(coarse.labels)))  # K x L
    nearest = _nearest_labels(masks, coarse) if config.fuse == FuseRule.EMBEDDING else None
    wanted = counts > 0  # K x L: a label that no pixel of a mask has is no runner-up of it
    if nearest is not None:
        wanted[np.arange(masks.num_masks), nearest] = True
    scores = mean_scores(masks.label_map, coarse.score_tiles(), counts.sum(axis=1), wanted).round(DIGITS)  # K x L
    ranking = rank_labels(counts, scores)  # K x L
    winners = ranking[:, 0] if nearest is None else nearest
    pieces = _pieces(masks, coarse, counts, winners, config)
    segments = {
        piece: _segment(mask, label, ranking[mask], counts[mask], scores[mask], coarse, config)
        for piece, (mask, label) in enumerate(zip(pieces.masks.tolist(), pieces.labels.tolist(), strict=True))
        if counts[mask].any()
    }
    ids = {label: index for index, label in enumerate(labels, start=1)}
    piece_to_id = np.zeros(len(pieces.masks), np.int32)
    for piece, segment in segments.items():
        piece_to_id[piece] = ids[segment.label] if segment.label is not None else 0
    piece_to_id = narrowed(piece_to_id, len(labels))
    label_map = absorb_small(gathered(piece_to_id, pieces.piece_map), config.min_area).astype(np.int32, copy=False)
    return Segmentation(
        label_map=label_map,
        labels=labels,
        segments=tuple(segments.values()),
        score_map=_score_map(label_map, coarse, ids),
        mask_map=masks.label_map,
        absent=tuple(label for label in labels if label in coarse.absent),
    )


def _nearest_labels(masks: Masks, coarse: AnyCoarse) -> NDArray[np.intp]:
    """(K,) the label whose text embedding is nearest to each mask's mean dense embedding."""
    similarities = mask_similarities(masks.label_map, masks.num_masks, coarse.embedding_parts(), coarse.text_embeddings)
    if coarse.absent:
        similarities[:, [label in coarse.absent for label in coarse.labels]] = -np.inf
    return np.argmax(similarities.round(_SIMILARITY_DIGITS), axis=1)


def _pieces(
    masks: Masks, coarse: AnyCoarse, counts: NDArray[np.int64], winners: NDArray[np.intp], config: FusionConfig
) -> Pieces:
    """What takes one label each: every mask, but for those that `auto` leaves to their pixels."""
    if config.fuse != FuseRule.AUTO:
        return Pieces(masks.label_map, np.arange(masks.num_masks), winners)
    unclear = vote_margins(counts).round(DIGITS) < config.clear_margin
    return left_to_pixels(masks.label_map, coarse.score_tiles(), counts, winners, unclear, config.min_area)


def _segment(
    mask: int,
    winner: int,
    ranking: NDArray[np.int64],
    counts: NDArray[np.int64],
    scores: NDArray[np.float64],
    coarse: AnyCoarse,
    config: FusionConfig,
) -> Segment:
    """What a mask, or a piece of it, becomes, and on what evidence; `ranking`, `counts`, `scores` are its rows (L,)."""
    area = int(counts.sum())
    follower = next((int(label) for label in ranking if label != winner and counts[label]), None)
    share = round(float(counts[winner] / area), DIGITS)
    behind = 0 if follower is None else counts[follower]
    margin = round(float((counts[winner] - behind) / area), DIGITS)
    score = float(scores[winner])
    background = coarse.labels[winner] in coarse.background
    # With a threshold of 0 no margin is too small, not even one below 0.
    abstains = score < config.min_score or (margin < config.min_margin and config.min_margin > 0)
    return Segment(
        mask_id=mask,
        label=None if background or abstains else coarse.labels[winner],
        score=score,
        share=share,
        runner_up=None if follower is None else coarse.labels[follower],
        margin=margin,
        area=area,
    )


def _score_map(label_map: NDArray[np.int32], coarse: AnyCoarse, ids: dict[Label, int]) -> NDArray[np.float32]:
    """(H, W) float32: at every pixel the score of the label it was given; 0 where that is "other"."""
    score_map = np.zeros(label_map.shape, np.float32)
    indices = np.array([index for index, label in enumerate(coarse.labels) if label in ids], np.intp)  # of id 1, 2, …
    for tile in coarse.score_tiles():
        shown, scores = label_map[tile.rows, tile.columns], score_map[tile.rows, tile.columns]
        there = np.flatnonzero(np.bincount(shown.ravel())[1:])  # ids - 1
        for index, plane in zip(there, tile.scores(indices[there]), strict=True):
            np.copyto(scores, plane, where=shown == index + 1)
    return score_map
