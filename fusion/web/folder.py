"""Images of a folder of the server that pages may choose from: no name leads out of it, nor does a link in it."""

from __future__ import annotations

import os
from pathlib import Path

from fusion.runs.inputs import find_images

MAX_LISTED = 2000  # images that a page offers


def listed(root: Path | None) -> list[str]:
    """Paths of its images relative to the folder, with "/", sorted; at most MAX_LISTED. None has none."""
    if root is None:
        return []
    try:
        found = find_images([root])
    except ValueError:  # there are none
        return []
    names = [path.relative_to(os.path.abspath(root)).as_posix() for path in found if _is_inside(root, path)]
    return sorted(names)[:MAX_LISTED]


def read_inside(root: Path | None, name: str, max_bytes: int) -> bytes:
    """The bytes of an image of the folder. ValueError, which does not tell what else there is, on any other name."""
    path = None if root is None else Path(root, name) if "\0" not in name else None
    if root is None or path is None or not _is_inside(root, path) or name not in listed(root):
        raise ValueError(f"no image {name[:200]!r} in the folder of the server")
    if path.stat().st_size > max_bytes:
        raise ValueError(f"{name[:200]}: has {path.stat().st_size / 1e6:.0f} MB, expected {max_bytes / 1e6:g} at most")
    return path.read_bytes()


def _is_inside(root: Path, path: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
