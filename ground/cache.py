"""What is worth keeping between runs: small arrays in the user's cache folder, found by a key, whole or not there.

EMERSEG_CACHE names the folder; `off` keeps nothing. Else it is `emerseg` in XDG_CACHE_HOME, or in ~/.cache.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KEPT = 256  # files of one kind; the oldest go
_DIGEST_BYTES = hashlib.sha256().digest_size  # before the array, to tell a damaged file

log = logging.getLogger(__name__)


def cache_folder(kind: str) -> Path | None:
    """Folder for what is kept of one kind; None if nothing is to be kept."""
    named = os.environ.get("EMERSEG_CACHE", "").strip()
    if named.casefold() == "off":
        return None
    if named:
        return Path(named).expanduser() / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emerseg" / kind


def remembered(
    kind: str, key: Callable[[], str], compute: Callable[[], NDArray[np.float32]], rows: int
) -> NDArray[np.float32]:
    """The array (rows, C) float32 that `compute` gives, from the cache if it is there under `key`, which fits a name.

    A file that is damaged, or not such an array, is made anew; a cache that cannot be read or written is none.
    """
    folder = cache_folder(kind)
    if folder is None:
        return compute()
    path = folder / key()
    with suppress(OSError, ValueError):
        found = _read(path, rows)
        log.debug("%s from %s", kind, path)
        return found
    array = compute()
    try:
        _write(path, array)
        _forget_oldest(folder)
    except OSError as error:
        log.debug("%s not kept: %s", kind, error)
    return array


def _read(path: Path, rows: int) -> NDArray[np.float32]:
    data = path.read_bytes()
    digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError(f"{path} is damaged")
    array = np.load(io.BytesIO(body), allow_pickle=False)
    if array.dtype != np.float32 or array.ndim != 2 or len(array) != rows:
        raise ValueError(f"{path} is {array.dtype} {array.shape}, expected ({rows}, C) float32")
    return array


def _write(path: Path, array: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = io.BytesIO()
    np.save(body, array, allow_pickle=False)
    # A name of its own: other processes may be writing the same.
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(body.getvalue()).digest() + body.getvalue())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _forget_oldest(folder: Path) -> None:
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[KEPT:]:
        file.unlink(missing_ok=True)
