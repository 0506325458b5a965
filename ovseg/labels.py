"""The labels to look for: text, a label file or a list → checked tuple of `Label`, in the order given.

Names come out exactly as given, with white space around them trimmed: none is ever added or merged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Label:
    """One thing to look for, and what is known about it."""

    name: str  # what the results are called
    synonyms: tuple[str, ...] = ()  # other names of the same thing; only used to find it
    stuff: bool = False  # an uncountable background such as sky (COCO's isthing = 0)
    color: tuple[int, int, int] | None = None  # RGB 0..255 to draw it in; None: chosen by the palette

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"label name is {self.name!r}, expected text")
        if not isinstance(self.synonyms, tuple) or not all(isinstance(name, str) for name in self.synonyms):
            raise ValueError(f"synonyms of {self.name!r} are {self.synonyms!r}, expected a tuple of texts")
        if self.color is not None and not _is_rgb(self.color):
            raise ValueError(f"color of {self.name!r} is {self.color!r}, expected (r, g, b) with 0 to 255")

    def __str__(self) -> str:
        return self.name


def parse_labels(text: str) -> tuple[Label, ...]:
    """Labels of a comma-separated text such as "cat, grass, sky"; ValueError as for `as_labels`."""
    return as_labels(text.split(","))


def as_labels(labels: Sequence[str | Label], background: Sequence[str | Label] = ()) -> tuple[Label, ...]:
    """The labels followed by the background labels, trimmed and checked together.

    ValueError (naming the culprits) on no label at all, on one that is empty or no text, and on names given
    more than once, upper and lower case aside.
    """
    for given in (labels, background):
        if isinstance(given, str):
            raise ValueError(f"labels are one text {given!r}, expected a list of names (see parse_labels)")
    if not labels:
        raise ValueError("no labels: give at least one name")
    return _checked(
        [(f"label {i}", label) for i, label in enumerate(labels, 1)]
        + [(f"background label {i}", label) for i, label in enumerate(background, 1)]
    )


def read_labels(path: str | Path) -> tuple[Label, ...]:
    """Labels of a UTF-8 file.

    .txt: one label a line, `name, synonym, synonym`; blank lines and `# comments` are skipped. .yaml / .yml:
    a list of names or of mappings with `name`, `synonyms`, `stuff`, `color` ("#rrggbb" or [r, g, b]).
    FileNotFoundError on a missing file, ValueError (with the line or entry) on anything that cannot be read.
    """
    path = Path(path).expanduser()
    readers = {".txt": _read_lines, ".yaml": _read_yaml, ".yml": _read_yaml}
    if path.suffix.lower() not in readers:
        raise ValueError(f"label file {path} must end in {', '.join(readers)}")
    if not path.is_file():
        raise FileNotFoundError(f"no label file {path}")
    try:
        # -sig: a byte-order mark is no part of the first name.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"label file {path} is not UTF-8 text (byte {error.start})") from None
    entries = readers[path.suffix.lower()](text, str(path))
    if not entries:
        raise ValueError(f"label file {path} holds no label")
    return _checked(entries)


def _checked(entries: Sequence[tuple[str, str | Label]]) -> tuple[Label, ...]:
    """Trimmed labels of (where, label) pairs; `where` says in errors which one is meant."""
    labels = []
    places: dict[str, list[str]] = {}
    for where, given in entries:
        label = Label(given) if isinstance(given, str) else given
        if not isinstance(label, Label):
            raise ValueError(f"{where} is {given!r}, expected text or a Label")
        names = [name.strip() for name in (label.name, *label.synonyms)]
        if not all(names):
            raise ValueError(f"{where} has an empty name or synonym")
        labels.append(replace(label, name=names[0], synonyms=tuple(names[1:])))
        same = unicodedata.normalize("NFC", names[0]).casefold()
        places.setdefault(same, []).append(f"{names[0]!r} ({where})")
    repeated = [", ".join(group) for group in places.values() if len(group) > 1]
    if repeated:
        raise ValueError(f"names given more than once: {'; '.join(repeated)}")
    return tuple(labels)


def _read_lines(text: str, path: str) -> list[tuple[str, Label]]:
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        # "C# code" is a name, " # ..." a comment.
        line = re.split(r"(?:^|\s)#", line, maxsplit=1)[0]
        if line.strip():
            name, *synonyms = line.split(",")
            entries.append((f"{path} line {number}", Label(name, tuple(synonyms))))
    return entries


def _read_yaml(text: str, path: str) -> list[tuple[str, Label]]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"label file {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, list):
        raise ValueError(f"label file {path} holds {type(values).__name__}, expected a list of names or mappings")
    places = [f"{path} entry {i}" for i in range(1, len(values) + 1)]
    return [(where, _yaml_label(where, value)) for where, value in zip(places, values, strict=True)]


def _yaml_label(where: str, value: object) -> Label:
    """Label of a YAML entry: a name or a mapping of Label's fields."""
    values: Mapping[Any, Any] = value if isinstance(value, Mapping) else {"name": value}
    known = [field.name for field in fields(Label)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    name, synonyms, stuff = values.get("name"), values.get("synonyms", []), values.get("stuff", False)
    if not isinstance(name, str):
        # YAML reads an unquoted yes, no or 12 as something else.
        raise ValueError(f"{where}: name is {name!r}, expected text (put it in quotes)")
    if not isinstance(synonyms, list) or not all(isinstance(synonym, str) for synonym in synonyms):
        raise ValueError(f"{where}: synonyms are {synonyms!r}, expected a list of texts")
    if not isinstance(stuff, bool):
        raise ValueError(f"{where}: stuff is {stuff!r}, expected true or false")
    color = values.get("color")
    return Label(name, tuple(synonyms), stuff, None if color is None else _color(where, color))


def _color(where: str, value: object) -> tuple[int, int, int]:
    """RGB of "#rrggbb" or [r, g, b]."""
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        value = list(bytes.fromhex(value[1:]))
    if not isinstance(value, list) or not _is_rgb(value):
        raise ValueError(f'{where}: color is {value!r}, expected "#rrggbb" or [r, g, b] with 0 to 255')
    red, green, blue = value
    return red, green, blue


def _is_rgb(values: Sequence[object]) -> bool:
    return len(values) == 3 and all(type(value) is int and 0 <= value <= 255 for value in values)
