"""Texts about the toy world that differ in one word: names and captions that are nearly right."""

from __future__ import annotations

import re

import numpy as np

from toyworld.vocabulary import COLORS, GROUNDS, OBJECTS, PATTERNS, PLAIN, SKIES, SKY, SYNONYMS

_SKY_WORDS = tuple(name.removesuffix(f" {SKY}") for name in SKIES)


def _with_synonyms(kinds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for kind in kinds for word in (kind, *SYNONYMS.get(kind, ())))


_GROUPS = (
    tuple(COLORS),
    tuple(pattern for pattern in PATTERNS if pattern != PLAIN),
    _with_synonyms(OBJECTS),
    _with_synonyms(GROUNDS),
    _SKY_WORDS,
)
_GROUP_OF = {word: group for group in _GROUPS for word in group}
_KIND_OF = {synonym: kind for kind, synonyms in SYNONYMS.items() for synonym in synonyms}
# The longest names come first, so that "wheat field" is found before "wheat"; "sky" alone has no alternative.
_PARTS = re.compile(
    "|".join([*sorted((re.escape(word) for word in _GROUP_OF), key=len, reverse=True), r"[\w-]+", r"\W"])
)
_ARTICLE = re.compile(r"\ban? (?=(\w))")
# What names one thing: "red striped boat", "wheat field", "night sky".
_WORD = "|".join(sorted((re.escape(word) for word in (*_GROUP_OF, SKY)), key=len, reverse=True))
_PHRASE = re.compile(rf"\b(?:{_WORD})(?: (?:{_WORD}))*\b")


def phrases(text: str) -> tuple[str, ...]:
    """The names of things in a caption of the toy world, in its order: colours and patterns with their noun."""
    return tuple(_PHRASE.findall(text))


def _article(match: re.Match[str]) -> str:
    return "an " if match[1] in "aeiou" else "a "


def without_synonyms(text: str) -> str:
    """`text` with the kinds themselves in place of their synonyms."""
    return "".join(_KIND_OF.get(part, part) for part in _PARTS.findall(text))


def one_word_apart(text: str) -> tuple[str, ...]:
    """All texts in which one word (colour, pattern, kind of object, ground or sky) is another of its sort.

    Sorted; a synonym does not count as another word. Empty if no word of `text` can be changed.
    """
    parts = _PARTS.findall(text)
    texts = {
        _ARTICLE.sub(_article, "".join([*parts[:index], other, *parts[index + 1 :]]))
        for index, part in enumerate(parts)
        for other in _GROUP_OF.get(part, ())
        if _KIND_OF.get(other, other) != _KIND_OF.get(part, part)
    }
    return tuple(sorted(texts))


def draw_one_word_apart(text: str, count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """`count` texts of `one_word_apart`, drawn by lot; ValueError if there are fewer."""
    texts = one_word_apart(text)
    if len(texts) < count:
        raise ValueError(f"{text!r} has {len(texts)} texts that differ in one word, expected at least {count}")
    return tuple(texts[i] for i in rng.permutation(len(texts))[:count])
