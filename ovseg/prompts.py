"""Labels into text embeddings: label → synonyms × templates → prompts → one unit vector per label.

Each prompt's embedding is a unit vector; a label takes their mean, scaled to length one again (CLIP's prompt
ensembling, Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import cache
from reprlib import repr as shortened

import numpy as np
from numpy.typing import NDArray

from ovseg.labels import Label

# Cosine above which two labels are one to the model; texts that differ in an ending stay far below.
_SAME = 0.9999
_BLOCK = 1024  # labels that are compared with all others at once

log = logging.getLogger(__name__)

TEMPLATES: dict[str, tuple[str, ...]] = {
    "photo": (
        "a photo of a {}",
        "a photo of the {}",
        "a close photo of a {}",
        "a photo of a large {}",
        "a photo of a small {}",
        "a photo of a scene with a {}",
        "a photo of a part of a {}",
    ),
    "simple": ("a {}",),
    "toy": (
        "{}",
        "a {}",
        "a picture of a {}",
        "a drawing of a {}",
        "an illustration of a {}",
        "a scene with a {}",
        "there is a {}",
    ),
}


TEMPLATES_EXPECTED = f"one of {', '.join(TEMPLATES)}, or a list of texts that hold {{}} once each"


def are_templates(value: object) -> bool:
    """Whether `value` names a set of TEMPLATES, or is a list or tuple of templates: texts with `{}` exactly once."""
    if isinstance(value, str):
        return value in TEMPLATES
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(template, str) and template.count("{}") == 1 for template in value)
    )


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of a named set, or the given ones; ValueError if they are neither."""
    if not are_templates(templates):
        raise ValueError(f"templates is {templates!r}, expected {TEMPLATES_EXPECTED}")
    return TEMPLATES[templates] if isinstance(templates, str) else tuple(templates)


def fill(template: str, name: str) -> str:
    """`template` with `name` for `{}`: "an" before a vowel letter, no second article before "the moon"."""
    if re.match(r"(an?|the)\s", name, re.IGNORECASE):
        template = re.sub(r"\b(a|the) \{\}", "{}", template, flags=re.IGNORECASE)
    elif name[0].lower() in "aeiou":
        template = re.sub(r"\b(a) \{\}", r"\1n {}", template, flags=re.IGNORECASE)
    return template.replace("{}", name)


def label_prompts(label: Label, templates: Sequence[str]) -> list[str]:
    """Every template filled with the label's name and with each of its synonyms."""
    return [fill(template, name) for name in (label.name, *label.synonyms) for template in templates]


def embed_labels(
    labels: Sequence[Label],
    templates: str | Sequence[str],
    encode_text: Callable[[Sequence[str]], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """(L, C) float32, one unit vector per label.

    `encode_text` turns N prompts into (N, C) unit vectors; it is called once, with the prompts of all labels. A warning
    names labels that are one to the model: which of them a pixel gets is chance.
    """
    templates = resolve_templates(templates)
    prompts = [label_prompts(label, templates) for label in labels]
    vectors = encode_text([prompt for group in prompts for prompt in group])  # N x C
    ends = np.cumsum([len(group) for group in prompts])
    means = np.stack([group.mean(axis=0) for group in np.split(vectors, ends[:-1])])  # L x C
    embeddings = means / np.linalg.norm(means, axis=1, keepdims=True)
    _warn_of_same(tuple(tuple(labels[index].name for index in group) for group in _same(embeddings)))
    return embeddings


def _same(embeddings: NDArray[np.float32]) -> list[list[int]]:
    """The groups of two or more rows of unit vectors (L, C) that are all but equal."""
    groups: dict[int, list[int]] = {}
    for start in range(0, len(embeddings), _BLOCK):
        is_close = embeddings[start : start + _BLOCK] @ embeddings.T > _SAME  # block x L
        for index, first in enumerate(is_close.argmax(axis=1), start):
            groups.setdefault(int(first), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


@cache  # once for the same labels, not once for every image
def _warn_of_same(groups: tuple[tuple[str, ...], ...]) -> None:
    if groups:
        same = "; ".join(", ".join(map(shortened, names)) for names in groups)
        log.warning(
            "the model cannot tell these labels apart: %s (it may not know their letters, or cut them where they are "
            "the same); give one of them, with the others as its synonyms",
            same,
        )
