"""Names of drawings and models → plain nouns, by WordNet: "Deck chair" → deck chair, "Concept Sedan 02" → car."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from training.free.plain import PLAIN


def listed(text: str) -> tuple[str, ...]:
    """The words of a text, which commas part."""
    return tuple(text.split(", "))


# The names of WordNet's files of nouns, as lexnames(5) numbers them.
TOPS, ANIMAL, ARTIFACT, FOOD, OBJECT, PERSON, PLANT = 3, 5, 6, 13, 17, 18, 20
THINGS = (ANIMAL, ARTIFACT, FOOD, OBJECT, PERSON, PLANT)
# A noun counts as one of a kind if one of its so many commonest senses is.
SENSES = 4

# Of these the person is meant, though there are other things of the name.
PERSONS = frozenset(("man", "woman", "boy", "girl", "person", "baby", "child"))
# Nouns that say where, how or of what kind something is; they name nothing by themselves.
NO_NAMES = frozenset(
    listed(
        "right, left, front, back, side, top, bottom, cover, link, rail, station, pick, pad, light, office, chart, "
        "construction, hole, head, face, hand, worker, adult, lifter, polo, object, item, thing, part, piece, set, "
        "kind, stand, device, unit, equipment"
    )
)
# Broad words for what WordNet counts below them, each with the field of the sense that is meant.
BROAD: dict[str, int] = {
    **dict.fromkeys(("bird", "fish", "insect", "dog", "cat", "animal"), ANIMAL),
    **dict.fromkeys(("flower", "tree", "plant", "fruit"), PLANT),
    **dict.fromkeys(("vegetable", "food"), FOOD),
    "person": PERSON,
    **dict.fromkeys(("car", "boat", "airplane", "vehicle", "building", "chair", "furniture"), ARTIFACT),
    **dict.fromkeys(("musical instrument", "tool", "clothing"), ARTIFACT),
}


@dataclass(frozen=True)
class Noun:
    """A noun that names a thing."""

    word: str  # plain and singular, words apart by spaces
    broad: tuple[str, ...]  # of BROAD, what is above it
    depth: int  # how many steps it is below the root: the more, the more specific


class Nouns:
    """The nouns of a WordNet folder, which holds index.noun and data.noun in the format of wndb(5)."""

    def __init__(self, folder: Path) -> None:
        self.senses: dict[str, list[int]] = {}
        self.above: dict[int, list[int]] = {}
        self.field: dict[int, int] = {}
        self.words: dict[int, list[str]] = {}  # of a sense, by its offset
        for line in _lines(folder / "index.noun"):
            words = line.split()
            self.senses[words[0]] = [int(word) for word in words[-int(words[2]) :]]
        for line in _lines(folder / "data.noun"):
            words = line.partition("|")[0].split()
            offset = int(words[0])
            self.field[offset] = int(words[1])
            self.words[offset] = [word.lower().replace("_", " ") for word in words[4 : 4 + 2 * int(words[3], 16) : 2]]
            self.above[offset] = [int(after) for mark, after in pairwise(words) if mark in ("@", "@i")]
        senses = {word: self._senses(word, (TOPS, field)) for word, field in BROAD.items()}
        self.broad = {found[0]: word for word, found in senses.items() if found}

    def noun(self, text: str, fields: Collection[int] = THINGS) -> Noun | None:
        """The longest noun that ends `text` and names a thing of `fields`, in plain words; None if there is none."""
        words = re.sub(r"[^a-z' -]", " ", text.lower().replace("_", " ")).split()
        for first in range(len(words)):
            for phrase in _singulars(" ".join(words[first:])):
                word = PLAIN.get(phrase, phrase)
                offset = self._sense(word, fields)
                if offset is None and word in PLAIN.values():
                    offset = self._sense(word.split()[-1], fields)
                if offset is not None and word not in NO_NAMES:
                    chain = self.chain(offset)
                    broad = tuple(self.broad[up] for up in chain if up in self.broad and self.broad[up] != word)
                    return Noun(word, broad, len(chain))
        return None

    def _sense(self, word: str, fields: Collection[int]) -> int | None:
        """The commonest sense of `word` among `fields`; persons come last, as many tools are named like them."""
        senses = self._senses(word, fields)
        return min(senses, key=lambda s: (self.field[s] == PERSON) != (word in PERSONS)) if senses else None

    def _senses(self, word: str, fields: Collection[int]) -> list[int]:
        """The senses of `word` among `fields`, the commonest first."""
        return [s for s in self.senses.get(word.replace(" ", "_"), [])[:SENSES] if self.field[s] in fields]

    def chain(self, offset: int) -> list[int]:
        """`offset` and what is above it, the nearest first."""
        chain = [offset]
        for up in chain:
            chain += [above for above in self.above[up] if above not in chain]
        return chain


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: expected a folder of WordNet with index.noun and data.noun")
    return [line for line in path.read_text(encoding="latin-1").splitlines() if not line.startswith("  ")]


def _singulars(phrase: str) -> list[str]:
    """The phrase itself and what it may be the plural of."""
    found = [phrase]
    for ending, single in (("ies", "y"), ("ves", "f"), ("es", ""), ("s", "")):
        if phrase.endswith(ending) and len(phrase) > len(ending) + 2 and not phrase.endswith("ss"):
            found.append(phrase[: -len(ending)] + single)
    return found
