"""What was measured, a line of CSV each: appended as soon as it is known, read when a run goes on."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One value of one study on one image."""

    study: str
    value: str
    image: str  # hash of the image and its truth
    setting: str  # hash of all that decides its masks
    commit: str  # that measured it
    bound: float
    boundary_f2: float
    naive_bound: float
    naive_boundary_f2: float

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What tells it from other lines."""
        return self.study, self.value, self.image, self.setting


_NAMES = [field.name for field in fields(Record)]
_TEXTS = _NAMES.index("bound")


def read_records(path: Path) -> list[Record]:
    """All lines of the file; none if there is no file. ValueError if it is of another kind.

    What a run was writing when it was killed is cut off.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    head, *lines = list(csv.reader(io.StringIO(whole))) or [_NAMES]
    if head != _NAMES:
        raise ValueError(f"{path} has the columns {','.join(head)}, expected {','.join(_NAMES)}")
    return [Record(*line[:_TEXTS], *map(float, line[_TEXTS:])) for line in lines]


def append_record(path: Path, record: Record) -> None:
    """Adds a line; the first one makes the file."""
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(_NAMES)
        values = astuple(record)
        writer.writerow([*values[:_TEXTS], *(f"{value:.6f}" for value in values[_TEXTS:])])
