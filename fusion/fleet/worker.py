"""Models, loaded once, and what they do to shard after shard: images → a table, PNGs, figures. It needs no Ray.

A shard is written to files of this machine first, and to its place when all of it is there, its figures last. Two that
do the same shard at once, as when one is taken for dead, write the same.
"""

from __future__ import annotations

import logging
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusion.fleet.choices import Png
from fusion.fleet.files import EmptyImage, FailedImage, ShardStats, stats_of, table_of, tar_of
from fusion.fleet.plan import Shard
from fusion.fleet.sources import Fetch, images_of
from fusion.fleet.store import Store
from fusion.formats.coco import regions
from fusion.formats.palette import label_colors
from fusion.formats.parquet import ParquetFile, as_text
from fusion.formats.render import overlay
from fusion.formats.semantic import semantic_png
from fusion.models.segmenter import Segmenter
from fusion.runs.jobs import Segmented, segmenting
from fusion.runs.outputs import png_bytes
from fusion.runs.spec import RunSpec
from ground.images import decode_image, limit_pixels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What is done to every shard, and where to."""

    spec: RunSpec
    config_hash: str  # of the spec where the first worker runs
    output: str  # folder or URL
    png: tuple[Png, ...] = ()
    read_ahead: int = 4  # images that are fetched and decoded before they are needed


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard, for whoever runs the fleet."""

    name: str
    about: str
    status: Literal["done", "failed", "skipped"]
    reason: str | None  # why it failed
    images: int  # all that it holds, where it is done
    failed: int  # images that could not be read or segmented
    seconds: float


class Stopped(Exception):  # noqa: N818  (it is asked for)
    """The shard in hand was given up."""


class _Damaged(ValueError):  # noqa: N818  (it is a reason)
    """The bytes of an image are there, and are no image."""


class ShardWorker:
    """The models of a spec, on this machine."""

    def __init__(self, work: Work) -> None:
        """Loads the models. ValueError if what decides results is not what it is where the first worker runs."""
        if work.spec.hash != work.config_hash:
            ran = f"{work.spec.ran['device']} in {work.spec.ran['dtype']}"
            raise ValueError(f"a worker would run on {ran}, others not: say --device and --dtype")
        limit_pixels(work.spec.max_megapixels)
        spec = work.spec
        segmenter = Segmenter.from_preset(spec.preset, masks=spec.masks, device=spec.device, dtype=spec.dtype)
        self._work = work
        self._compute = segmenting(segmenter, None, spec)
        self._store = Store(work.output)

    def do(self, shard: Shard, stop: Callable[[], bool] = lambda: False) -> ShardOutcome:
        """Do a shard and write what it gives; an image that fails has its reason in the figures.

        A shard that fails as a whole writes nothing: its tar or table is damaged, or none of its images can be had, as
        where access ends, or none can be segmented, as where a GPU fails. Raises Stopped, between two images, once
        `stop()` is true.
        """
        start = time.perf_counter()
        try:
            with TemporaryDirectory(prefix="emerseg-") as folder:
                tally = _Tally()
                names = self._write(shard, Path(folder), tally, stop)
                if tally.counts and tally.blocked == len(tally.counts):
                    raise ValueError(f"none of its images can be had or segmented: {tally.failures[0].reason}")
                stats = self._stats(shard, tally, Path(folder), names, time.perf_counter() - start)
                (Path(folder) / stats_of(shard.name)).write_bytes(stats.to_lines())
                for name in (*names, stats_of(shard.name)):
                    self._store.put(name, Path(folder) / name)
        except Stopped:
            raise
        except Exception as error:  # whatever is wrong with one shard, the others go on; the reason is kept
            log.info("shard %s failed", shard.name, exc_info=error)
            return ShardOutcome(shard.name, shard.about, "failed", _line(error), 0, 0, time.perf_counter() - start)
        return outcome_of(stats, "done")

    def _write(self, shard: Shard, folder: Path, tally: _Tally, stop: Callable[[], bool]) -> list[str]:
        """Write the shard's table and its tar, if PNGs are asked for, into `folder`; their names."""
        spec, colors = self._work.spec, label_colors(self._work.spec.labels)
        names = [table_of(shard.name)]
        with ExitStack() as stack:
            file = stack.enter_context((folder / names[0]).open("wb"))
            table = stack.enter_context(closing(ParquetFile(file, spec.labels)))
            tar = None
            if self._work.png:
                names.append(tar_of(shard.name))
                tar = stack.enter_context(tarfile.open(folder / names[1], "w", format=tarfile.PAX_FORMAT))
            pool = stack.enter_context(ThreadPoolExecutor(self._work.read_ahead))
            for key, loading in _ahead(images_of(shard.source), pool, self._work.read_ahead, spec.bits):
                if stop():
                    raise Stopped
                try:
                    segmented: Segmented = self._compute(loading.result(), key)
                    found, _ = regions(segmented.result)
                    pngs = {kind: _png(kind, segmented, colors) for kind in self._work.png}
                except Exception as error:  # as above, of one image
                    log.info("%s failed", key, exc_info=error)
                    tally.add_failure(key, error)
                    continue
                table.add(key, segmented.result.size_hw, found)
                tally.add(key, segmented.result.size_hw, len(found))
                for kind, data in pngs.items():
                    assert tar is not None
                    _add_member(tar, f"{as_text(key)}.{kind}.png", data)
        return names

    def _stats(self, shard: Shard, tally: _Tally, folder: Path, names: list[str], seconds: float) -> ShardStats:
        return ShardStats(
            shard=shard.name,
            source=shard.about,
            config_hash=self._work.config_hash,
            digest=shard.digest,
            png=[str(kind) for kind in self._work.png],
            images=len(tally.counts),
            failed=len(tally.failures),
            annotations=sum(count or 0 for count in tally.counts),
            seconds=round(seconds, 3),
            outputs={name: (folder / name).stat().st_size for name in names},
            failures=tally.failures,
            empty=tally.empty,
            counts=tally.counts,
        )


