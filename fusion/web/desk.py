"""What one page works on: images, their segmentations and corrections; and the bounded store of all pages' desks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from uuid import uuid4

from numpy.typing import NDArray

from fusion.runs.spec import RunSpec
from fusion.serve.service import Answer
from fusion.step.segmentation import Segmentation
from fusion.step.votes import Votes, votes_of
from fusion.web.edit import History, begin, corrected
from ovseg.labels import Label

MAX_PAGES = 1000  # of which anything is kept


@dataclass(frozen=True, eq=False)
class Work:
    """An image on a desk."""

    name: str  # of its file
    data: bytes  # of its file
    answer: Answer
    votes: Votes
    history: History
    min_area: int  # px, of the fusion
    key: str = field(default_factory=lambda: uuid4().hex)  # tells a page whether it has the image already

    @cached_property
    def result(self) -> Segmentation:
        """The segmentation with all corrections."""
        return corrected(self.answer.result, self.history, self.votes, self.min_area)

    @property
    def is_edited(self) -> bool:
        """Whether it differs from what the models made."""
        return self.history.now != self.history.states[0]

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        result, coarse = self.answer.result, self.answer.coarse
        arrays: list[NDArray[Any]] = [self.answer.image, result.label_map, result.score_map, result.mask_map]
        arrays += [self.answer.masks.features, self.history.parts.part_map, coarse.label_map, coarse.logits]
        # A corrected result has maps of its own.
        return len(self.data) + sum(array.nbytes for array in arrays) + 9 * result.label_map.size


def work_of(name: str, data: bytes, answer: Answer, spec: RunSpec) -> Work:
    """An image whose segmentation has just been made."""
    min_area = spec.preset.fusion.min_area
    history = begin(answer.result, min_area)
    return Work(name, data, answer, votes_of(answer.result.mask_map, answer.coarse), history, min_area)


@dataclass(frozen=True, eq=False)
class Desk:
    """Images of one page, all segmented by the same spec. Never changed: what is done to it makes a new one."""

    spec: RunSpec
    works: tuple[Work, ...] = ()
    shown: int = 0  # which of them is looked at

    @property
    def work(self) -> Work:
        """The image that is looked at. ValueError if there is none."""
        if not self.works:
            raise ValueError("there is no segmented image here (any more): press Segment")
        return self.works[self.shown]

    @property
    def labels(self) -> tuple[Label, ...]:
        """Those that were asked for, then those that were added by hand."""
        return self.works[0].history.labels if self.works else self.spec.labels

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return sum(work.num_bytes for work in self.works)

    def add(self, work: Work) -> Desk:
        """With one more image."""
        return replace(self, works=(*self.works, work))

    def show(self, index: int) -> Desk:
        """Look at another image. ValueError if there is none of that number."""
        if type(index) is not int or not 0 <= index < len(self.works):
            raise ValueError(f"image is {index!r}, expected a whole number below {len(self.works)}")
        return replace(self, shown=index)

    def relabel(self, parts: Iterable[int], label: str | None) -> Desk:
        """See `History.relabel`; a new label is one of all images of the desk, and must not be a background label."""
        history = self.work.history.relabel(parts, label)
        if len(history.labels) > len(self.labels):
            replace(self.spec, labels=history.labels)  # which checks them
        return self._with(history)

    def merge(self, parts: Iterable[int], neighbour: int) -> Desk:
        """See `History.merge`."""
        return self._with(self.work.history.merge(parts, neighbour))

    def undo(self) -> Desk:
        """See `History.undo`."""
        return self._with(self.work.history.undo())

    def redo(self) -> Desk:
        """See `History.redo`."""
        return self._with(self.work.history.redo())

    def _with(self, history: History) -> Desk:
        works = [
            work if work.history.labels == history.labels else _with_labels(work, history.labels) for work in self.works
        ]
        works[self.shown] = replace(self.work, history=history)
        return replace(self, works=tuple(works))


def _with_labels(work: Work, labels: tuple[Label, ...]) -> Work:
    return replace(work, history=replace(work.history, labels=labels))


@dataclass(eq=False)
class _Place:
    """What is kept for one page."""

    desk: Desk | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Desks:
    """The desks of all open pages in at most `limit` bytes; of those that were not used for longest nothing is kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._places)

    def get(self, page: str) -> Desk:
        """The desk of a page. ValueError if there is none, or if it had to make room for others."""
        desk = self._place(page).desk
        if desk is None:
            raise ValueError("there is no segmented image here (any more): press Segment")
        return desk

    def put(self, page: str, desk: Desk) -> None:
        """Keep the desk of a page. ValueError if it alone is larger than all that may be kept."""
        if desk.num_bytes > self.limit:
            raise ValueError(
                f"these images take {desk.num_bytes / 1e6:.0f} MB of memory, expected {self.limit / 1e6:.0f} at most: "
                "give fewer or smaller ones"
            )
        self._place(page).desk = desk
        with self._lock:
            while sum(place.desk.num_bytes for place in self._places.values() if place.desk) > self.limit:
                self._places.popitem(last=False)

    def change(self, page: str, how: Callable[[Desk], Desk]) -> Desk:
        """The desk of a page as `how` makes it, which is kept; one change after another."""
        with self._place(page).lock:
            desk = how(self.get(page))
            self.put(page, desk)
        return desk

    def forget(self, page: str) -> None:
        """The page is closed: what it waits for is cancelled."""
        with self._lock:
            place = self._places.pop(page, None)
        if place is not None:
            place.cancelled.set()

    def cancelled(self, page: str) -> threading.Event:
        """Set once a page's user wants to wait no longer."""
        return self._place(page).cancelled

    def _place(self, page: str) -> _Place:
        with self._lock:
            place = self._places.setdefault(page, _Place())
            self._places.move_to_end(page)
            while len(self._places) > MAX_PAGES:
                self._places.popitem(last=False)
            return place
