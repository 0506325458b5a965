"""What an image's tags teach: the labels it shows, may show and does not show, and where they are likely to be.

Multiple-instance learning by expectation and maximisation: what each place shows is guessed from what the head
predicts so far, with every tag's share of the image kept in bounds, and then learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ovseg import Label
from ovseg.backbone import Backbone
from ovseg.prompts import embed_labels
from training.photo_words import BROAD, COMPANIONS, ELSEWHERE, HEIGHTS, SYNONYMS, UNSURE, WORN
from training.photos import Photo

TEMPLATES = "photo"  # prompt templates of the labels, as in the preset
# Tags an image, on average, from which a source counts as exhaustively tagged.
EXHAUSTIVE = 3.0
# Share of an image that its tags cover if all of them are worn by a person.
FIGURE = 0.5
# In an exhaustively tagged image each tag fills about FALLING times what the tag before it does, within a factor SLACK.
FALLING, SLACK = 0.6, 1.25
# Guesses are sharper than what is predicted by this exponent.
SHARPER = 1.5
# How often the regions of a scene go by their full names, and how many full names of others are negatives then.
FULL_NAMES, FULL_NAME_NEGATIVES = 0.3, 48
# Cosine above which a label is too near in meaning to a tag to be its negative.
SIMILAR = 0.55


class TagVocabulary:
    """All labels that take part, as unit vectors, and which of them an image shows, may show and does not show.

    A source is exhaustively tagged if its images show nothing else that one of its tags would name.
    """

    def __init__(self, photos: Sequence[Photo], backbone: Backbone) -> None:
        self.tag_counts: dict[str, dict[str, int]] = {}  # source -> tag -> images
        self.image_counts: dict[str, int] = {}  # source -> images
        specific: dict[str, int] = {}  # source -> tags that are not broad, over all its images
        for photo in photos:
            counts = self.tag_counts.setdefault(photo.source, {})
            for tag in photo.tags:
                counts[tag] = counts.get(tag, 0) + 1
            self.image_counts[photo.source] = self.image_counts.get(photo.source, 0) + 1
            specific[photo.source] = specific.get(photo.source, 0) + len(set(photo.tags) - BROAD)
        self.full_names = list(
            dict.fromkeys(name for photo in photos for name in photo.names if name not in photo.tags)
        )
        self.exhaustive = {
            source for source, count in self.image_counts.items() if specific[source] >= EXHAUSTIVE * count
        }
        self.exhaustive |= {photo.source for photo in photos if photo.names}
        known = [label for entry in (SYNONYMS, COMPANIONS) for key, labels in entry.items() for label in (key, *labels)]
        tags_of_all = [tag for counts in self.tag_counts.values() for tag in counts]
        self.labels = list(dict.fromkeys([*tags_of_all, *known, *self.full_names]))
        self.index = {label: i for i, label in enumerate(self.labels)}
        self.embeddings = embed_texts(self.labels, backbone)  # V x C
        # These may be anywhere without a tag: what scenes are made of, and what sources with several tags name.
        several = {
            tag
            for source, count in self.image_counts.items()
            if specific[source] > count
            for tag in self.tag_counts[source]
        }
        self.common = {*known, *several, *BROAD}

    def draw_positives(self, photo: Photo, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """(tags to find in the image, companions that may be there as well).

        Of a photograph either its broad tags or the others; of a scene all tags or, at times, the full names.
        """
        if photo.names:
            return list(photo.names if rng.random() < FULL_NAMES else photo.tags), []
        broad = self.broad_tags(photo)
        specific = [tag for tag in photo.tags if tag not in broad]
        tags = broad if not specific or (broad and rng.random() < 0.25) else specific
        return tags, self.companions(photo)

    def broad_tags(self, photo: Photo) -> list[str]:
        """The tags of the image that cover others of it."""
        worn = not WORN.isdisjoint(photo.tags)
        return [tag for tag in photo.tags if tag in BROAD or (tag == "person" and worn)]

    def companions(self, photo: Photo) -> list[str]:
        """Labels that may be in the image besides its tags; of an exhaustive source only those of what is worn."""
        tags = [tag for tag in photo.tags if tag in WORN or photo.source not in self.exhaustive]
        tagged = {*photo.tags, *(label for tag in photo.tags for label in SYNONYMS.get(tag, ()))}
        return [
            label
            for label in dict.fromkeys(label for tag in tags for label in COMPANIONS.get(tag, ()))
            if label not in tagged
        ]

    def negatives(self, photo: Photo) -> Tensor:
        """(V,) bool: the labels that the image does not show, for one of three reasons.

        The source is exhaustively tagged and uses the label as a tag of other images. Or the label belongs to other
        places than the tags do. Or only sources with a single tag an image use it, which says that it is a thing by
        itself and not what scenes are made of; of these, labels near in meaning to a tag are left out.
        """
        counts, image_count = self.tag_counts[photo.source], self.image_counts[photo.source]
        shown = [*photo.tags, *self.companions(photo)]
        positive = {label for tag in shown for label in (tag, *SYNONYMS.get(tag, ()))} | {*photo.names}
        elsewhere = {label for tag in photo.tags for label in ELSEWHERE.get(tag, ())}
        similar = self.embeddings @ self.embeddings[[self.index[tag] for tag in photo.tags]].T > SIMILAR
        unlike = (~similar.any(dim=1)).tolist()
        full_names = frozenset(self.full_names)
        negative = torch.zeros(len(self.labels), dtype=torch.bool)
        for i, label in enumerate(self.labels):
            if label in positive or any(synonym in photo.tags for synonym in SYNONYMS.get(label, ())):
                continue
            if label in full_names:
                negative[i] = bool(photo.names)
                continue
            untagged = photo.source in self.exhaustive and counts.get(label, 0) > 0.05 * image_count
            alone = unlike[i] and label not in counts and label not in self.common
            negative[i] = untagged or label in elsewhere or alone
        return negative

    def hard_negatives(self, photo: Photo, tags: Sequence[str], rng: np.random.Generator) -> list[int]:
        """Indices of the labels to tell `tags` apart from first, as far as they are negatives of the image."""
        labels = [label for tag in photo.tags for label in ELSEWHERE.get(tag, ())]
        if photo.source in self.exhaustive:
            labels += self.tag_counts[photo.source]
        if tags and photo.names == tuple(tags):
            drawn = rng.permutation(len(self.full_names))[:FULL_NAME_NEGATIVES]
            labels += [self.full_names[i] for i in drawn]
        return [self.index[label] for label in labels]

    def draw_synonym(self, label: str, rng: np.random.Generator) -> int:
        """Index of the label itself or, at times, of one of its synonyms."""
        others = SYNONYMS.get(label, ())
        return self.index[others[rng.integers(len(others))] if others and rng.random() < 0.4 else label]


def embed_texts(texts: Sequence[str], backbone: Backbone) -> Tensor:
    """(N, C) unit embeddings, each the mean over the preset's templates."""
    return torch.from_numpy(embed_labels([Label(text) for text in texts], TEMPLATES, backbone.encode_text))


