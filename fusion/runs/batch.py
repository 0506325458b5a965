"""Many images: image files + a job → outputs on disk, a journal, and the files about them all.

While an image is computed, the next one is read and the one before is written. Whatever ends the run, an exception or
Ctrl-C, the files at the end are written for all that is finished; after a kill, the same command finishes the rest, and
the result is that of a run that was never stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fusion.formats.schema import JOURNAL, JournalEntry, RunImage
from fusion.runs.attempt import Attempt, compute, read, skipped, write
from fusion.runs.inputs import ImageFile, common_names, name_outputs
from fusion.runs.job import Finished, Job, Outcome
from fusion.runs.journal import Numbering, open_journal, start_journal
from ground.files import OutOfSpaceError, is_full

LOCK = ".lock"


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
) -> Generator[Outcome, None, None]:
    """Do `job` to every image; yields what became of each, in order.

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
) -> Iterator[Outcome]:
    journal = output / JOURNAL
    found_hash, latest = open_journal(journal)
    if found_hash != job.config_hash:
        here = {file.name for file in files}
        for entry in latest.values():
            job.remove(entry.name, entry.name in here)
        latest = {}
        start_journal(journal, job.config_hash)
    numbering = Numbering(latest.values())

    def is_wanted(file: ImageFile) -> bool:
        return overwrite or not _is_finished(file, latest, job)

    full = False
    try:
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            writing: deque[Future[Outcome]] = deque()
            for file, reading in _read_ahead(files, reader, is_wanted):
                if stop():
                    break
                if reading is None:
                    task = writer.submit(skipped, latest[str(file.path)])
                else:
                    task = writer.submit(write, compute(file, reading, job), job, journal, numbering)
                writing.append(task)
                if len(writing) > 1:
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
    except OSError as error:
        full = is_full(error)
        raise
    finally:
        # On a full disk the files about all images stay as they were, too.
        if not full:
            _finish(files, output, job)


def _read_ahead(
    files: Sequence[ImageFile], reader: Executor, is_wanted: Callable[[ImageFile], bool]
) -> Iterator[tuple[ImageFile, Future[tuple[Attempt, NDArray[np.uint8]]] | None]]:
    """Every file and, if it is wanted, its image, whose reading begins while the one before is worked on."""
    ahead: deque[tuple[ImageFile, Future[Any] | None]] = deque()
    for file in files:
        ahead.append((file, reader.submit(read, file) if is_wanted(file) else None))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def _finish(files: Sequence[ImageFile], output: Path, job: Job) -> None:
    """Write the files about all images: those of earlier runs first, then this run's, in the order of its inputs."""
    _, latest = open_journal(output / JOURNAL)
    wanted = {str(file.path): file for file in files}
    order = [*(source for source in latest if source not in wanted), *wanted]
    finished, images = [], []
    for source, file_name in zip(order, common_names(order), strict=True):
        entry = latest.get(source)
        if entry is not None:
            finished.append(Finished(entry, file_name))
        images.append(
            RunImage(
                file_name=file_name,
                name=wanted[source].name if entry is None else entry.name,
                source=source,
                status="pending" if entry is None else entry.status,
                reason=None if entry is None else entry.reason,
                seconds=0.0 if entry is None else entry.seconds,
            )
        )
    job.finish(finished, images)


def _is_finished(file: ImageFile, latest: Mapping[str, JournalEntry], job: Job) -> bool:
    known = latest.get(str(file.path))
    if known is None or known.status != "done" or not file.path.is_file():
        return False
    return file.fingerprint == known.fingerprint and job.is_whole(file.name)
