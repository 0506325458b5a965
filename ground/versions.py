"""Versions of the software, for the records that results carry."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "emerseg"
_LIBRARIES = ("torch", "diffusers", "transformers", "open_clip_torch", "scikit-learn", "numpy")


def own_version() -> str:
    """The version of this software; "0" in a source tree that was never installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"


def all_versions() -> dict[str, str]:
    """Versions of Python, of this software and of the libraries that compute its results."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), DISTRIBUTION: own_version(), **libraries}
