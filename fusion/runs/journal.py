"""The memory of a run: a line of JSON per image that is through, so that a killed run goes on where it stopped.

The first line names the configuration; each other one is appended, and on disk, only after the image's outputs are. A
line that was cut off by a kill is dropped when the journal is opened again. Entries also hold the image's ids in the
COCO files: they are given once, in the order in which images are finished, and stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from fusion.formats.schema import JournalEntry, JournalHead
from ground.files import write_bytes


def start_journal(path: Path, config_hash: str) -> None:
    """A new journal in the place of any old one."""
    write_bytes(path, JournalHead(config_hash=config_hash).to_bytes() + b"\n")


def append_entry(path: Path, entry: JournalEntry) -> None:
    """Add a line; on a full disk the journal stays as it was."""
    size = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(entry.to_bytes() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.truncate(path, size)
        raise


def open_journal(path: Path) -> tuple[str | None, dict[str, JournalEntry]]:
    """(the hash of its configuration, the latest entry of each source); (None, {}) if there is no journal.

    A damaged line and all after it are cut from the file: those images are done again.
    """
    if not path.is_file():
        return None, {}
    config_hash = None
    entries: dict[str, JournalEntry] = {}
    whole = 0  # bytes
    with path.open("r+b") as file:
        for line in file:
            try:
                if not line.endswith(b"\n"):
                    break
                if config_hash is None:
                    config_hash = JournalHead.from_bytes(line).config_hash
                else:
                    entry = JournalEntry.from_bytes(line)
                    entries[entry.source] = entry
            except ValueError:
                break
            whole += len(line)
        file.truncate(whole)
    return config_hash, entries


class Numbering:
    """Ids for the images of a run and their annotations: the next free ones, or those that an image has already.

    A run that was killed and went on gives the same ids as one that was not, and an image that is done again for the
    same configuration keeps its own, so that a panoptic PNG, which is made of ids, is never written twice.
    """

    def __init__(self, entries: Iterable[JournalEntry]) -> None:
        self._known = {entry.source: entry for entry in entries if entry.image_id}
        self._next_image = 1 + max((entry.image_id for entry in self._known.values()), default=0)
        ends = (entry.first_id + entry.num_annotations for entry in self._known.values())
        self._next_annotation = max(ends, default=1) or 1

    def image_id(self, source: str) -> int:
        """The id of the image of that file."""
        known = self._known.get(source)
        return self._next_image if known is None else known.image_id

    def first_id(self, source: str, num_annotations: int) -> int:
        """The id of the first of its annotations; 0 if it has none."""
        known = self._known.get(source)
        if num_annotations == 0:
            return 0
        if known is not None and known.num_annotations == num_annotations:
            return known.first_id
        return self._next_annotation

    def note(self, entry: JournalEntry) -> None:
        """Take the ids of a new entry for given."""
        if entry.image_id:
            self._known[entry.source] = entry
            self._next_image = max(self._next_image, entry.image_id + 1)
            self._next_annotation = max(self._next_annotation, entry.first_id + entry.num_annotations)
