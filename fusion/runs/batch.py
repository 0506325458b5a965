"""Many pictures: image files + a job → outputs on disk, a journal, and the files about them all.

While a picture is computed, the next one is read and the one before is written. Whatever ends the run, an
exception or Ctrl-C, the files at the end are written for all that is finished; after a kill, the same command
finishes the rest, and the result is that of a run that was never stopped.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ground.files import OutOfSpaceError, is_full, write_json
from ground.images import read_image
from fusion.runs.inputs import ImageFile, common_names, name_outputs
from fusion.runs.journal import Entry, append_entry, open_journal, read_payload, start_journal

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
RUN = "run.json"
LOCK = ".lock"
SKIPPED, PENDING = "skipped", "pending"


@dataclass(frozen=True)
class Outcome:
    """An image that is through, for the files at the end."""

    entry: Entry
    file_name: str  # path of the image relative to the folder that holds all images of the run
    payload: Callable[[], dict[str, Any]]  # reads what `Job.write` returned for it; {} if it failed


@dataclass(frozen=True)
class Job:
    """What is done to every image, and to the output folder at the end."""

    config_hash: str  # of all that decides the results
    settings: Mapping[str, Any]  # for run.json: config, weights, versions, seed
    compute: Callable[[NDArray[np.uint8], str], Any]  # (picture, output name) → what `write` takes
    write: Callable[[Any, str], dict[str, Any]]  # (result, output name) → payload; writes the outputs, in a thread
    finish: Callable[[Sequence[Outcome]], None]  # writes what is about all images
    is_whole: Callable[[str], bool]  # (output name) whether all outputs of an image are on disk
    remove: Callable[[str, bool], None]  # (output name, keep its masks) deletes the outputs of an image


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder `output`; ValueError if one does. A kill lets go of it, too."""
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / LOCK, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"another process is writing to {output}: wait for it, or choose another --output") from None


def plan_run(paths: Sequence[Path], output: Path, config_hash: str, *, overwrite: bool) -> list[ImageFile]:
    """The images with their output names, given what is in `output` from earlier runs.

    Raises ValueError if that was made by another configuration, unless `overwrite`.
    """
    found_hash, entries = open_journal(output / JOURNAL)
    if found_hash not in (None, config_hash) and not overwrite:
        raise ValueError(
            f"{output} holds results of another configuration ({found_hash[:12]}, now {config_hash[:12]}): "
            "choose another --output, or give --overwrite"
        )
    return name_outputs(paths, {Path(entry.source): entry.name for entry in entries.values()})


def run_batch(
    files: Sequence[ImageFile],
    output: Path,
    job: Job,
    *,
    overwrite: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Entry, None, None]:
    """Do `job` to every image; yields what became of each: "done", "failed" or "skipped", in order.

    An image that is finished for the same configuration, with its file unchanged and its outputs in place, is
    skipped unless `overwrite`. One that fails is recorded with its reason and tried again by the next run. No image is
    begun once `stop()` is true; closing the iterator, too, ends early in good order. Raises OutOfSpaceError when the
    disk is full: what is finished stays, and the same command does the rest.
    """
    try:
        yield from _run(files, output, job, overwrite=overwrite, stop=stop)
    except OSError as error:
        if not is_full(error):
            raise
        raise OutOfSpaceError(
            f"no space left for {output}: make room and give the same command again; finished images stay"
        ) from error


def _run(
    files: Sequence[ImageFile], output: Path, job: Job, *, overwrite: bool, stop: Callable[[], bool]
) -> Iterator[Entry]:
    journal = output / JOURNAL
    found_hash, entries = open_journal(journal)
    if found_hash != job.config_hash:
        here = {file.name for file in files}
        for entry in entries.values():
            job.remove(entry.name, entry.name in here)
        entries = {}
        start_journal(journal, job.config_hash)
    latest = {entry.source: entry for entry in entries.values()}

    def is_wanted(file: ImageFile) -> bool:
        return overwrite or not _is_finished(file, latest, job)

    full = False
    try:
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            writing: deque[Future[Entry]] = deque()
            for file, reading in _read_ahead(files, reader, is_wanted):
                if stop():
                    break
                if reading is None:
                    task = writer.submit(replace, latest[str(file.path)], status=SKIPPED)
                else:
                    task = writer.submit(_write, _compute(file, reading, job), job, journal)
                writing.append(task)
                if len(writing) > 1:
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
    except OSError as error:
        full = is_full(error)
        raise
    finally:
        if not full:  # else the files about all images stay as they were, too
            _finish(files, output, job)


