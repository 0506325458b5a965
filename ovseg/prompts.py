"""Labels into text embeddings: label → synonyms × templates → prompts → one unit vector per label.

Each prompt's embedding is a unit vector; a name takes their mean, and a label that of its names, scaled to length one
again (CLIP's prompt ensembling, Radford et al. 2021, section 3.1.4). Or a label's names stay apart, and compete.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from reprlib import repr as shortened

import numpy as np
from numpy.typing import NDArray

from ovseg.labels import Label
from ovseg.templates import resolve_templates

# Cosine above which two labels are one to the model; texts that differ in an ending stay far below.
_SAME = 0.9999
_BLOCK = 1024  # labels that are compared with all others at once

log = logging.getLogger(__name__)


def fill(template: str, name: str) -> str:
    """`template` with `name` for `{}`: "an" before a vowel letter, no second article before "the moon"."""
    if re.match(r"(an?|the)\s", name, re.IGNORECASE):
        template = re.sub(r"\b(a|the) \{\}", "{}", template, flags=re.IGNORECASE)
    elif name[0].lower() in "aeiou":
        template = re.sub(r"\b(a) \{\}", r"\1n {}", template, flags=re.IGNORECASE)
    return template.replace("{}", name)


def names_of(labels: Sequence[Label]) -> list[str]:
    """All names of all labels: of each its own, then its synonyms."""
    return [name for label in labels for name in (label.name, *label.synonyms)]


def label_prompts(label: Label, templates: Sequence[str]) -> list[str]:
    """Every template filled with the label's name and with each of its synonyms."""
    return [fill(template, name) for name in names_of([label]) for template in templates]


def embed_names(
    names: Sequence[str],
    templates: Sequence[str],
    encode_text: Callable[[Sequence[str]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """(P, C) float32: for each of P names the mean over its prompts, which is shorter than 1 where these differ.

    `encode_text` turns N prompts into (N, C) unit vectors; it is called once, with all prompts.
    """
    vectors = encode_text([fill(template, name) for name in names for template in templates])  # (P T) x C
    means: NDArray[np.float32] = vectors.reshape(len(names), len(templates), -1).mean(axis=1)
    return means


def embed_labels(
    labels: Sequence[Label],
    templates: str | Sequence[str],
    encode_text: Callable[[Sequence[str]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """(L, C) float32, one unit vector per label: `embed_names`, then `mean_of_names`."""
    return mean_of_names(labels, embed_names(names_of(labels), resolve_templates(templates), encode_text))


def mean_of_names(labels: Sequence[Label], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(L, C) float32 unit vectors: the mean over the names of each label, of `vectors` (P, C), one per name.

    A warning names labels that are one to the model: which of them a pixel gets is chance.
    """
    counts = np.array([[1 + len(label.synonyms)] for label in labels], np.float32)
    embeddings = unit((np.add.reduceat(vectors, _firsts(labels), axis=0) / counts).astype(np.float32, copy=False))
    _warn_of_same(tuple(tuple(labels[index].name for index in group) for group in _same(embeddings)))
    return embeddings


def highest_of_names(labels: Sequence[Label], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(L, h, w) float32: at every patch the highest logit of a label's names; `logits` (P, h, w), one per name.

    The released code of SCLIP and NACLIP merges synonyms so.
    """
    highest: NDArray[np.float32] = np.maximum.reduceat(logits, _firsts(labels), axis=0)
    return highest


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """`vectors` (N, C), scaled to length one."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _firsts(labels: Sequence[Label]) -> NDArray[np.intp]:
    """(L,) where the names of each label begin."""
    return np.cumsum([0, *(1 + len(label.synonyms) for label in labels[:-1])])


def _same(embeddings: NDArray[np.float32]) -> list[list[int]]:
    """The groups of two or more rows of unit vectors (L, C) that are all but equal."""
    groups: dict[int, list[int]] = {}
    for start in range(0, len(embeddings), _BLOCK):
        is_close = embeddings[start : start + _BLOCK] @ embeddings.T > _SAME  # block x L
        for index, first in enumerate(is_close.argmax(axis=1), start):
            groups.setdefault(int(first), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


@lru_cache(maxsize=64)  # once for the same labels, not once for every image
def _warn_of_same(groups: tuple[tuple[str, ...], ...]) -> None:
    if groups:
        same = "; ".join(", ".join(map(shortened, names)) for names in groups)
        log.warning(
            "the model cannot tell these labels apart: %s (it may not know their letters, or cut them where they are "
            "the same); give one of them, with the others as its synonyms",
            same,
        )
