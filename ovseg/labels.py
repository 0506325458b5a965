"""The labels to look for: text, a label file or a list → checked tuple of `Label`, in the order given.

Names come out exactly as given, with white space around them trimmed: none is ever added or merged.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import yaml

from ground.paths import user_path
from ovseg.stuff import USUAL_STUFF
from ovseg.surroundings import is_auto, note_surroundings, surroundings_besides

# Says after a name what it is: "sky [stuff]", "sky [thing]".
_MARK = re.compile(r"\s*\[(stuff|thing)\]\s*$", re.IGNORECASE)
# Letters and signs that show nothing; unlike white space, Unicode does not count them as such.
_BLANK = set("\u115f\u1160\u2800\u3164\uffa0")

log = logging.getLogger(__name__)


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
        if not isinstance(self.stuff, bool):
            raise ValueError(f"stuff of {self.name!r} is {self.stuff!r}, expected true or false")
        if self.color is not None and not (isinstance(self.color, tuple) and _is_rgb(self.color)):
            raise ValueError(f"color of {self.name!r} is {self.color!r}, expected (r, g, b) with 0 to 255")

    def __str__(self) -> str:
        return self.name


# A label as `_checked` takes it, with where it was given: a Label, or the texts of its name and its synonyms.
_Entry = tuple[str, Label | list[str]]


def parse_labels(text: str) -> tuple[Label, ...]:
    """Labels of a comma-separated text such as "cat, grass, sky [stuff]"; see `as_labels`."""
    return as_labels(text.split(","))


def as_labels(labels: Sequence[str | Label], background: Sequence[str | Label] = ()) -> tuple[Label, ...]:
    """The labels followed by the background labels, trimmed and checked together.

    "[stuff]" or "[thing]" after a text says what it is. A text without is stuff if it is one of USUAL_STUFF, and a
    thing otherwise; a note is logged of those labels.

    "auto" as a background label, or in place of the list of them, stands for usual surroundings that no other label
    means (`ovseg.surroundings`); they come last, and a note says which they are.

    ValueError (naming the culprits) on no label at all, on one that is empty, that shows nothing, or that is no text,
    and on names given more than once, upper and lower case and what does not show aside.
    """
    if is_auto(background):
        background = (str(background),)
    for given in (labels, background):
        if isinstance(given, str):
            raise ValueError(f"labels are one text {given!r}, expected a list of names (see parse_labels)")
    if not labels:
        raise ValueError("no labels: give at least one name")
    wanted = [(f"label {i}", _entry(label)) for i, label in enumerate(labels, 1)]
    other = [(f"background label {i}", _entry(label)) for i, label in enumerate(background, 1) if not is_auto(label)]
    checked = _checked(wanted + other)
    if len(other) < len(background):
        checked += _surroundings(checked)
    _note_usual_stuff(wanted)
    return checked


def _surroundings(labels: Sequence[Label]) -> tuple[Label, ...]:
    """What "auto" stands for beside `labels`."""
    names = surroundings_besides(name for label in labels for name in (label.name, *label.synonyms))
    note_surroundings(names)
    return tuple(Label(name, stuff=True) for name in names)


def label_of(value: object, where: str) -> str | Label:
    """A label as JSON and YAML hold it: its text, or a mapping as in a label file (see `read_labels`).

    ValueError on another value; `where` names it in the error.
    """
    given = _of_value(where, value)
    return given if isinstance(given, Label) else given[0]


def read_labels(path: str | Path) -> tuple[Label, ...]:
    """Labels of a UTF-8 file.

    .txt, .names: one label a line, `name, synonym, synonym`, with "[stuff]" or "[thing]" as for `as_labels`; blank
    lines and `# comments` are skipped. .yaml, .yml, .json: a list of such names or of mappings with `name`, `synonyms`,
    `stuff`, `color` ("#rrggbb" or [r, g, b]). FileNotFoundError on a missing file, ValueError (with the line or entry)
    on anything that cannot be read.
    """
    path = user_path(path)
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"label file {path} must end in {', '.join(_READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no label file {path}")
    try:
        # -sig: a byte-order mark is no part of the first name.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"label file {path} is not UTF-8 text (byte {error.start})") from None
    entries = _READERS[path.suffix.lower()](text, str(path))
    if not entries:
        raise ValueError(f"label file {path} holds no label")
    checked = _checked(entries)
    _note_usual_stuff(entries)
    return checked


def _entry(label: str | Label) -> Label | list[str]:
    return [label] if isinstance(label, str) else label


def _checked(entries: Sequence[_Entry]) -> tuple[Label, ...]:
    """Trimmed labels of (where, label) pairs; `where` says in errors which one is meant."""
    labels = []
    places: dict[str, list[str]] = {}
    for where, given in entries:
        label = _of_texts(where, given) if isinstance(given, list) else given
        if not isinstance(label, Label):
            raise ValueError(f"{where} is {given!r}, expected text or a Label")
        names = [name.strip() for name in (label.name, *label.synonyms)]
        if not all(_shown(name) for name in names):
            raise ValueError(f"{where} has an empty name or synonym")
        if odd := [name for name in names if any("\ud800" <= sign <= "\udfff" for sign in name)]:
            raise ValueError(f"{where} is {odd[0]!r}, expected text that can be written as UTF-8")
        labels.append(replace(label, name=names[0], synonyms=tuple(names[1:])))
        same = _shown(unicodedata.normalize("NFC", names[0])).casefold()
        places.setdefault(same, []).append(f"{names[0]!r} ({where})")
    repeated = [", ".join(group) for group in places.values() if len(group) > 1]
    if repeated:
        raise ValueError(f"names given more than once: {'; '.join(repeated)}")
    return tuple(labels)


def _shown(name: str) -> str:
    """`name` without zero-width signs and the like; empty if it has nothing but these and white space."""
    seen = "".join(sign for sign in name if unicodedata.category(sign) not in ("Cf", "Cc") and sign not in _BLANK)
    return seen if any(unicodedata.category(sign)[0] not in "ZM" for sign in seen) else ""


def _of_texts(where: str, texts: Sequence[str]) -> Label:
    """Label of a name and its synonyms, one of which may say that it is stuff or a thing."""
    kinds = {mark[1].lower() for text in texts if (mark := _MARK.search(text))}
    if len(kinds) > 1:
        raise ValueError(f"{where} is marked as stuff and as a thing")
    name, *synonyms = (_MARK.sub("", text) for text in texts)
    return Label(name, tuple(synonyms), stuff="stuff" in kinds if kinds else _is_usual_stuff(texts))


def _is_usual_stuff(texts: Sequence[str]) -> bool:
    """Whether a name and its synonyms, without a mark, are stuff by its name."""
    return texts[0].strip().casefold() in USUAL_STUFF and not any(map(_MARK.search, texts))


def _note_usual_stuff(entries: Sequence[_Entry]) -> None:
    _note(tuple(given[0].strip() for _, given in entries if isinstance(given, list) and _is_usual_stuff(given)))


@lru_cache(maxsize=64)  # once for the same labels, not once for every image
def _note(names: tuple[str, ...]) -> None:
    if names:
        log.warning(
            'labels that usually are stuff count as that: %s; "%s [thing]" makes one a thing',
            ", ".join(names),
            names[0],
        )


def _read_lines(text: str, path: str) -> list[_Entry]:
    entries: list[_Entry] = []
    for number, line in enumerate(text.split("\n"), 1):
        # "C# code" is a name, " # ..." a comment.
        line = re.split(r"(?:^|\s)#", line, maxsplit=1)[0]
        if line.strip():
            entries.append((f"{path} line {number}", line.split(",")))
    return entries


def _read_yaml(text: str, path: str) -> list[_Entry]:
    return _listed(yaml.safe_load, text, path, "YAML")


def _read_json(text: str, path: str) -> list[_Entry]:
    return _listed(json.loads, text, path, "JSON")


def _listed(load: Callable[[str], Any], text: str, path: str, form: str) -> list[_Entry]:
    """The entries of the list that `load` finds in `text`."""
    try:
        values = load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"label file {path} is no {form}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"label file {path} is nested too deeply, expected a list of names or mappings") from None
    if not isinstance(values, list):
        raise ValueError(f"label file {path} holds {type(values).__name__}, expected a list of names or mappings")
    places = [f"{path} entry {i}" for i in range(1, len(values) + 1)]
    return [(where, _of_value(where, value)) for where, value in zip(places, values, strict=True)]


_READERS = {
    ".txt": _read_lines,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": _read_json,
    ".names": _read_lines,
}
SUFFIXES = tuple(_READERS)  # of label files


def _of_value(where: str, value: object) -> Label | list[str]:
    """Label of an entry of YAML or JSON: a name, or a mapping of Label's fields."""
    if isinstance(value, str):
        return [value]
    values: Mapping[Any, Any] = value if isinstance(value, Mapping) else {"name": value}
    known = [field.name for field in fields(Label)]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(map(shortened, unknown))}; known: {', '.join(known)}")
    name, synonyms, stuff = values.get("name"), values.get("synonyms", []), values.get("stuff", False)
    if not isinstance(name, str):
        # YAML reads an unquoted yes, no or 12 as something else.
        raise ValueError(f"{where}: name is {shortened(name)}, expected text (put it in quotes)")
    if not isinstance(synonyms, list) or not all(isinstance(synonym, str) for synonym in synonyms):
        raise ValueError(f"{where}: synonyms are {shortened(synonyms)}, expected a list of texts")
    if not isinstance(stuff, bool):
        raise ValueError(f"{where}: stuff is {shortened(stuff)}, expected true or false")
    color = values.get("color")
    return Label(name, tuple(synonyms), stuff, None if color is None else _color(where, color))


def _color(where: str, value: object) -> tuple[int, int, int]:
    """RGB of "#rrggbb" or [r, g, b]."""
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        value = list(bytes.fromhex(value[1:]))
    if not isinstance(value, list) or not _is_rgb(value):
        raise ValueError(f'{where}: color is {shortened(value)}, expected "#rrggbb" or [r, g, b] with 0 to 255')
    red, green, blue = value
    return red, green, blue


def _is_rgb(values: Sequence[object]) -> bool:
    return len(values) == 3 and all(type(value) is int and 0 <= value <= 255 for value in values)
