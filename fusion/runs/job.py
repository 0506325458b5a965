"""What is done to every image of a batch, and what is known of an image when it is through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.formats.record import Record
from fusion.formats.schema import JournalEntry, RunImage

Compute = Callable[[NDArray[np.uint8], str], Any]  # (image, output name) → what `Job.encode` takes


@dataclass(frozen=True)
class Outcome:
    """What became of an image, for whoever runs the batch."""

    source: str  # absolute path of the image file
    name: str  # stem of its outputs
    status: Literal["done", "failed", "skipped"]
    reason: str | None  # why it failed
    seconds: float  # wall time; of a skipped image that of the run that finished it


@dataclass(frozen=True)
class Finished:
    """An image that is through, for the files at the end."""

    entry: JournalEntry
    file_name: str  # path of the image relative to the folder that holds all images of the run


@dataclass(frozen=True)
class Encoded:
    """The outputs of an image, not yet on disk."""

    size_hw: tuple[int, int]
    files: Mapping[str, bytes]  # kind → what is to be written, in that order; of cached masks nothing
    first_id: int = 0  # of its annotations; 0 if it has none
    num_annotations: int = 0


@dataclass(frozen=True)
class Job:
    """What is written of every image, and of all of them at the end. Models have no part in it: see `Compute`."""

    config_hash: str  # of all that decides the results
    kinds: tuple[str, ...]  # of the files that an image has when it is done, see `outputs.SUFFIXES`
    # (result of Compute, number of annotations → id of the first) → outputs; in a thread.
    encode: Callable[[Any, Callable[[int], int]], Encoded]
    exports: tuple[str, ...]  # names of the files that `export` writes
    # Writes what is about all images; source → reason for those that had to be left out.
    export: Callable[[Sequence[Finished]], Mapping[str, str]]
    # (images, million pixels of the largest that is done) → what run.json holds.
    run_file: Callable[[Sequence[RunImage], float], Record]
    # Further kinds, made of what is on disk where they are missing: an image without them is done nevertheless.
    extras: tuple[str, ...] = ()
    # (image that is done, extras) → what they hold
    complete: Callable[[JournalEntry, Sequence[str]], Mapping[str, bytes]] | None = None
    attach: Callable[[JournalEntry], None] | None = None  # makes what else belongs to such an image, if it is missing
    detach: Callable[[str, str], None] | None = None  # (output name, source): removes it, as the image is another now
    bits: int | None = None  # that 16-bit samples of the images hold, if their files do not say it
