"""Labels into text embeddings: label → synonyms × templates → prompts → one unit vector per label.

Each prompt's embedding is a unit vector; a label takes their mean, scaled to length one again (CLIP's prompt
ensembling, Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ovseg.labels import Label

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

    `encode_text` turns N prompts into (N, C) unit vectors; it is called once, with the prompts of all labels.
    """
    templates = resolve_templates(templates)
    prompts = [label_prompts(label, templates) for label in labels]
    vectors = encode_text([prompt for group in prompts for prompt in group])  # N x C
    ends = np.cumsum([len(group) for group in prompts])
    means = np.stack([group.mean(axis=0) for group in np.split(vectors, ends[:-1])])  # L x C
    return means / np.linalg.norm(means, axis=1, keepdims=True)
