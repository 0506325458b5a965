"""A COCO file of anybody's → its entries one by one, each with its very text, so that what is kept stays as it was."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LISTS = ("images", "annotations", "categories")
_SPACE = re.compile("[ \t\n\r]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Entry:
    """An entry of a list."""

    value: dict[str, Any]
    text: str  # as it stands in the file


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A file, and where its members are; its text is read again whenever something of it is asked for."""

    path: Path
    places: Mapping[str, slice]  # key → where its value stands
    digest: bytes  # of the text

    def entries(self, key: str) -> Iterator[Entry]:
        """The entries of one of LISTS, in order; none if there is no such list."""
        if key in self.places:
            text = self._text()
            for value, place in _items(text, self.places[key].start):
                yield Entry(value, text[place])

    def raw(self, key: str) -> str:
        """The text of a member."""
        return self._text()[self.places[key]]

    def _text(self) -> str:
        text, digest = _read(self.path)
        if digest != self.digest:
            raise ValueError(f"{self.path} was changed while it was read")
        return text


def read_coco(path: Path) -> CocoFile:
    """The file, checked as far as its ids are used. Its text is in memory meanwhile; entries are decoded one at a time.

    FileNotFoundError if there is none; ValueError, in one line, unless it is an object with lists of images and
    categories (annotations may be missing) whose entries have the ids and names that COCO says.
    """
    if not path.exists():
        raise FileNotFoundError(f"no COCO file {path}")
    try:
        text, digest = _read(path)
        places = _members(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no COCO file: {_reason(error)}") from None
    file = CocoFile(path, places, digest)
    for key in LISTS:
        if key not in places and key != "annotations":
            raise ValueError(f"{path} is no COCO file: it has no {key}")
        if key not in places:
            continue
        if text[places[key].start] != "[":
            raise ValueError(f"{path} is no COCO file: {key} are {reprlib.repr(text[places[key]])}, expected a list")
        for number, (value, _) in enumerate(_items(text, places[key].start), start=1):
            _check(file, f"{key} {number}", value, _NEEDED[key])
    return file


def _read(path: Path) -> tuple[str, bytes]:
    """(text, digest) of a file."""
    data = path.read_bytes()
    return data.decode("utf-8-sig"), hashlib.sha256(data).digest()


# What an entry of a list must have, of what kind.
_NEEDED: Mapping[str, Mapping[str, type]] = {
    "images": {"id": int, "file_name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int},
    "categories": {"id": int, "name": str},
}


def _check(file: CocoFile, where: str, value: object, needed: Mapping[str, type]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{file.path} is no COCO file: {where} is {reprlib.repr(value)}, expected an object")
    for key, kind in needed.items():
        found = value.get(key)
        if type(found) is not kind:
            expected = "a whole number" if kind is int else "text"
            raise ValueError(
                f"{file.path} is no COCO file: {where} has {key} {reprlib.repr(found)}, expected {expected}"
            )


def _members(text: str) -> dict[str, slice]:
    """Where the values of an object's members stand. ValueError unless `text` is JSON of one object."""
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("it holds no object")
    places: dict[str, slice] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        if places:
            at = _skip(text, _after(text, at, ","))
        key, at = _DECODER.raw_decode(text, at)
        if not isinstance(key, str):
            raise ValueError(f"expected a name at character {at}")
        start = _skip(text, _after(text, _skip(text, at), ":"))
        if text[start : start + 1] == "[":
            end = start + 1
            for _, place in _items(text, start):
                end = place.stop
            end = _after(text, _skip(text, end), "]")
        else:
            _, end = _DECODER.raw_decode(text, start)
        places[key] = slice(start, end)
        at = _skip(text, end)
    if _skip(text, at + 1) != len(text):
        raise ValueError(f"something follows its end at character {at + 1}")
    return places


def _items(text: str, start: int) -> Iterator[tuple[Any, slice]]:
    """The items of the list that begins at `start`, and where they stand; one is decoded at a time."""
    at = _skip(text, start + 1)
    while text[at : at + 1] != "]":
        value, end = _DECODER.raw_decode(text, at)
        yield value, slice(at, end)
        at = _skip(text, end)
        if text[at : at + 1] != "]":
            at = _skip(text, _after(text, at, ","))
            if text[at : at + 1] == "]":
                raise ValueError(f"expected an item at character {at}")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _after(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"expected {sign!r} at character {at}")
    return at + 1


def _reason(error: Exception) -> str:
    return "JSON of too many levels" if isinstance(error, RecursionError) else str(error)
