"""What a photograph's tags teach: the words that it shows, may show and does not show, and where they are likely to be.

What each place shows is guessed from what the head believes so far, with every tag's share of the picture kept in
bounds, and then learned (multiple-instance learning by expectation and maximisation).
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

TEMPLATES = "photo"  # of the words, as in the preset
TELLS_ALL = 3.0  # tags on average: pictures of such a source show nothing that its other pictures' tags would name
FIGURE = 0.5  # of a picture is what its tags tell, if all they tell is worn
FALLING, SLACK = 0.6, 1.25  # each tag of such a picture fills about 0.6 of what the one before it does, give or take
FULL_NAMES, RIVALS = 0.3, 48  # how often a scene's regions go by their full names, and names of others tried then


class Words:
    """All words that take part, as unit vectors, and which of them a picture shows, may show and does not show."""

    def __init__(self, photos: Sequence[Photo], backbone: Backbone) -> None:
        self.used: dict[str, dict[str, int]] = {}  # source -> tag -> pictures
        totals: dict[str, int] = {}
        specific: dict[str, int] = {}
        for photo in photos:
            tags = self.used.setdefault(photo.source, {})
            for tag in photo.tags:
                tags[tag] = tags.get(tag, 0) + 1
            totals[photo.source] = totals.get(photo.source, 0) + 1
            specific[photo.source] = specific.get(photo.source, 0) + len(set(photo.tags) - BROAD)
        self.names = list(dict.fromkeys(name for photo in photos for name in photo.names if name not in photo.tags))
        self.pictures = totals
        self.telling = {source for source, count in totals.items() if specific[source] >= TELLS_ALL * count}
        self.telling |= {photo.source for photo in photos if photo.names}
        known = [word for entry in (SYNONYMS, COMPANIONS) for key, words in entry.items() for word in (key, *words)]
        tags_of_all = [tag for tags in self.used.values() for tag in tags]
        self.words = list(dict.fromkeys([*tags_of_all, *known, *self.names]))
        self.index = {word: i for i, word in enumerate(self.words)}
        self.embeddings = embed_words(self.words, backbone)  # V x C
        # These may be anywhere without a tag: what scenes are made of, and what sources with several tags name.
        several = {tag for source in totals if specific[source] > totals[source] for tag in self.used[source]}
        self.common = {*known, *several, *BROAD}

    def wanted(self, photo: Photo, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """The tags to look for in the picture, either the broad ones or the others, and what may be beside them.

        Of a scene all tags, or at times the full names.
        """
        if photo.names:
            return list(photo.names if rng.random() < FULL_NAMES else photo.tags), []
        worn = not WORN.isdisjoint(photo.tags)
        broad = [tag for tag in photo.tags if tag in BROAD or (tag == "person" and worn)]
        specific = [tag for tag in photo.tags if tag not in broad]
        tags = broad if not specific or (broad and rng.random() < 0.25) else specific
        return tags, self.beside(photo)

    def beside(self, photo: Photo) -> list[str]:
        """What may be in the picture besides its tags; if those tell all, what is behind those who wear it."""
        tags = [tag for tag in photo.tags if tag in WORN or photo.source not in self.telling]
        said = {*photo.tags, *(word for tag in photo.tags for word in SYNONYMS.get(tag, ()))}
        return [word for word in dict.fromkeys(w for tag in tags for w in COMPANIONS.get(tag, ())) if word not in said]

    def absent(self, photo: Photo) -> Tensor:
        """(V,) bool: the words that the picture does not show.

        Either its source tells all it shows and names the word in others of its pictures, or the word belongs to other
        places than its tags do, or nobody names it but sources with a single tag a picture: a thing by itself, not what
        scenes are made of. Of the last, words near in meaning to a tag are left out.
        """
        used, count = self.used[photo.source], self.pictures[photo.source]
        shown = [*photo.tags, *self.beside(photo)]
        said = {word for tag in shown for word in (tag, *SYNONYMS.get(tag, ()))} | {*photo.names}
        elsewhere = {word for tag in photo.tags for word in ELSEWHERE.get(tag, ())}
        near = self.embeddings @ self.embeddings[[self.index[tag] for tag in photo.tags]].T > 0.55
        unlike = (~near.any(dim=1)).tolist()
        names = frozenset(self.names)
        absent = torch.zeros(len(self.words), dtype=torch.bool)
        for i, word in enumerate(self.words):
            if word in said or any(synonym in photo.tags for synonym in SYNONYMS.get(word, ())):
                continue
            if word in names:
                absent[i] = bool(photo.names)
                continue
            named = photo.source in self.telling and used.get(word, 0) > 0.05 * count
            absent[i] = named or word in elsewhere or (unlike[i] and word not in used and word not in self.common)
        return absent

    def rivals(self, photo: Photo, tags: Sequence[str], rng: np.random.Generator) -> list[int]:
        """Indices of the words to tell the tags apart from above all, were they absent: names, if the tags are such."""
        rivals = [word for tag in photo.tags for word in ELSEWHERE.get(tag, ())]
        if photo.source in self.telling:
            rivals += self.used[photo.source]
        if tags and photo.names == tuple(tags):
            rivals += [self.names[i] for i in rng.permutation(len(self.names))[:RIVALS]]
        return [self.index[word] for word in rivals]

    def said_as(self, word: str, rng: np.random.Generator) -> int:
        """Index of the word itself or, at times, of one of its synonyms."""
        others = SYNONYMS.get(word, ())
        return self.index[others[rng.integers(len(others))] if others and rng.random() < 0.4 else word]


def embed_words(words: Sequence[str], backbone: Backbone) -> Tensor:
    """(N, C) unit embeddings, each the mean over the preset's templates."""
    return torch.from_numpy(embed_labels([Label(word) for word in words], TEMPLATES, backbone.encode_text))


