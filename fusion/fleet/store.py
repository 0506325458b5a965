"""Files on disks and object stores, by URL or path, through fsspec: what is written is whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from ground.paths import user_path

# Stores on which a file appears once all of it is there. Elsewhere it is written beside its place, then moved.
_AT_ONCE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "memory"}
_PART = ".part"


def is_url(place: str) -> bool:
    """Whether it is a URL, such as s3://bucket/folder, rather than a path on this machine."""
    return "://" in place


def located(place: str) -> tuple[AbstractFileSystem, str]:
    """(file system, path in it) of a URL or a path. ValueError if nothing is known that reads such URLs."""
    try:
        return url_to_fs(place if is_url(place) else os.path.abspath(user_path(place)))
    except (ImportError, ValueError) as error:
        raise ValueError(f"{place} cannot be reached: {error}") from None


def fetch(place: str) -> bytes:
    """What a file holds. OSError, or another error of its store, if it cannot be read."""
    if is_url(place):
        files, path = located(place)
        return bytes(files.cat_file(path))
    if not os.path.isfile(place):
        raise FileNotFoundError(f"no image file {place}")
    return Path(place).read_bytes()


def mark(info: dict[str, Any]) -> str:
    """What another version of a file differs in: size, and checksum or time where the store says it."""
    known = (info.get(key) for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created"))
    return f"{info.get('size')} {next((value for value in known if value), '')}"


@dataclass(frozen=True)
class Store:
    """A folder that results are written to."""

    place: str  # URL or path

    def __post_init__(self) -> None:
        located(self.place)

    @property
    def _here(self) -> tuple[AbstractFileSystem, str]:
        return located(self.place)

    def holds(self, place: str) -> bool:
        """Whether a file lies directly in it."""
        (files, root), (others, path) = self._here, located(place)
        return files == others and path.rpartition("/")[0] == root.rstrip("/")

    def sizes(self) -> dict[str, int]:
        """The files in it → their bytes; none if it is not there."""
        files, root = self._here
        files.invalidate_cache()
        with suppress(FileNotFoundError):
            infos = files.ls(root, detail=True)
            return {info["name"].rsplit("/", 1)[-1]: info["size"] for info in infos if info["type"] == "file"}
        return {}

    def read(self, name: str) -> bytes:
        """What a file holds. FileNotFoundError if there is none."""
        files, root = self._here
        return bytes(files.cat_file(f"{root}/{name}"))

    def open(self, name: str) -> Any:
        """A file, open for reading; errors as for `read`."""
        files, root = self._here
        return files.open(f"{root}/{name}", "rb")

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """What several files hold; those that cannot be read are left out."""
        files, root = self._here
        paths = [f"{root}/{name}" for name in names]
        found = files.cat(paths, on_error="omit") if paths else {}
        return {path.rsplit("/", 1)[-1]: bytes(data) for path, data in found.items()}

    def put(self, name: str, file: Path) -> None:
        """Make `name` hold what a file of this machine does. Whoever does so last wins; nobody sees half a file."""
        files, root = self._here
        target = f"{root}/{name}"
        protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
        if protocols & _AT_ONCE:
            files.put_file(str(file), target)
            return
        files.makedirs(root, exist_ok=True)
        part = f"{target}.{uuid4().hex[:8]}{_PART}"
        try:
            if "file" in protocols:
                with file.open("rb") as source, open(part, "xb") as copy:
                    shutil.copyfileobj(source, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
                os.replace(part, target)
            else:
                files.put_file(str(file), part)
                files.mv(part, target)
        except BaseException:
            with suppress(Exception):
                files.rm_file(part)
            raise

    def put_bytes(self, name: str, data: bytes) -> None:
        """The same of `data`."""
        with TemporaryDirectory(prefix="emerseg-") as folder:
            file = Path(folder) / "data"
            file.write_bytes(data)
            self.put(name, file)

    def remove(self, names: Iterable[str]) -> None:
        """Delete files; those that are not there are left alone."""
        files, root = self._here
        for name in names:
            with suppress(FileNotFoundError):
                files.rm_file(f"{root}/{name}")


def leftovers(names: Iterable[str], shards: Iterable[str]) -> list[str]:
    """Of the `names` of files those that killed processes left half written of `shards`."""
    own = set(shards)
    return [name for name in names if name.endswith(_PART) and name.split(".")[0].removesuffix("_stats") in own]
