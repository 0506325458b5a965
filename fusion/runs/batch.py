"""Many images: image files + a job → outputs on disk, a journal, and the files about them all.

While an image is computed, the next one is read and the one before is written. Whatever ends the run, an exception or
Ctrl-C, the files at the end are written for all that is finished; after a kill, the same command finishes the rest, and
the result is that of a run that was never stopped.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fusion.formats.schema import RUN, RunImage
from fusion.runs.attempt import Attempt, compute, kinds_of, read, skipped, write
from fusion.runs.inputs import ImageFile, common_names, shown_path
from fusion.runs.job import Compute, Finished, Job, Outcome
from fusion.runs.journal import Journal, Numbering
from fusion.runs.outputs import folders, output_sizes, remove_outputs, write_outputs
from ground.files import OutOfSpaceError, is_full, json_bytes, own_size, read_own, write_json
from ground.video import FrameReader

LOCK = ".lock"
# What says of a file system that it knows no locks: some network drives, and some folders shared with a container.
_NO_LOCKS = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)

log = logging.getLogger(__name__)


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder `output`; ValueError if one does. A kill lets go of it, too.

    ValueError as well if a folder in it that images are written to is a link: what is written stays in the folder.
    """
    output.mkdir(parents=True, exist_ok=True)
    for path in (output / LOCK, *folders(output)):
        if path.is_symlink():
            raise ValueError(f"{path} is a link, expected a {'file' if path.name == LOCK else 'folder'} in {output}")
    lock = FileLock(output / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"another process is writing to {output}{_lock_owner(output / LOCK)}: "
            "wait for it, or choose another --output"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise ValueError(
            f"{output / LOCK} cannot be locked, as its file system has no locks ({error}): "
            "choose an --output on another one"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _lock_owner(lock: Path) -> str:
    """What a lock file says of its process: only where the system has no locks, and the file itself is one."""
    owner = ""
    with suppress(OSError):
        owner = " ".join(read_own(lock)[:200].decode("utf-8", "replace").split())
    return (
        f" (by its lock file: {owner}; if that runs no more, even on another machine, delete {lock})" if owner else ""
    )


@dataclass(frozen=True)
class Plan:
    """What there is to do in a folder."""

    files: Sequence[ImageFile]  # all images, in order
    wanted: Collection[ImageFile]  # those that are not finished
    journal: Journal


def plan_run(files: Sequence[ImageFile], journal: Journal, job: Job, *, overwrite: bool = False) -> Plan:
    """Which images are to be done, given what is in the journal's folder from earlier runs.

    An image that is finished for the same configuration, with its file unchanged and its outputs as they were written,
    is not wanted unless `overwrite`.
    """
    wanted = files if overwrite else [file for file in files if not _is_finished(file, journal, job)]
    return Plan(files, frozenset(wanted), journal)


def _is_finished(file: ImageFile, journal: Journal, job: Job) -> bool:
    if not journal.has_done(str(file.path), job.config_hash):
        return False
    known = journal.entries[str(file.path)]
    with suppress(OSError):
        kinds = kinds_of(file, job)
        written = {kind: size for kind, size in known.outputs.items() if kind in kinds}
        return file.fingerprint == known.fingerprint and written == output_sizes(journal.output, file.name, kinds)
    return False


def run_batch(
    plan: Plan, job: Job, how: Compute | None, *, stop: Callable[[], bool] = lambda: False
) -> Generator[Outcome, None, None]:
    """Do `job` to every image that is wanted, by `how`; yields what became of each image of the plan, in order.

    `how` may be None if no image is wanted. One that fails is recorded with its reason and tried again by the next run;
    a result that it has already stays. Another configuration takes over with the first image that is done for it: until
    then all stays as it was. No image is begun once `stop()` is true; closing the iterator, too, ends early in good
    order. Raises OutOfSpaceError when the disk is full: what is finished stays, and the same command does the rest.
    """
    try:
        yield from _run(plan, job, how, stop)
    except OSError as error:
        if not is_full(error):
            raise
        raise OutOfSpaceError(
            f"no space left for {plan.journal.output}: make room and give the same command again; finished images stay"
        ) from error


def _run(plan: Plan, job: Job, how: Compute | None, stop: Callable[[], bool]) -> Iterator[Outcome]:
    journal = plan.journal
    if journal.config_hash is None and not (journal.output / RUN).exists():
        journal.take_over(job.config_hash)
    numbering = Numbering(journal.entries.values() if journal.config_hash == job.config_hash else ())
    full = False
    frames = FrameReader()
    try:
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            coming: deque[Callable[[], Outcome]] = deque()
            for file, reading in _read_ahead(plan, reader, job.bits, frames):
                if stop():
                    break
                if reading is None or how is None:
                    coming.append(partial(skipped, journal.entries[str(file.path)]))
                else:
                    attempt = compute(file, reading, how)
                    coming.append(writer.submit(write, attempt, job, journal, numbering).result)
                if len(coming) > 1:
                    yield coming.popleft()()
            while coming:
                yield coming.popleft()()
    except OSError as error:
        full = is_full(error)
        raise
    finally:
        frames.close()
        # On a full disk the files about all images stay as they were, too.
        damaged = [] if full else finish_run(plan, job)
    yield from damaged


def _read_ahead(
    plan: Plan, reader: Executor, bits: int | None, frames: FrameReader
) -> Iterator[tuple[ImageFile, Future[tuple[Attempt, NDArray[np.uint8]]] | None]]:
    """Every file and, if it is wanted, its image, whose reading begins while the one before is worked on."""
    ahead: deque[tuple[ImageFile, Future[Any] | None]] = deque()
    for file in plan.files:
        ahead.append((file, reader.submit(read, file, bits, frames) if file in plan.wanted else None))
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def finish_run(plan: Plan, job: Job) -> list[Outcome]:
    """Write the files about all images, unless they are there; those that had to be left out, as they are damaged.

    Before that, images that are done get those of the job's extras that they lack.
    """
    journal = plan.journal
    here = {str(file.path): file.name for file in plan.files}
    earlier = (source for source, entry in journal.entries.items() if entry.status != "left")
    names = {source: journal.entries[source].name for source in earlier if source not in here} | here
    if journal.config_hash != job.config_hash:
        # Nothing was done for this configuration, and what is there stays.
        return []
    _complete(journal, job)
    if journal.state == _state(journal.output, job, names):
        return []
    file_names = dict(zip(names, common_names(map(shown_path, names, names.values())), strict=True))
    damaged = []
    for source, reason in job.export(_finished(journal, file_names)).items():
        entry = journal.entries[source].model_copy(update={"status": "failed", "reason": reason})
        journal.add(entry, job.config_hash)
        damaged.append(Outcome(source, entry.name, "failed", reason, entry.seconds))
    images = [_run_image(journal, source, name, file_names[source]) for source, name in names.items()]
    write_json(journal.output / RUN, job.run_file(images, _largest(journal)).to_json())
    for source, entry in journal.entries.items():
        if entry.status == "left" and source not in here:
            remove_outputs(journal.output, entry.name, job.extras)
            if job.detach is not None:
                job.detach(entry.name, source)
    journal.end(_state(journal.output, job, names))
    return damaged


def _complete(journal: Journal, job: Job) -> None:
    """Make what is missing of the extras of images that are done; those with a damaged record are left alone."""
    for entry in list(journal.entries.values()):
        if entry.status != "done":
            continue
        if job.extras and job.complete is not None:
            sizes = output_sizes(journal.output, entry.name, job.extras)
            missing = [kind for kind in job.extras if kind not in sizes or entry.outputs.get(kind) != sizes[kind]]
            if missing and (files := job.complete(entry, missing)):
                write_outputs(journal.output, entry.name, files)
                outputs = entry.outputs | output_sizes(journal.output, entry.name, job.extras)
                journal.add(entry.model_copy(update={"outputs": outputs}), job.config_hash)
        if job.attach is not None:
            job.attach(entry)


def _finished(journal: Journal, file_names: Mapping[str, str]) -> list[Finished]:
    """The images that are through: those of earlier runs first, then this run's, in the order of its inputs."""
    through = ((journal.entries.get(source), file_name) for source, file_name in file_names.items())
    return [Finished(entry, name) for entry, name in through if entry is not None and entry.status != "left"]


def _run_image(journal: Journal, source: str, name: str, file_name: str) -> RunImage:
    """What run.json says of an image."""
    entry, stored = journal.entries.get(source), journal.stored(source)
    if entry is None or entry.status == "left":
        return RunImage(file_name=file_name, name=name, source=stored, status="pending", reason=None, seconds=0.0)
    return RunImage(
        file_name=file_name,
        name=name,
        source=stored,
        status=entry.status,
        reason=entry.reason,
        seconds=entry.seconds,
    )


def _largest(journal: Journal) -> float:
    """Million pixels of the largest image that is done."""
    sizes = (entry.size_hw for entry in journal.entries.values() if entry.size_hw is not None)
    return max((height * width for height, width in sizes), default=0) / 1e6


def _state(output: Path, job: Job, names: Iterable[str]) -> str:
    """What tells whether the files about all images are those of the journal's entries: they are not read for that.

    It is made of the images in order, of what else run.json says, and of the sizes of the files.
    """
    digest = hashlib.sha256(json_bytes([*names, job.run_file([], 0.0).to_json()]))
    for name in (*job.exports, RUN):
        size = -1
        with suppress(OSError):
            size = own_size(output / name)
        digest.update(f" {name} {size}".encode())
    return digest.hexdigest()
