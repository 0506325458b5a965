"""Pictures with their truth: the name of a data set and its root → words to look for, and samples one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture (H, W) and what is true about it."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    truth: NDArray[np.int32]  # (H, W): i = the data set's words[i - 1]; 0 = none of them
    regions: NDArray[np.int32]  # (H, W): id of the object or surface, from 0; two of one word are two regions


@dataclass(frozen=True)
class Dataset:
    """Words and samples."""

    words: tuple[str, ...]  # all classes, looked for at once in every picture
    count: int  # number of samples
    samples: Callable[[], Iterator[Sample]]


def open_dataset(name: str, root: str, limit: int | None = None) -> Dataset:
    """The data set `name` of DATASETS, the first `limit` samples of it. ValueError on an unknown name or a bad root."""
    if name not in DATASETS:
        raise ValueError(f"dataset is {name!r}, expected one of {', '.join(DATASETS)}")
    return DATASETS[name](root, limit)


def _toy(root: str, limit: int | None) -> Dataset:
    """Scenes of the toy world; `root` is a range of seeds "FIRST:END", END not among them."""
    from toyworld import KINDS, scene

    first, colon, end = root.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(
            f"root is {root!r}, expected a range of seeds FIRST:END such as 1000000:1000040 for dataset toy"
        )
    seeds = range(int(first), int(end))[:limit]
    ids = {kind: index for index, kind in enumerate(KINDS, start=1)}

    def samples() -> Iterator[Sample]:
        for seed in seeds:
            made = scene(seed)
            kind_ids = np.array([ids[kind] for kind in made.kinds], np.int32)
            yield Sample(made.image, kind_ids[made.label_map], made.label_map)

    return Dataset(tuple(KINDS), len(seeds), samples)


DATASETS: dict[str, Callable[[str, int | None], Dataset]] = {"toy": _toy}
