"""One image on its way through a batch: read, computed, written, noted in the journal; a failure keeps its reason."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.formats.schema import JournalEntry
from fusion.runs.inputs import ImageFile
from fusion.runs.job import Job, Outcome
from fusion.runs.journal import Numbering, append_entry
from ground.files import is_full
from ground.images import read_image

log = logging.getLogger(__name__)


@dataclass
class Attempt:
    """An image on its way through."""

    file: ImageFile
    fingerprint: list[int]
    seconds: float  # of work on it so far, waiting not included
    result: Any = None  # of `Job.compute`
    reason: str | None = None  # why it failed


def read(file: ImageFile) -> tuple[Attempt, NDArray[np.uint8]]:
    start = time.perf_counter()
    fingerprint = file.fingerprint
    image = read_image(file.path)
    return Attempt(file, fingerprint, time.perf_counter() - start), image


def compute(file: ImageFile, reading: Future[tuple[Attempt, NDArray[np.uint8]]], job: Job) -> Attempt:
    attempt = Attempt(file, [], 0.0)
    try:
        attempt, image = reading.result()
        start = time.perf_counter()
        attempt.result = job.compute(image, file.name)
        attempt.seconds += time.perf_counter() - start
    except Exception as error:  # whatever is wrong with one image, the others go on; the reason is kept
        attempt.reason = _reason(error, file)
    return attempt


def write(attempt: Attempt, job: Job, journal: Path, numbering: Numbering) -> Outcome:
    start, file = time.perf_counter(), attempt.file
    source = str(file.path)
    written = None
    if attempt.reason is None:
        try:
            written = job.write(attempt.result, file.name, lambda count: numbering.first_id(source, count))
        except Exception as error:
            if is_full(error):
                raise
            attempt.reason = _reason(error, file)
    if written is None:
        job.remove(file.name, True)
    entry = JournalEntry(
        source=source,
        name=file.name,
        fingerprint=attempt.fingerprint,
        status="failed" if written is None else "done",
        reason=attempt.reason,
        seconds=round(attempt.seconds + time.perf_counter() - start, 3),
        image_id=0 if written is None else numbering.image_id(source),
        first_id=0 if written is None else written.first_id,
        num_annotations=0 if written is None else written.num_annotations,
        size_hw=None if written is None else list(written.size_hw),
    )
    append_entry(journal, entry)
    numbering.note(entry)
    return Outcome(entry.source, entry.name, entry.status, entry.reason, entry.seconds)


def skipped(entry: JournalEntry) -> Outcome:
    return Outcome(entry.source, entry.name, "skipped", entry.reason, entry.seconds)


def _reason(error: Exception, file: ImageFile) -> str:
    log.info("%s failed", file.path, exc_info=error)
    return " ".join(str(error).removeprefix(f"{file.path}: ").split()) or type(error).__name__
