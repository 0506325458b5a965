"""The memory of a run: a line of JSON per image that is through, so that a killed run goes on where it stopped.

The first line names the configuration; each other one is appended, and on disk, only after the image's outputs are. A
line that was cut off by a kill is dropped when the journal is opened again. Entries also hold the image's ids in the
COCO files: they are given once, in the order in which images are finished, and stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fusion.formats.record import Record
from fusion.formats.schema import JOURNAL, JournalEnd, JournalEntry, JournalHead
from ground.files import open_own, write_bytes
from ground.video import split_frame


@dataclass(frozen=True)
class Lines:
    """The lines of a journal up to the first damaged one."""

    head: JournalHead | None = None  # None: there is no journal, or not even its first line can be read
    entries: tuple[JournalEntry, ...] = ()
    end: JournalEnd | None = None  # if it is the last line
    whole: bool = True  # no line is damaged


def read_lines(path: Path) -> Lines:
    """What a journal holds. OSError if it is a link, or no file."""
    head, end = None, None
    entries: list[JournalEntry] = []
    try:
        with open_own(path) as file:
            for line in file:
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("it is cut")
                    if head is None:
                        head = JournalHead.from_bytes(line)
                    elif line.startswith(b'{"state"'):
                        end = JournalEnd.from_bytes(line)
                    else:
                        entries.append(JournalEntry.from_bytes(line))
                        end = None
                except ValueError:
                    return Lines(head, tuple(entries), end, whole=False)
    except FileNotFoundError:
        pass
    return Lines(head, tuple(entries), end)


@dataclass
class Journal:
    """The journal of a folder that is locked, in memory and on disk. In memory all sources are absolute paths."""

    output: Path
    config_hash: str | None  # None: it was not begun
    entries: dict[str, JournalEntry]  # the latest of each source
    state: str | None  # of the files about all images, if they were written after the last entry
    earlier_folder: str  # where the output folder was at that time
    _waiting: dict[str, JournalEntry] = field(default_factory=dict)  # see `add`

    @classmethod
    def open(cls, output: Path) -> Journal:
        """The journal of the folder `output`, to go on with; OSError if it is a link, or no file.

        Damaged lines are cut off: those images are done again. If the folder was moved, the sources are looked for
        beside it, then where they were.
        """
        lines = read_lines(output / JOURNAL)
        here = os.path.abspath(output)
        earlier = here if lines.head is None else lines.head.folder
        entries: dict[str, JournalEntry] = {}
        for entry in lines.entries:
            source = located(entry.source, here, earlier)
            entries[source] = entry.model_copy(update={"source": source})
        config_hash = None if lines.head is None else lines.head.config_hash
        # run.json of a folder that was moved tells the sources from where it was.
        state = None if lines.end is None or here != earlier else lines.end.state
        journal = cls(output, config_hash, entries, state, earlier)
        if config_hash is not None and (not lines.whole or here != earlier):
            journal._rewrite()
        return journal

    @property
    def names(self) -> dict[str, str]:
        """The names of the outputs of all images that it knows, by source."""
        return {source: entry.name for source, entry in self.entries.items()}

    def has_done(self, source: str, config_hash: str) -> bool:
        """Whether that image is done for that configuration."""
        known = self.entries.get(source)
        return known is not None and known.status == "done" and self.config_hash == config_hash

    def take_over(self, config_hash: str) -> None:
        """Begin anew for that configuration. Of images that were done for another one, the names stay."""
        if config_hash != self.config_hash:
            self.config_hash = config_hash
            self.entries = {source: _left(entry) for source, entry in self.entries.items()} | self._waiting
            self.state = None
            self._rewrite()

    def add(self, entry: JournalEntry, config_hash: str) -> None:
        """Add a line; on a full disk the journal stays as it was.

        A failure for a configuration that did not yet take over waits in memory until it does.
        """
        if config_hash != self.config_hash:
            self._waiting[entry.source] = entry
            return
        self._append(self._stored(entry))
        self.entries[entry.source] = entry
        self.state = None

    def end(self, state: str) -> None:
        """Note that the files about all images are written."""
        self._append(JournalEnd(state=state))
        self.state = state

    def stored(self, source: str) -> str:
        """A source as the files of the folder hold it: relative to it, so that both may be moved together."""
        try:
            return os.path.relpath(source, self.output).replace(os.sep, "/")
        except ValueError:  # on another drive of Windows
            return source

    def _stored(self, entry: JournalEntry) -> JournalEntry:
        return entry.model_copy(update={"source": self.stored(entry.source)})

    def _append(self, line: Record) -> None:
        path = self.output / JOURNAL
        size = path.stat().st_size
        try:
            with path.open("ab") as file:
                file.write(line.to_bytes() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise

    def _rewrite(self) -> None:
        def lines() -> Iterator[Record]:
            yield JournalHead(config_hash=self.config_hash or "", folder=os.path.abspath(self.output))
            yield from map(self._stored, self.entries.values())
            if self.state is not None:
                yield JournalEnd(state=self.state)

        write_bytes(self.output / JOURNAL, b"".join(line.to_bytes() + b"\n" for line in lines()))


def _left(entry: JournalEntry) -> JournalEntry:
    return JournalEntry(
        source=entry.source,
        name=entry.name,
        fingerprint=[],
        status="left",
        reason=None,
        seconds=0.0,
        image_id=0,
        first_id=0,
        num_annotations=0,
        size_hw=None,
        outputs={},
    )


def located(source: str, folder: str, earlier_folder: str) -> str:
    """The absolute path of a stored source: beside the folder or, if it is not there, beside where that was before."""
    here = os.path.normpath(os.path.join(folder, source))
    if folder != earlier_folder and not _exists(here):
        there = os.path.normpath(os.path.join(earlier_folder, source))
        return there if _exists(there) else here
    return here


def _exists(source: str) -> bool:
    return split_frame(source)[0].exists()


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
