"""Files that are either whole or not there: written beside their place first, then moved into it in one step."""

from __future__ import annotations

import errno
import json
import os
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
    try:
        with temporary.open("wb") as file:
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


def write_json(path: Path, value: Any) -> None:
    """Make `path` hold `value` as indented ASCII JSON."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode("ascii"))
