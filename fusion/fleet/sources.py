"""What a shard is of → its images one by one: files, members of a tar, rows of a table.

Each image is its key and a call that fetches its bytes, so that several may be fetched at once.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fusion.fleet.store import fetch, is_url, located
from fusion.formats.parquet import check_parquet
from fusion.runs.search import SUFFIXES
from ground.images import HEIF_SUFFIXES

if TYPE_CHECKING:
    from typing_extensions import Self

Fetch = Callable[[], bytes]
_COLUMNS = ("bytes", "url", "path")  # where a row says its image; the first that it has
_ROWS = 64  # of a table that are in memory at once


@dataclass(frozen=True)
class Files:
    """Images that are files."""

    items: tuple[tuple[str, str], ...]  # (key, path or URL)


@dataclass(frozen=True)
class Tar:
    """The images of a tar, such as a shard of webdataset; its other members are left alone."""

    place: str
    key: str  # of the folder that it stands for


@dataclass(frozen=True)
class Table:
    """Rows of a parquet file."""

    place: str
    key: str  # of images that have neither key nor path, before the number of their row
    start: int  # first row
    stop: int  # the one after the last


Source = Files | Tar | Table


def images_of(source: Source) -> Iterator[tuple[str, Fetch]]:
    """(key, what fetches its bytes) of each image. ValueError, in one line, on a tar or a table that is damaged."""
    if isinstance(source, Files):
        for key, place in source.items:
            yield key, partial(fetch, place)
    elif isinstance(source, Tar):
        yield from _members(source)
    else:
        yield from _rows(source)


def is_image(name: str) -> bool:
    """Whether a file's name ends like that of an image."""
    return name.lower().endswith((*SUFFIXES, *HEIF_SUFFIXES))


class _StrictInfo(tarfile.TarInfo):
    """A header of a tar; what is no header does not pass for the end of it."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # two blocks of zeros
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _members(source: Tar) -> Iterator[tuple[str, Fetch]]:
    """In their order, read from the first to the last byte: a tar may be a stream."""
    files, path = located(source.place)
    count = 0
    try:
        with files.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictInfo) as tar:
            for member in tar:
                count += 1
                opened = tar.extractfile(member) if member.isfile() and is_image(member.name) else None
                tar.members = []  # type: ignore[attr-defined]  # a stream would keep what it has passed
                if opened is not None:
                    data = opened.read()
                    yield f"{source.key}/{member.name.removeprefix('./')}", partial(bytes, data)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise ValueError(f"no file {source.place}") from None
        raise ValueError(f"{source.place} is no tar, or damaged after {count} members: {_line(error)}") from None


def num_rows(place: str) -> int:
    """Rows of a table. ValueError if it cannot be read, or if its columns tell of no images."""
    with _opened(place) as table:
        return int(table.metadata.num_rows)


def _rows(source: Table) -> Iterator[tuple[str, Fetch]]:
    with _opened(source.place) as table:
        columns = _columns_of(table, source.place)
        groups, first = [], None
        at = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if at < source.stop and at + rows > source.start:
                first = at if first is None else first
                groups.append(group)
            at += rows
        number = first or 0
        for batch in table.iter_batches(batch_size=_ROWS, row_groups=groups, columns=columns):
            for row in batch.to_pylist():
                if source.start <= number < source.stop:
                    yield _of_row(source, number, row)
                number += 1


def _of_row(source: Table, number: int, row: dict[str, Any]) -> tuple[str, Fetch]:
    if isinstance(row.get("image"), dict):  # as in data sets of Hugging Face
        row = row["image"] | {key: value for key, value in row.items() if key != "image"}
    key = next((str(row[name]) for name in ("key", "path", "url") if row.get(name)), f"{source.key}/{number:08}")
    if row.get("bytes"):
        return key, partial(bytes, row["bytes"])
    place = row.get("url") or row.get("path")
    if not place:
        return key, partial(_nothing, number)
    if not is_url(place) and not os.path.isabs(place):
        folder = source.place.rpartition("/")[0]
        place = f"{folder}/{place}" if is_url(folder) else os.path.join(folder, place)
    return key, partial(fetch, place)


def _nothing(number: int) -> bytes:
    raise ValueError(f"row {number} says no image")


def _columns_of(table: Any, place: str) -> list[str]:
    """The columns that are read."""
    import pyarrow as pa

    names = table.schema_arrow.names
    structs = [name for name in ("image",) if name in names and pa.types.is_struct(table.schema_arrow.field(name).type)]
    found = [name for name in _COLUMNS if name in names] + structs
    if not found:
        raise ValueError(f"{place} has the columns {', '.join(names)}, expected one of {', '.join(_COLUMNS)}, image")
    return found + [name for name in ("key",) if name in names]


def _opened(place: str) -> Any:
    """A table, open. ValueError, in one line, if it is none."""
    check_parquet()
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    files, path = located(place)
    try:
        table = ParquetFile(files.open(path, "rb"))
        _columns_of(table, place)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise ValueError(f"no file {place}") from None
        raise ValueError(f"{place} is no parquet file, or damaged: {_line(error)}") from None
    return table


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
