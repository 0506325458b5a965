"""The fields of a request: text of a form, or values of JSON → arguments of `Service.spec`, each declared once.

Text is only ever text: a label that looks like a path names no file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from emerdiff.speed import Speed
from fusion.step.choices import FuseRule, MaskSource
from ground.checks import MAX_SEED
from ground.choices import Choice
from ovseg.labels import Label, label_of

_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w=.+-]+)*;base64,", re.ASCII)
MAX_FILE_NAME = 200  # letters
# Of labels, before they are looked at one by one: `Limits` says how many may be asked for.
_MAX_TEXT, _MAX_LIST = 1_000_000, 10_000


@dataclass(frozen=True)
class Field:
    """A field of a request."""

    about: str
    schema: Mapping[str, Any]  # JSON Schema of its value
    read: Callable[[str, Any], Any]  # (name, value of JSON or text of a form) → argument; ValueError on a bad one


def labels_of(name: str, value: object) -> list[str | Label]:
    """Labels of a text such as "cat, grass, sky [stuff]", or of a list of names and mappings."""
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise ValueError(f"{name} has {len(value)} letters, expected {_MAX_TEXT} at most")
        stripped = value.strip()
        if not stripped.startswith("["):
            return list(value.split(",")) if stripped else []
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} begins as a list of JSON and is none: {error}") from None
    if not isinstance(value, list):
        raise ValueError(f"{name} is {_short(value)}, expected text or a list of names and mappings")
    if len(value) > _MAX_LIST:
        raise ValueError(f"{name} has {len(value)} entries, expected {_MAX_LIST} at most")
    return [label_of(one, f"{name} {number}") for number, one in enumerate(value, start=1)]


def image_of(name: str, value: object) -> bytes:
    """The bytes of an image file: an uploaded one, base64, or a data URI."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_short(value)}, expected an image file or its base64")
    match = _DATA_URI.match(value[:100])
    try:
        return base64.b64decode("".join(value[match.end() if match else 0 :].split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is no base64 of an image file") from None


def file_name_of(name: str, value: object) -> str:
    """The last part of a file's name: what the COCO file says, and no path of anybody's machine."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_short(value)}, expected text")
    last = re.split(r"[/\\]", value)[-1].replace("\0", "").encode("utf-8", "replace").decode("utf-8").strip()
    return last[-MAX_FILE_NAME:] if last.strip(".") else "image"


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_short(value)}, expected text")
    return value


def _whole(name: str, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,18}\s*", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {_short(value)}, expected a whole number")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {_short(value)}, expected a number")
    return value


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _choice(kind: type[Choice]) -> dict[str, Any]:
    return {"type": "string", "enum": list(kind.values())}


_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_LABELS = {
    "oneOf": [
        {"type": "string", "example": "cat, grass, sky [stuff]"},
        {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "object"}]}},
    ]
}

LABEL_FIELDS: dict[str, Field] = {
    "labels": Field(
        'What to look for: text such as "cat, grass, sky [stuff]", or a list of names and of objects with name, '
        "synonyms, stuff, color. Default: the labels that the server was begun with.",
        _LABELS,
        labels_of,
    ),
    "background": Field(
        "Labels whose pixels become other. auto among them: usual surroundings, but for what is asked for.",
        _LABELS,
        labels_of,
    ),
    "fuse": Field("How masks get labels.", _choice(FuseRule), _text),
    "min_score": Field("Masks of a lower mean score become other.", _SHARE, _number),
    "min_margin": Field("Masks won by a smaller margin become other.", _SHARE, _number),
    "min_area": Field(
        "Smaller components (px) go to the label around them.", {"type": "integer", "minimum": 0}, _whole
    ),
}
MASK_FIELDS: dict[str, Field] = {
    "masks": Field("Where masks come from; none: CLIP alone.", _choice(MaskSource), _text),
    "speed": Field("How much of EmerDiff is computed.", _choice(Speed), _text),
    "clusters": Field("Masks per image (K).", {"type": "integer", "minimum": 1}, _whole),
    "seed": Field("Of the noise.", {"type": "integer", "minimum": 0, "maximum": MAX_SEED}, _whole),
}
IMAGE_FIELDS: dict[str, Field] = {
    "image": Field(
        "An image file; in JSON its base64, or a data URI.", {"type": "string", "format": "binary"}, image_of
    ),
    "file_name": Field(
        "What the COCO file calls the image. Default: the name of the uploaded file.", {"type": "string"}, file_name_of
    ),
}
TOKEN_FIELDS: dict[str, Field] = {
    "mask_token": Field("What an earlier answer said.", {"type": "string"}, _text),
    "file_name": IMAGE_FIELDS["file_name"],
}
SEGMENT_FIELDS = {**IMAGE_FIELDS, **LABEL_FIELDS, **MASK_FIELDS}
RELABEL_FIELDS = {**TOKEN_FIELDS, **LABEL_FIELDS}


def read_fields(given: Iterable[tuple[str, Any]], known: Mapping[str, Field]) -> dict[str, Any]:
    """Names and values of a request as arguments; null, and empty text of a form, is not given.

    ValueError, in one line, on an unknown or repeated field, and on a bad value.
    """
    values: dict[str, Any] = {}
    for name, value in given:
        if name not in known:
            raise ValueError(f"unknown field {_short(name)}; known: {', '.join(known)}")
        if name in values:
            raise ValueError(f"field {name} is given more than once")
        if value is not None and (value != "" or name in ("background", "labels")):
            values[name] = known[name].read(name, value)
    return values
