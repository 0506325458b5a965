"""Images of a page, one after another through the service's line → a growing desk, and what to tell meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from threading import Event

from fusion.runs.spec import RunSpec
from fusion.serve.service import Answer, Service
from fusion.web.desk import Desk, work_of

MAX_IMAGES = 50  # of a page
_TELL_EVERY = 0.25  # s


@dataclass(frozen=True)
class Upload:
    """An image file that a page has chosen."""

    name: str
    data: bytes


@dataclass(frozen=True, eq=False)
class Progress:
    """How far it is."""

    desk: Desk  # with the images that are done
    total: int
    text: str  # for people
    share: float  # 0..1 of all
    failures: tuple[str, ...] = ()  # "name: reason" of images that could not be segmented


def segmenting(service: Service, uploads: Sequence[Upload], spec: RunSpec, cancelled: Event) -> Iterator[Progress]:
    """Segment `uploads` by `spec`: what is going on, a few times a second, and at the end the whole.

    An image that fails is told among the failures, and the others go on. Once `cancelled` is set it ends with what is
    done; what is in hand is finished by the worker, and its masks are kept for another time. Raises ValueError on no
    images or too many, LineFull and LineClosed as `Service.segment` does.
    """
    if not uploads:
        raise ValueError("no images: drop some, or choose some")
    if len(uploads) > MAX_IMAGES:
        raise ValueError(f"{len(uploads)} images, expected {MAX_IMAGES} at most: `emerseg segment` does folders")
    desk, total = Desk(spec), len(uploads)
    failures: tuple[str, ...] = ()
    for number, upload in enumerate(uploads):
        place = f"image {number + 1} of {total}, {upload.name}"
        future = service.segment(upload.data, spec, upload.name[:64])
        try:
            for text in _waiting(service, future, cancelled, place):
                yield Progress(desk, total, text, (number + 0.3) / total, failures)
            if cancelled.is_set():
                yield Progress(desk, total, f"Cancelled: {number} of {total} done", 1.0, failures)
                return
            desk = desk.add(work_of(upload.name, upload.data, future.result(), spec))
        except ValueError as error:
            failures = (*failures, f"{upload.name}: {str(error).removeprefix('image: ')}")
        finally:
            future.cancel()
        yield Progress(desk, total, place, (number + 1) / total, failures)


def _waiting(service: Service, future: Future[Answer], cancelled: Event, place: str) -> Iterator[str]:
    """What to tell until the future is done, or until nobody waits for it any more."""
    start = time.monotonic()
    while not cancelled.is_set():
        try:
            future.exception(_TELL_EVERY)
            return
        except NotYet:
            seconds = time.monotonic() - start
            waits = not future.running() and len(service.line.state.waiting)
            yield f"Waiting: {waits} in the queue" if waits else f"Segmenting {place}: {seconds:.0f} s"
