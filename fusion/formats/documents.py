"""JSON files that grow: a list, or an object with one list that grows, a line per record. Memory does not grow."""

from __future__ import annotations

import json
from typing import IO, Any

from fusion.formats.record import Record


class JsonList:
    """A JSON list in an open file, a line per record."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._separator = b"[\n"

    def add(self, record: Record) -> None:
        """Write a record."""
        self.add_line(_dumped(record))

    def add_line(self, line: bytes) -> None:
        """Write an item that is JSON on one line already."""
        self._file.write(self._separator + line)
        self._separator = b",\n"

    def close(self) -> None:
        """Write the end."""
        self._file.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class JsonDocument:
    """A JSON object in an open file: what is known before, one list that grows, what comes after; a line per record."""

    def __init__(self, file: IO[bytes], head: dict[str, Any], growing: str) -> None:
        self._file = file
        separator = b"{"
        for key, value in head.items():
            file.write(separator + _dumped(key) + b": " + _listed(value))
            separator = b",\n"
        file.write(separator + _dumped(growing) + b": ")
        self._separator = b"[\n"

    def add(self, record: Record) -> None:
        """Write a record of the list."""
        self._file.write(self._separator + _dumped(record))
        self._separator = b",\n"

    def close(self, tail: dict[str, Any]) -> None:
        """Write what comes after the list, and the end."""
        self._file.write(b"[]" if self._separator == b"[\n" else b"\n]")
        for key, value in tail.items():
            self._file.write(b",\n" + _dumped(key) + b": " + _listed(value))
        self._file.write(b"}\n")


def _listed(value: Any) -> bytes:
    """JSON of a value; a list of records has a line for each."""
    if not isinstance(value, list) or not value:
        return _dumped(value)
    return b"[\n" + b",\n".join(map(_dumped, value)) + b"\n]"


def _dumped(value: Any) -> bytes:
    plain = value.to_json() if isinstance(value, Record) else value
    return json.dumps(plain, allow_nan=False).encode("ascii")
