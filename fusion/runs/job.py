"""What is done to every image of a batch, and what is known of an image when it is through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusion.formats.schema import JournalEntry, RunImage


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
class Written:
    """What `Job.write` says of an image."""

    size_hw: tuple[int, int]
    first_id: int = 0  # of its annotations; 0 if it has none
    num_annotations: int = 0


@dataclass(frozen=True)
class Job:
    """What is done to every image, and to the output folder at the end."""

    config_hash: str  # of all that decides the results
    compute: Callable[[NDArray[np.uint8], str], Any]  # (image, output name) → what `write` takes
    # (result, output name, number of annotations → id of the first) writes the outputs, in a thread.
    write: Callable[[Any, str, Callable[[int], int]], Written]
    finish: Callable[[Sequence[Finished], Sequence[RunImage]], None]  # writes what is about all images
    is_whole: Callable[[str], bool]  # (output name) whether all outputs of an image are on disk
    remove: Callable[[str, bool], None]  # (output name, keep its masks) deletes the outputs of an image