class _Tally:
    """What became of the images of a shard so far."""

    def __init__(self) -> None:
        self.counts: list[int | None] = []
        self.failures: list[FailedImage] = []
        self.empty: list[EmptyImage] = []
        self.blocked = 0  # images that failed though they are not damaged, as far as is known

    def add(self, key: str, size_hw: tuple[int, int], count: int) -> None:
        self.counts.append(count)
        if not count:
            self.empty.append(EmptyImage(key=as_text(key), size=list(size_hw)))

    def add_failure(self, key: str, error: Exception) -> None:
        self.counts.append(None)
        self.failures.append(FailedImage(key=as_text(key), reason=_line(error).removeprefix("image: ")))
        self.blocked += not isinstance(error, _Damaged)


def outcome_of(stats: ShardStats, status: Literal["done", "skipped"]) -> ShardOutcome:
    """The outcome of a shard whose figures these are."""
    return ShardOutcome(stats.shard, stats.source, status, None, stats.images, stats.failed, stats.seconds)


def _ahead(
    images: Iterator[tuple[str, Fetch]], pool: ThreadPoolExecutor, count: int, bits: int | None
) -> Iterator[tuple[str, Future[NDArray[np.uint8]]]]:
    """Every image's key and pixels, in order, with `count` of them under way."""
    coming: deque[tuple[str, Future[NDArray[np.uint8]]]] = deque()
    try:
        for key, how in images:
            coming.append((key, pool.submit(_load, how, bits)))
            if len(coming) > count:
                yield coming.popleft()
        while coming:
            yield coming.popleft()
    finally:
        for _, future in coming:
            future.cancel()


def _load(how: Fetch, bits: int | None) -> NDArray[np.uint8]:
    data = how()
    try:
        return decode_image(data, bits)
    except ValueError as error:
        raise _Damaged(str(error)) from error


def _png(kind: Png, segmented: Segmented, colors: Sequence[tuple[int, int, int]]) -> bytes:
    if kind == Png.SEMANTIC:
        return semantic_png(segmented.result.label_map, colors)
    return png_bytes(overlay(segmented.image, segmented.result))


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """With nothing of the time or of who writes it: the same images, the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, BytesIO(data))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
