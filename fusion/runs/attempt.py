"""One image on its way through a batch: read, computed, written, noted in the journal; a failure keeps its reason."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.formats.schema import JournalEntry
from fusion.runs.inputs import ImageFile
from fusion.runs.job import Compute, Encoded, Job, Outcome
from fusion.runs.journal import Journal, Numbering
from fusion.runs.outputs import output_sizes, png_bytes, remove_outputs, write_outputs
from ground.files import is_full
from ground.georeference import georeference, geotiff
from ground.images import read_image
from ground.video import NEEDS_EVERY, FrameReader, is_video, split_frame

log = logging.getLogger(__name__)


@dataclass
class Attempt:
    """An image on its way through."""

    file: ImageFile
    fingerprint: list[int]
    seconds: float  # of work on it so far, waiting not included
    frame: NDArray[np.uint8] | None = None  # (H, W, 3) of a video, which is written as well
    result: Any = None  # of `Compute`
    reason: str | None = None  # why it failed


def read(file: ImageFile, bits: int | None, frames: FrameReader) -> tuple[Attempt, NDArray[np.uint8]]:
    start = time.perf_counter()
    path, number = split_frame(file.path)
    fingerprint = file.fingerprint if path.is_file() else []
    if number is None and is_video(path) and path.is_file():
        raise ValueError(NEEDS_EVERY)
    image = read_image(path, bits) if number is None else frames.read(path, number)
    frame = None if number is None else image
    return Attempt(file, fingerprint, time.perf_counter() - start, frame), image


def kinds_of(file: ImageFile, job: Job) -> tuple[str, ...]:
    """The kinds of files that an image has when it is done."""
    if split_frame(file.path)[1] is not None:
        return ("video-frames", *job.kinds)
    return (*job.kinds, "geotiff") if "semantic" in job.kinds and georeference(file.path) is not None else job.kinds


def compute(file: ImageFile, reading: Future[tuple[Attempt, NDArray[np.uint8]]], how: Compute) -> Attempt:
    attempt = Attempt(file, [], 0.0)
    try:
        attempt, image = reading.result()
        start = time.perf_counter()
        attempt.result = how(image, file.name)
        attempt.seconds += time.perf_counter() - start
    except Exception as error:  # whatever is wrong with one image, the others go on; the reason is kept
        attempt.reason = _reason(error, file)
    return attempt


def write(attempt: Attempt, job: Job, journal: Journal, numbering: Numbering) -> Outcome:
    """Encode, write and note. A result that is there already stays until the new one is about to be written."""
    start, source = time.perf_counter(), str(attempt.file.path)
    encoded = None
    if attempt.reason is None:
        try:
            encoded = job.encode(attempt.result, lambda count: numbering.first_id(source, count))
        except Exception as error:
            attempt.reason = _reason(error, attempt.file)
    stays = encoded is None and journal.has_done(source, job.config_hash)
    if encoded is not None:
        journal.take_over(job.config_hash)
        try:
            frame = {} if attempt.frame is None else {"video-frames": png_bytes(attempt.frame)}
            where = georeference(attempt.file.path) if "semantic" in encoded.files else None
            lying = {} if where is None else {"geotiff": geotiff(encoded.files["semantic"], where)}
            write_outputs(journal.output, attempt.file.name, {**frame, **lying, **encoded.files})
            if job.detach is not None:
                job.detach(attempt.file.name, source)
        except OSError as error:
            if is_full(error):
                raise
            attempt.reason, encoded = _reason(error, attempt.file), None
            remove_outputs(journal.output, attempt.file.name, job.extras)
    seconds = round(attempt.seconds + time.perf_counter() - start, 3)
    entry = _entry(attempt, encoded, job, journal, numbering, seconds)
    if not stays:
        journal.add(entry, job.config_hash)
        numbering.note(entry)
    return Outcome(source, entry.name, "failed" if encoded is None else "done", entry.reason, entry.seconds)


def _entry(
    attempt: Attempt, encoded: Encoded | None, job: Job, journal: Journal, numbering: Numbering, seconds: float
) -> JournalEntry:
    file = attempt.file
    return JournalEntry(
        source=str(file.path),
        name=file.name,
        fingerprint=attempt.fingerprint,
        status="failed" if encoded is None else "done",
        reason=attempt.reason,
        seconds=seconds,
        image_id=0 if encoded is None else numbering.image_id(str(file.path)),
        first_id=0 if encoded is None else encoded.first_id,
        num_annotations=0 if encoded is None else encoded.num_annotations,
        size_hw=None if encoded is None else list(encoded.size_hw),
        outputs={} if encoded is None else output_sizes(journal.output, file.name, (*kinds_of(file, job), *job.extras)),
    )


def skipped(entry: JournalEntry) -> Outcome:
    return Outcome(entry.source, entry.name, "skipped", entry.reason, entry.seconds)


def _reason(error: Exception, file: ImageFile) -> str:
    log.info("%s failed", file.path, exc_info=error)
    return " ".join(str(error).removeprefix(f"{file.path}: ").split()) or type(error).__name__
