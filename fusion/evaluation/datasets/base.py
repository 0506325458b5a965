"""What every data set gives: its labels, the names of its samples, and any one of them by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovseg.labels import Label


@dataclass(frozen=True, eq=False)
class Sample:
    """An image (H, W) and what is true about it; pixels that are metrics.UNKNOWN in both maps count nowhere."""

    name: str  # no other sample of the data set is called that
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    truth: NDArray[np.int32]  # (H, W): i = the data set's labels[i - 1]; 0 = none of them
    regions: NDArray[np.int32]  # (H, W): id of the object or surface, from 0; two of one label may be two regions
    crowds: frozenset[int] = frozenset()  # ids of regions that are groups of objects; PQ and AP leave them out


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labels and samples."""

    labels: tuple[Label, ...]  # all classes, looked for at once in every image
    names: tuple[str, ...]  # of the samples, in order
    load: Callable[[str], Sample]  # reads the sample of that name; the others need not be read for it
    background: tuple[Label, ...] = ()  # compete with the labels; what they win is none of these
    instances: bool = False  # whether regions tell objects of one label apart, as PQ and AP need it

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.names)

    def samples(self) -> Iterator[Sample]:
        """All samples in order, each read when its turn comes."""
        return map(self.load, self.names)


@dataclass(frozen=True)
class DatasetKind:
    """A kind of data set, as the command line and the docs describe it."""

    about: str  # one line: what it shows, and how many labels it has
    tree: str  # what its root is: the files that are expected there
    open: Callable[[str, int], Dataset]  # (root, what its own class "background" becomes: 0 or UNKNOWN) → all of it
