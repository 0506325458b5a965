"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(given: str | Path) -> Path:
    """`given` with the home folder for a leading ~, unless there is something of that very name, such as "~a.png"."""
    text = os.fspath(given)
    return Path(text if os.path.lexists(text) else os.path.expanduser(text))
