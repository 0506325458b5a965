"""Files that are either whole or not there: written beside their place first, then moved into it in one step.

Nothing is written through a link, and what a run reads from its own folder (`open_own`) is not read through one either:
a folder that comes from elsewhere must not lead out of itself.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class OutOfSpaceError(OSError):
    """The disk is full."""


def is_full(error: BaseException) -> bool:
    """Whether `error` says that there is no room on the disk, or in the user's share of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well; else `path` stays as it was.

    Its temporary name is always the same, so that what a killed run leaves behind is replaced by the next
    one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    # What a killed run left, or a link that somebody laid there: "x" makes a new file or none.
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Make `path` hold `data`."""
    with replacing(path) as file:
        file.write(data)


def json_bytes(value: Any) -> bytes:
    """`value` as indented ASCII JSON."""
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def write_json(path: Path, value: Any) -> None:
    """Make `path` hold `value` as indented ASCII JSON."""
    write_bytes(path, json_bytes(value))


def own_size(path: str | Path) -> int:
    """Bytes of a regular file. OSError if there is none, or if it is a link, a pipe or anything else."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is {'a link' if stat.S_ISLNK(status.st_mode) else 'no file'}, expected a file")
    return status.st_size


def open_own(path: str | Path) -> IO[bytes]:
    """A regular file, open for reading; OSError as for `own_size`."""
    own_size(path)
    return open(path, "rb")


def read_own(path: Path) -> bytes:
    """What a regular file holds; OSError as for `own_size`."""
    with open_own(path) as file:
        return file.read()
