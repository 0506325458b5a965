"""Sentences about a scene, or about a part of one: they name a random part of what is visible, in several forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from toyworld.vocabulary import GROUNDS, SKY, SYNONYMS

LEADS = (
    "",
    "",
    "a picture of ",
    "a drawing of ",
    "there is ",
    "a scene with ",
    "an illustration of ",
    "we see ",
)
CLOSINGS = ("", "", "", " in a picture book", " in a small world")
# How often a region goes by its full name, and how often its kind by a synonym.
FULL_NAMES, SYNONYM = 0.67, 0.25


class Caption(NamedTuple):
    """A sentence and what it claims."""

    text: str
    mentions: frozenset[str]  # full names and kinds, synonyms resolved; true of an image that shows them all


def draw_name(name: str, kind: str, rng: np.random.Generator, full_names: float = FULL_NAMES) -> tuple[str, str]:
    """A name for a region: (its full name or its kind, the same or with a synonym of the kind)."""
    meant = name if rng.random() < full_names else kind
    if kind in SYNONYMS and rng.random() < SYNONYM:
        return meant, meant.removesuffix(kind) + SYNONYMS[kind][rng.integers(len(SYNONYMS[kind]))]
    return meant, meant


def describe(
    names: Sequence[str],
    kinds: Sequence[str],
    rng: np.random.Generator,
    full_names: float = FULL_NAMES,
    *,
    every: bool = False,
) -> Caption:
    """One sentence about the regions of an image.

    names, kinds: of the visible regions, at least one: full names ("red striped boat") and kinds ("boat").
    A random subset is named (with `every`, all objects, a ground and a sky), each by its full name (with the
    probability `full_names`), its kind, or a synonym of that; with or without the ground and the sky.
    """
    regions = list(zip(names, kinds, strict=True))
    objects = [region for region in regions if region[1] not in GROUNDS and region[1] != SKY]
    grounds = [region for region in regions if region[1] in GROUNDS]
    skies = [region for region in regions if region[1] == SKY]
    mentions: set[str] = set()

    def mention(region: tuple[str, str]) -> str:
        resolved, name = draw_name(*region, rng, full_names)
        mentions.add(resolved)
        return name

    chosen = [objects[i] for i in rng.permutation(len(objects))] if objects else []
    if chosen and not every:
        chosen = chosen[: rng.integers(1, len(chosen) + 1)]
    things = [mention(region) for region in chosen]
    ground = mention(grounds[0]) if grounds and (every or rng.random() < 0.6 or not (chosen or skies)) else ""
    sky = mention(skies[0]) if skies and (every or rng.random() < 0.5 or not (chosen or ground)) else ""
    return Caption(_sentence(things, ground, sky, rng), frozenset(mentions))


def _sentence(things: list[str], ground: str, sky: str, rng: np.random.Generator) -> str:
    form = rng.integers(4)
    # A bare list of names, as users type labels.
    if form == 0:
        return ", ".join(filter(None, (*things, ground, sky)))
    objects = _join([_with_article(thing) for thing in things])
    heaven = _with_article(sky) if sky else ""
    if form == 1 and objects and (ground or sky):
        return f"{_join(list(filter(None, (ground, heaven))))} with {objects}"
    lead, closing = LEADS[rng.integers(len(LEADS))], CLOSINGS[rng.integers(len(CLOSINGS))]
    if not objects:
        return lead + (f"{ground} under {heaven}" if ground and sky else ground or heaven) + closing
    where = f" {('on', 'over', 'in front of')[rng.integers(3)]} {ground}" if ground else ""
    above = f" {('under', 'below')[rng.integers(2)]} {heaven}" if sky else ""
    return lead + objects + where + above + closing


def _with_article(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
