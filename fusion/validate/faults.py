"""What every step yields: faults, and how they name the first place where two lists differ."""

from __future__ import annotations

import reprlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any, TypeVar

from ground.files import own_size

T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with an output folder."""

    path: str  # of the file, relative to the folder, with "/"
    message: str  # what is wrong: found and expected


Check = Generator[Fault, None, T]  # yields faults, returns what it has read


def is_there(output: Path, path: str) -> Check[bool]:
    """Whether the folder has that file, and as a file of its own: whatever is behind a link is not looked at."""
    try:
        own_size(output / path)
    except FileNotFoundError:
        yield Fault(path, "missing")
        return False
    except OSError as error:
        yield Fault(path, str(error).removeprefix(f"{output / path} "))
        return False
    return True


def difference(path: str, what: str, found: Sequence[Any], expected: Sequence[Any]) -> Iterator[Fault]:
    """One fault, on the first place where two lists differ."""
    if found == expected:
        return
    place = sum(1 for _ in takewhile(bool, map(eq, found, expected)))
    one, other = (reprlib.repr(values[place]) if place < len(values) else "nothing" for values in (found, expected))
    numbers = f" ({len(found)} in all, expected {len(expected)})" if len(found) != len(expected) else ""
    yield Fault(path, f"{what}: {one} at place {place + 1}, expected {other}{numbers}")