def expected_places(beliefs: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(P, N): the share of each of N tags at each of P places, summing to 1 at a place.

    `beliefs` (P, N) are logits. The sum over places of a tag is pulled between `low` and `high` (N,), by turns with the
    sum at each place, as Sinkhorn's algorithm does for equalities.
    """
    shares = beliefs.softmax(dim=1)
    for _ in range(6):
        totals = shares.sum(dim=0).clamp(min=1e-6)
        shares = shares * (low / totals).clamp(min=1) * (high / totals).clamp(max=1)
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares


def heights_of(words: Sequence[str], rows: Tensor) -> Tensor:
    """(P, N): 1 to -1, how well each word goes with how far down the places are; `rows` (P,) 0 (top) to 1."""
    usual = torch.tensor([HEIGHTS.get(word, 0) for word in words], dtype=torch.float32)
    return (1 - 2 * rows)[:, None] * usual


def tag_losses(
    log_probabilities: Tensor,
    rows: Tensor,
    tags: Sequence[str],
    beside: Sequence[str],
    *,
    tells_all: bool,
    lift: float = 0.0,
    falling: float = FALLING,
    slack: float = SLACK,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a picture's tags teach its places.

    `log_probabilities` (P, N) of the tags and the words beside, among all words that take part; `rows` (P,); `lift`
    is what the usual heights weigh. If the tags tell all, each fills about `falling` of what the one before it does,
    give or take a factor `slack`. Returns the loss of places that all have a guess, the loss of the best places alone
    (one of the two is 0), and (P,) how likely each place shows something beside the tags.
    """
    count, places, zero = len(tags), len(rows), torch.zeros(())
    equal = places / (count if tells_all else count + 1)
    if not tells_all and not beside:  # the rest may be anything: each tag claims half of its share
        best = log_probabilities[:, :count].exp().topk(max(1, int(equal / 2)), dim=0).values.mean(dim=0)
        return zero, -best.clamp(min=1e-6).log().mean(), torch.zeros(places)
    low, high = torch.zeros(count + len(beside)), torch.full((count + len(beside),), float(places))
    if tells_all:  # the tag that comes first fills most
        usual = falling ** torch.arange(count)
        usual *= places * (FIGURE if beside else 1) / usual.sum()
        low[:count], high[:count] = usual / slack, usual * slack
    else:
        low[:count] = equal / 2
    with torch.no_grad():
        usual_heights = heights_of([*tags, *beside], rows)
        unsure = torch.tensor([False] * count + [word in UNSURE for word in beside])
        usual_heights[:, unsure] = usual_heights[:, unsure].clamp(max=0)
        guess = expected_places(1.5 * log_probabilities + lift * usual_heights, low, high)
    weight = 1.0 if tells_all else 0.6
    return -weight * (guess * log_probabilities).sum(dim=1).mean(), zero, guess[:, count:].sum(dim=1)