def expected_places(logits: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(P, N): the share of each of N tags at each of P places, summing to 1 at a place.

    `logits` (P, N) say how likely each is. The sum over places of a tag is pulled between `low` and `high` (N,), by
    turns with the sum at each place, as Sinkhorn's algorithm does for equalities.
    """
    shares = logits.softmax(dim=1)
    for _ in range(6):
        totals = shares.sum(dim=0).clamp(min=1e-6)
        shares = shares * (low / totals).clamp(min=1) * (high / totals).clamp(max=1)
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares


def heights_of(labels: Sequence[str], rows: Tensor) -> Tensor:
    """(P, N): 1 to -1, how well each label goes with how far down the places are; `rows` (P,) 0 (top) to 1."""
    usual = torch.tensor([HEIGHTS.get(label, 0) for label in labels], dtype=torch.float32)
    return (1 - 2 * rows)[:, None] * usual


def guessed_places(
    log_probabilities: Tensor,
    rows: Tensor,
    tags: Sequence[str],
    companions: Sequence[str],
    *,
    exhaustive: bool,
    lift: float = 0.0,
    falling: float = FALLING,
    slack: float = SLACK,
) -> Tensor:
    """(P, N): which of the tags and companions each place shows, guessed by their `log_probabilities` (P, N) there.

    `rows` (P,) 0 (top) to 1; `lift` is the weight of the usual heights. If the tags are `exhaustive`, each fills about
    `falling` times what the one before it does, within a factor `slack`.
    """
    count, places = len(tags), len(rows)
    low, high = torch.zeros(count + len(companions)), torch.full((count + len(companions),), float(places))
    if exhaustive:
        # The tag that comes first fills most.
        usual = falling ** torch.arange(count)
        usual *= places * (FIGURE if companions else 1) / usual.sum()
        low[:count], high[:count] = usual / slack, usual * slack
    else:
        low[:count] = places / (count + 1) / 2
    usual_heights = heights_of([*tags, *companions], rows)
    unsure = torch.tensor([False] * count + [label in UNSURE for label in companions])
    usual_heights[:, unsure] = usual_heights[:, unsure].clamp(max=0)
    return expected_places(SHARPER * log_probabilities + lift * usual_heights, low, high)


def tag_losses(
    log_probabilities: Tensor,
    rows: Tensor,
    tags: Sequence[str],
    companions: Sequence[str],
    *,
    exhaustive: bool,
    **bounds: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """What an image's tags teach its places; the arguments are those of `guessed_places`.

    Returns the loss of places that all have a guess, the loss of the best places alone (one of the two is 0), and (P,)
    how likely each place shows a companion.
    """
    count, places, zero = len(tags), len(rows), torch.zeros(())
    # Without companions the rest may be anything: each tag claims half of its equal share, where it fits best.
    if not exhaustive and not companions:
        claimed = max(1, int(places / (count + 1) / 2))
        best = log_probabilities[:, :count].exp().topk(claimed, dim=0).values.mean(dim=0)
        return zero, -best.clamp(min=1e-6).log().mean(), torch.zeros(places)
    with torch.no_grad():
        guess = guessed_places(log_probabilities, rows, tags, companions, exhaustive=exhaustive, **bounds)
    weight = 1.0 if exhaustive else 0.6
    return -weight * (guess * log_probabilities).sum(dim=1).mean(), zero, guess[:, count:].sum(dim=1)
