"""Inputs → shards: what each is of and where its images are. The same inputs give the same shards.

Images of folders, globs and lists are cut into shards of one size; a tar is a shard; a table is cut by its rows.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.fleet.sources import Files, Source, Table, Tar, is_image, num_rows
from fusion.fleet.store import is_url, located, mark
from fusion.runs.inputs import common_names, find_images

TARS = (".tar", ".tar.gz", ".tgz")
TABLE = ".parquet"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Shard:
    """A part of the work: whoever has it can do it, on any machine that reaches its images."""

    name: str  # of its files
    about: str  # what it is of, for people
    digest: str  # SHA-256 (hex) of what tells its images from others
    source: Source


@dataclass(frozen=True)
class _Found:
    """A file of the inputs."""

    place: str  # absolute path, or URL
    mark: str  # of its version


def plan_shards(inputs: Sequence[str], size: int) -> tuple[str, list[Shard]]:
    """(folder or URL that keys are relative to, the shards of all inputs), `size` images or rows in each but for tars.

    Inputs are those of `fusion.runs.inputs.find_images`; URLs of folders, globs and images that fsspec reads; tars
    (`{00000..00999}.tar` stands for so many) and tables (.parquet), on this machine or by URL. Keys of images are paths
    relative to the deepest folder that holds all inputs; a tar stands for a folder of its name. Images come first,
    then tars and tables in the order given.

    ValueError and FileNotFoundError, in one line, on inputs that hold nothing, or that cannot be reached.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"shard_size is {size!r}, expected a whole number from 1")
    if not inputs:
        raise ValueError("no input given, expected folders, globs, tars or tables")
    archives = [given for given in inputs if _is_archive(given)]
    images = _images([given for given in inputs if not _is_archive(given)])
    found = [one for given in archives for one in _archives(given)]
    found = list({one.place: one for one in found}.values())
    places = [*(one.place for one in images), *(_stem(one.place) for one in found)]
    keys = iter(common_names(places))
    sources = list(_files(images, [next(keys) for _ in images], size))
    for one in found:
        sources += _of_archive(one, next(keys), size)
    width = max(5, len(str(len(sources) - 1)))
    shards = [
        Shard(f"{number:0{width}}", about, hashlib.sha256(json.dumps(identity).encode()).hexdigest(), source)
        for number, (about, identity, source) in enumerate(sources)
    ]
    return _root(places), shards


def _files(images: Sequence[_Found], keys: Sequence[str], size: int) -> Iterator[tuple[str, Any, Source]]:
    for start in range(0, len(images), size):
        some, named = images[start : start + size], keys[start : start + size]
        about = some[0].place if len(some) == 1 else f"{some[0].place} … {some[-1].place}"
        items = tuple((key, one.place) for key, one in zip(named, some, strict=True))
        yield about, [[key, one.mark] for key, one in zip(named, some, strict=True)], Files(items)


def _of_archive(one: _Found, key: str, size: int) -> Iterator[tuple[str, Any, Source]]:
    if not one.place.lower().endswith(TABLE):
        yield one.place, [key, one.mark], Tar(one.place, key)
        return
    total = num_rows(one.place)
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield (
            f"{one.place} rows {start} to {stop - 1}",
            [key, one.mark, start, stop],
            Table(one.place, key, start, stop),
        )


def _is_archive(given: str) -> bool:
    return given.lower().endswith((*TARS, TABLE))


def _stem(place: str) -> str:
    return next(place[: -len(end)] for end in (*TARS, TABLE) if place.lower().endswith(end))


def _root(places: Sequence[str]) -> str:
    """What `common_names` cuts off; a URL without one of its slashes, as paths of URLs are."""
    try:
        return os.path.commonpath([Path(place).parent for place in places])
    except ValueError:  # paths and URLs
        return ""


def _images(inputs: Sequence[str]) -> list[_Found]:
    """The images of folders, globs and lists: those on this machine, then those of URLs."""
    here = [given for given in inputs if not is_url(given)]
    found = [_Found(str(path), _local_mark(path)) for path in find_images(here)] if here else []
    for given in inputs:
        if is_url(given):
            found += _of_url(given)
    return list({one.place: one for one in found}.values())


def _local_mark(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:  # of a list: it fails when it is read
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _of_url(given: str) -> list[_Found]:
    """The images that a URL stands for, sorted: of a folder all in it at any depth that are not hidden."""
    files, path = located(given)
    if glob.has_magic(path):
        infos = files.glob(path, detail=True)
    elif files.isfile(path):
        return [_Found(given, mark(files.info(path)))]
    else:
        infos = files.find(path, detail=True)
    if not infos:
        raise FileNotFoundError(f"no file matches or is in {given}")
    top = path.rstrip("/")
    names = [
        name
        for name, info in sorted(infos.items())
        if info["type"] == "file" and is_image(name) and "/." not in name.removeprefix(top)
    ]
    if not names:
        raise ValueError(f"no images in {given}; tars and tables are given as {given.rstrip('/')}/*.tar")
    return [_Found(files.unstrip_protocol(name), mark(infos[name])) for name in names]


def _archives(given: str) -> list[_Found]:
    """The tars and tables that a path, a URL, a glob or a range stands for."""
    found: list[_Found] = []
    listings: dict[str, dict[str, Any]] = {}
    for place in _expanded(given):
        files, path = located(place)
        if glob.has_magic(path):
            infos = {name: info for name, info in files.glob(path, detail=True).items() if info["type"] == "file"}
        else:
            infos = _info(files, path, listings)
        if not infos:
            raise FileNotFoundError(f"no file {'matches ' if glob.has_magic(path) else ''}{place}")
        for name in sorted(infos):
            found.append(_Found(files.unstrip_protocol(name) if is_url(place) else name, mark(infos[name])))
    return found


def _info(files: Any, path: str, listings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """{path: what its store says of it}, from one listing of its folder where there are such; {} if it is not there."""
    folder = path.rpartition("/")[0]
    if folder not in listings:
        try:
            listings[folder] = {info["name"]: info for info in files.ls(folder, detail=True)}
        except Exception:  # web servers and others list nothing
            listings[folder] = {}
    if path in listings[folder]:
        return {path: listings[folder][path]}
    try:
        return {path: files.info(path)}
    except FileNotFoundError:
        return {}


def _expanded(given: str) -> Iterable[str]:
    """ "{08..10}.tar" → 08.tar, 09.tar, 10.tar."""
    match = _RANGE.search(given)
    if match is None:
        return [given]
    first, last = match.groups()
    if int(last) < int(first):
        raise ValueError(f"{given} has the range {match[0]}, expected one that rises")
    numbers = (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))
    return [one for number in numbers for one in _expanded(given[: match.start()] + number + given[match.end() :])]