@dataclass
class _Attempt:
    """An image on its way through."""

    file: ImageFile
    fingerprint: list[int]
    seconds: float  # of work on it so far, waiting not included
    result: Any = None  # of `Job.compute`
    reason: str | None = None  # why it failed


def _read_ahead(
    files: Sequence[ImageFile], reader: Executor, is_wanted: Callable[[ImageFile], bool]
) -> Iterator[tuple[ImageFile, Future[tuple[_Attempt, NDArray[np.uint8]]] | None]]:
    """Every file and, if it is wanted, its picture, whose reading begins while the one before is worked on."""
    ahead: deque[tuple[ImageFile, Future[Any] | None]] = deque()
    for file in files:
        ahead.append((file, reader.submit(_read, file) if is_wanted(file) else None))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def _read(file: ImageFile) -> tuple[_Attempt, NDArray[np.uint8]]:
    start = time.perf_counter()
    fingerprint = file.fingerprint
    image = read_image(file.path)
    return _Attempt(file, fingerprint, time.perf_counter() - start), image


def _compute(file: ImageFile, reading: Future[tuple[_Attempt, NDArray[np.uint8]]], job: Job) -> _Attempt:
    attempt = _Attempt(file, [], 0.0)
    try:
        attempt, image = reading.result()
        start = time.perf_counter()
        attempt.result = job.compute(image, file.name)
        attempt.seconds += time.perf_counter() - start
    except Exception as error:  # whatever is wrong with one image, the others go on; the reason is kept
        attempt.reason = _reason(error, file)
    return attempt


def _write(attempt: _Attempt, job: Job, journal: Path) -> Entry:
    start, file = time.perf_counter(), attempt.file
    payload: dict[str, Any] = {}
    if attempt.reason is None:
        try:
            payload = job.write(attempt.result, file.name)
        except Exception as error:
            if is_full(error):
                raise
            attempt.reason = _reason(error, file)
    if attempt.reason is not None:
        job.remove(file.name, True)
    status = "done" if attempt.reason is None else "failed"
    seconds = round(attempt.seconds + time.perf_counter() - start, 3)
    entry = Entry(str(file.path), file.name, attempt.fingerprint, status, attempt.reason, seconds)
    append_entry(journal, entry, payload)
    return entry


def _reason(error: Exception, file: ImageFile) -> str:
    log.info("%s failed", file.path, exc_info=error)
    return " ".join(str(error).removeprefix(f"{file.path}: ").split()) or type(error).__name__


def _finish(files: Sequence[ImageFile], output: Path, job: Job) -> None:
    """Write the files about all images: those of earlier runs first, then this run's, in the order of its inputs."""
    _, entries = open_journal(output / JOURNAL)
    latest = {entry.source: (offset, entry) for offset, entry in entries.items()}
    wanted = {str(file.path): file for file in files}
    order = [*(source for source in latest if source not in wanted), *wanted]
    payload = partial(read_payload, output / JOURNAL)
    outcomes, images = [], []
    for source, file_name in zip(order, common_names(order), strict=True):
        offset, entry = latest.get(source) or (0, Entry(source, wanted[source].name, [], PENDING, None, 0.0))
        kept = ("name", "source", "status", "reason", "seconds")
        images.append({"file_name": file_name} | {key: getattr(entry, key) for key in kept})
        if entry.status != PENDING:
            outcomes.append(Outcome(entry, file_name, partial(payload, offset)))
    job.finish(outcomes)
    write_json(output / RUN, {"config_hash": job.config_hash, **job.settings, "images": images})


def _is_finished(file: ImageFile, latest: Mapping[str, Entry], job: Job) -> bool:
    known = latest.get(str(file.path))
    if known is None or known.status != "done" or not file.path.is_file():
        return False
    return file.fingerprint == known.fingerprint and job.is_whole(file.name)
