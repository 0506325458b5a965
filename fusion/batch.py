"""Many pictures, one at a time: image files + a job → outputs on disk, a journal, and the files about them all.

Whatever ends the run, an exception or Ctrl-C, the files at the end are written for all that is finished;
after a kill, the same command finishes the rest, and the result is that of a run that was never stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.files import write_json
from fusion.images import read_image
from fusion.inputs import ImageFile, common_names, name_outputs
from fusion.journal import Entry, append_entry, open_journal, read_payload, start_journal

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
RUN = "run.json"
SKIPPED = "skipped"


@dataclass(frozen=True)
class Finished:
    """An image that is through, for the files at the end."""

    file_name: str  # path of the image relative to the folder that holds all images of the run
    payload: Callable[[], dict[str, Any]]  # reads what `Job.process` returned for it


@dataclass(frozen=True)
class Job:
    """What is done to every image, and to the output folder at the end."""

    config_hash: str  # of all that decides the results
    settings: Mapping[str, Any]  # for run.json: config, weights, versions, seed
    process: Callable[[NDArray[np.uint8], str], dict[str, Any]]  # (picture, output name) → payload; writes the outputs
    finish: Callable[[Sequence[Finished]], None]  # writes what is about all images
    is_whole: Callable[[str], bool]  # (output name) whether all outputs of an image are on disk
    remove: Callable[[str, bool], None]  # (output name, keep its masks) deletes the outputs of an image


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
    files: Sequence[ImageFile], output: Path, job: Job, *, overwrite: bool = False
) -> Generator[Entry, None, None]:
    """Do `job` to every image; yields what became of each: "done", "failed" or "skipped", in order.

    An image that is finished for the same configuration, with its file unchanged and its outputs in place, is
    skipped unless `overwrite`. One that fails is recorded with its reason and tried again by the next run. Close
    the iterator to end early in good order.
    """
    journal = output / JOURNAL
    found_hash, entries = open_journal(journal)
    latest = {entry.source: (offset, entry) for offset, entry in entries.items()}
    if found_hash != job.config_hash:
        here = {file.name for file in files}
        for _, entry in latest.values():
            job.remove(entry.name, entry.name in here)
        latest = {}
        start_journal(journal, job.config_hash)
    try:
        for file in files:
            source = str(file.path)
            known = latest[source][1] if source in latest else None
            if known and not overwrite and _is_finished(file, known, job):
                yield replace(known, status=SKIPPED)
                continue
            entry, payload = _attempt(file, job)
            latest[source] = (append_entry(journal, entry, payload), entry)
            yield entry
    finally:
        _finish(files, output, job, latest)


def _attempt(file: ImageFile, job: Job) -> tuple[Entry, dict[str, Any]]:
    start = time.perf_counter()
    fingerprint: list[int] = []
    payload: dict[str, Any] = {}
    reason = None
    try:
        fingerprint = file.fingerprint
        payload = job.process(read_image(file.path), file.name)
    except Exception as error:  # whatever is wrong with one image, the others go on; the reason is kept
        log.info("%s failed", file.path, exc_info=True)
        reason = " ".join(str(error).removeprefix(f"{file.path}: ").split()) or type(error).__name__
        job.remove(file.name, True)
    status = "done" if reason is None else "failed"
    seconds = round(time.perf_counter() - start, 3)
    return Entry(str(file.path), file.name, fingerprint, status, reason, seconds), payload


def _finish(files: Sequence[ImageFile], output: Path, job: Job, latest: dict[str, tuple[int, Entry]]) -> None:
    """Write the files about all images: those of earlier runs first, then this run's, in the order of its inputs."""
    wanted = dict.fromkeys(str(file.path) for file in files)
    order = [*(source for source in latest if source not in wanted), *(source for source in wanted if source in latest)]
    entries = [(*latest[source], name) for source, name in zip(order, common_names(order), strict=True)]
    payload = partial(read_payload, output / JOURNAL)
    job.finish([Finished(name, partial(payload, offset)) for offset, entry, name in entries if entry.status == "done"])
    images = [
        {"name": e.name, "file_name": name, "status": e.status, "reason": e.reason, "seconds": e.seconds}
        for _, e, name in entries
    ]
    write_json(output / RUN, {"config_hash": job.config_hash, **job.settings, "images": images})


def _is_finished(file: ImageFile, known: Entry, job: Job) -> bool:
    unchanged = file.path.is_file() and file.fingerprint == known.fingerprint
    return known.status == "done" and unchanged and job.is_whole(file.name)
