"""What tags, label maps and a teacher teach the places of many views at once; the tensors are on any one device.

As `photo_tags.tag_losses` does for one image: multiple-instance learning by expectation and maximisation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.photo_tags import FALLING, FIGURE, SHARPER, SLACK
from training.tower_lessons import TagDraw
from training.tower_views import View
from training.tower_words import Words

_ROUNDS = 6  # of the turns by which shares come to lie in their bounds
_NEVER = -1e4  # a logarithm of no probability, small enough and finite


class Guess(NamedTuple):
    """The losses of tagged views, and how likely each place (B, P) shows what is no tag."""

    all_places: Tensor
    best_places: Tensor
    untagged: Tensor


def label_logs(scale: Tensor, places: Tensor, embeddings: Tensor, among: Tensor) -> Tensor:
    """(B, P, V) log-probabilities of the labels that take part, (B, V) bool; `places` (B, P, C)."""
    logits = scale * places @ embeddings.T
    return logits.masked_fill(~among[:, None], _NEVER).log_softmax(dim=-1)


def tag_losses(scale: Tensor, places: Tensor, draw: TagDraw, view: View, words: Words, lift: float) -> Guess:
    """What the drawn tags of views teach their places (B, P, C); `lift` is the weight of the usual heights."""
    batch, count = len(places), places.shape[1]
    side = round(count**0.5)
    filled = draw.labels >= 0
    among = words.negatives[draw.sets] | _marked(draw.labels, len(words.labels))
    logs = label_logs(scale, places, words.embeddings, among)
    logs = logs.gather(2, draw.labels.clamp(min=0)[:, None].expand(batch, count, -1))  # B x P x N
    logs = logs.masked_fill(~filled[:, None], _NEVER)

    is_tag = filled & ~draw.companions
    tags = is_tag.sum(dim=1)  # B
    few = ~draw.exhaustive & ~draw.companions.any(dim=1)
    equal = count / (tags + (~draw.exhaustive)).clamp(min=1)  # B

    # Without companions the rest may be anything: each tag claims half of its equal share, where it fits best.
    claimed = (equal / 2).long().clamp(min=1)  # B
    ranked = logs.exp().sort(dim=1, descending=True).values
    taken = torch.arange(count, device=logs.device)[None, :, None] < claimed[:, None, None]
    best = ((ranked * taken).sum(dim=1) / claimed[:, None]).clamp(min=1e-6).log()  # B x N
    best_places = -(best * is_tag).sum(dim=1) / tags.clamp(min=1)

    rank = is_tag.cumsum(dim=1) - 1
    usual = torch.where(is_tag, FALLING ** rank.float(), 0.0)
    filling = torch.where(draw.companions.any(dim=1), FIGURE, 1.0) * count
    usual = usual / usual.sum(dim=1, keepdim=True).clamp(min=1e-6) * filling[:, None]
    bounded = draw.exhaustive[:, None] & is_tag
    low = torch.where(bounded, usual / SLACK, torch.where(is_tag, equal[:, None] / 2, 0.0))
    high = torch.where(bounded, usual * SLACK, float(count))
    rows = view.rows(side).repeat_interleave(side, dim=1)  # B x P
    heights = (1 - 2 * rows)[:, :, None] * draw.heights[:, None]
    heights = torch.where(draw.unsure[:, None], heights.clamp(max=0), heights)
    with torch.no_grad():
        guess = expected_places(SHARPER * logs + lift * heights, low, high)
    weight = torch.where(draw.exhaustive, 1.0, 0.6)
    all_places = -weight * (guess * logs).sum(dim=2).mean(dim=1)
    untagged = (guess * draw.companions[:, None]).sum(dim=2) * ~few[:, None]
    return Guess((all_places * ~few).mean(), (best_places * few).mean(), untagged)


def _marked(labels: Tensor, count: int) -> Tensor:
    """(B, V) bool: the labels (B, N), of which -1 is none."""
    marks = torch.zeros(len(labels), count + 1, dtype=torch.bool, device=labels.device)
    return marks.scatter(1, labels.where(labels >= 0, count), True)[:, :-1]


def expected_places(logits: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(B, P, N): the share of each of N labels at each of P places, as `photo_tags.expected_places` of each view."""
    shares = logits.softmax(dim=2)
    for _ in range(_ROUNDS):
        totals = shares.sum(dim=1).clamp(min=1e-6)  # B x N
        shares = shares * ((low / totals).clamp(min=1) * (high / totals).clamp(max=1))[:, None]
        shares = shares / shares.sum(dim=2, keepdim=True)
    return shares


def teacher_loss(scale: Tensor, places: Tensor, likely: Tensor, names: Tensor, untagged: Tensor) -> Tensor:
    """Cross-entropy with the teacher's probabilities `likely` (B, P, K) of the names (K, C).

    It counts where the teacher is sure, and where the place shows a tag: the teacher sees an object in much of what is
    around it.
    """
    weight = likely.amax(dim=2).clamp(min=0.05) * (1 - untagged).clamp(0.02, 1)
    loss = -(likely * (scale * places @ names.T).log_softmax(dim=-1)).sum(dim=2)
    return (weight * loss).sum() / weight.sum()


def taking_part(labels: Tensor, closed: Tensor, similar: Tensor) -> Tensor:
    """(B, V) bool: labels (B, R) of the regions of each image, and what competes with them.

    That are those that its source tells apart, `closed` (B, V), and all that is not near to its own in meaning,
    `similar` (V, V).
    """
    own = _marked(labels, len(similar))
    near = own.float() @ similar.float() > 0
    return own | closed | ~near


def map_loss(
    scale: Tensor,
    places: Tensor,
    regions: Tensor,
    labels: Tensor,
    among: Tensor,
    embeddings: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of places (B, P, C) with the labels (B, R) of their regions (B, 2 h, 2 w), four to a place.

    Large regions count less than by their area: by its square root. `weights` (V,) say how much each label counts.
    """
    batch, height, width = len(regions), regions.shape[-2] // 2, regions.shape[-1] // 2
    logs = label_logs(scale, places, embeddings, among)
    at = regions.view(batch, height, 2, width, 2).permute(0, 1, 3, 2, 4).reshape(batch, height * width * 4)
    target = labels.gather(1, at)  # B x 4 P
    area = torch.zeros(labels.shape, device=labels.device).scatter_add_(1, at, torch.ones(at.shape, device=at.device))
    weight = area.clamp(min=1).rsqrt().gather(1, at) * (target >= 0)
    if weights is not None:
        weight = weight * weights[target.clamp(min=0)]
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    found = logs.gather(2, target.clamp(min=0).view(batch, -1, 4)).flatten(1)
    return -(weight * found).sum(dim=1).mean()
