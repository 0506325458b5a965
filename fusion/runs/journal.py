"""The memory of a run: a line of JSON per image that is through, so that a killed run goes on where it stopped.

The first line names the configuration; each other one is appended, and on disk, only after the image's
outputs are. A line that was cut off by a kill is dropped when the journal is opened again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ground.files import write_bytes


@dataclass(frozen=True)
class Entry:
    """What became of one image."""

    source: str  # absolute path of the image file
    name: str  # stem of its outputs
    fingerprint: list[int]  # of the file at that time, see ImageFile
    status: str  # "done" | "failed"
    reason: str | None  # why it failed
    seconds: float  # wall time, reading and writing included


def start_journal(path: Path, config_hash: str) -> None:
    """A new journal in the place of any old one."""
    write_bytes(path, _line({"config_hash": config_hash}))


def append_entry(path: Path, entry: Entry, payload: dict[str, Any]) -> int:
    """Add a line with `entry` and what the outputs are assembled from later; returns where it starts, in bytes."""
    offset = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(_line({**asdict(entry), "payload": payload}))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.truncate(path, offset)  # no half of a line, when the disk is full
        raise
    return offset


def open_journal(path: Path) -> tuple[str | None, dict[int, Entry]]:
    """(the hash of its configuration, entries by the byte offset of their lines); (None, {}) if there is no journal.

    A damaged line and all after it are cut from the file: those images are done again.
    """
    if not path.is_file():
        return None, {}
    config_hash = None
    entries: dict[int, Entry] = {}
    offset = 0
    with path.open("r+b") as file:
        for line in file:
            try:
                values: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
                if config_hash is None:
                    config_hash = str(values["config_hash"])
                else:
                    entries[offset] = Entry(**{key: value for key, value in values.items() if key != "payload"})
            except (ValueError, TypeError, KeyError):
                break
            offset += len(line)
        file.truncate(offset)
    return config_hash, entries


def read_payload(path: Path, offset: int) -> dict[str, Any]:
    """The payload of the line at `offset`."""
    with path.open("rb") as file:
        file.seek(offset)
        return json.loads(file.readline())["payload"]


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"
