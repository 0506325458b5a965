"""Images with their truth: the name of a data set and its root → labels to look for, and samples one at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.evaluation.metrics import UNKNOWN
from fusion.runs.search import SUFFIXES
from ground.images import read_image
from ground.paths import user_path
from ovseg.labels import Label, as_labels

_BLANK = 255  # in the label maps of `pictures`: nobody said what is there
_NO_LABEL = "background"  # their class of everything that nobody named: it is not looked for


@dataclass(frozen=True, eq=False)
class Sample:
    """An image (H, W) and what is true about it; pixels that are metrics.UNKNOWN in both maps count nowhere."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    truth: NDArray[np.int32]  # (H, W): i = the data set's labels[i - 1]; 0 = none of them
    regions: NDArray[np.int32]  # (H, W): id of the object or surface, from 0; two of one label may be two regions


@dataclass(frozen=True)
class Dataset:
    """Labels and samples."""

    labels: tuple[str, ...]  # all classes, looked for at once in every image
    count: int  # number of samples
    samples: Callable[[], Iterator[Sample]]
    background: tuple[Label, ...] = ()  # compete with the labels; what they win is none of these


def open_dataset(
    name: str, root: str, limit: int | None = None, background: Sequence[str | Label] | None = None
) -> Dataset:
    """The data set `name` of DATASETS, the first `limit` samples of it, with `background` labels beside its own.

    What a data set itself calls background is unknown if they are None; with any of them, or an empty list, it is 0,
    none of the labels. ValueError on an unknown name, a bad root or bad labels.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset is {name!r}, expected one of {', '.join(DATASETS)}")
    data = DATASETS[name](root, limit, UNKNOWN if background is None else 0)
    return replace(data, background=as_labels(data.labels, background or ())[len(data.labels) :])


def _toy(root: str, limit: int | None, _no_label: int) -> Dataset:
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


def _pictures(root: str, limit: int | None, no_label: int) -> Dataset:
    """Photographs with label maps; `root` is "FOLDER", or "FOLDER:FIRST:END:STEP" for a slice of it as in Python.

    FOLDER holds names.txt (a class a line, in the order of the indices) and label maps: 8-bit PNGs of class indices,
    255 where nothing is known. The images have the same names, but for the suffix, in the folder whose path has
    `images` in place of the last `labels`: DIR/labels and DIR/images, or DIR/labels/SOURCE and DIR/images/SOURCE.
    A class `background` is `no_label`, 0 or unknown too. Label maps tell no objects apart: regions are the classes.
    """
    match = re.fullmatch(r"(.+?)(?::(\d*):(\d*):(\d*))?", root)
    labels = user_path(match[1] if match else root)
    if "labels" not in labels.parts or not (labels / "names.txt").is_file():
        raise ValueError(
            f"root is {root!r}, expected a folder of label maps with a names.txt, `labels` in its path, "
            "and perhaps a slice such as :0::10, for dataset pictures"
        )
    bounds = [int(text) if text else None for text in match.groups()[1:]] if match else []
    if bounds and bounds[2] == 0:
        raise ValueError(f"root is {root!r}, expected a step from 1")
    last = len(labels.parts) - 1 - labels.parts[::-1].index("labels")
    folder = Path(*labels.parts[:last], "images", *labels.parts[last + 1 :])
    images = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES}
    maps = sorted(labels.glob("*.png"))
    missing = [path.name for path in maps if path.stem not in images]
    if missing or not maps:
        raise ValueError(f"no images in {folder} for {', '.join(missing[:3]) or f'a label map in {labels}'}")
    maps = maps[slice(*bounds) if bounds else slice(None)][:limit]
    names = (labels / "names.txt").read_text(encoding="utf-8").split("\n")
    names = [name.strip() for name in names if name.strip()]
    named = tuple(name for name in names if name != _NO_LABEL)
    ids = np.full(256, -2, np.int32)  # -2: no such class
    ids[: len(names)] = [no_label if name == _NO_LABEL else named.index(name) + 1 for name in names]
    ids[_BLANK] = UNKNOWN

    def samples() -> Iterator[Sample]:
        for path in maps:
            image = read_image(images[path.stem])
            with Image.open(path) as label_map:
                indices = np.asarray(label_map)
            if indices.dtype != np.uint8 or indices.shape != image.shape[:2]:
                found = f"{indices.shape} {indices.dtype}"
                raise ValueError(f"{path} is {found}, expected 8-bit indices of its image's size {image.shape[:2]}")
            truth = ids[indices]
            if truth.min() < UNKNOWN:
                raise ValueError(f"{path} has the class {indices[truth < UNKNOWN][0]}, expected below {len(names)}")
            yield Sample(image, truth, np.where(truth > 0, truth - 1, UNKNOWN))

    return Dataset(named, len(maps), samples)


DATASETS: dict[str, Callable[[str, int | None, int], Dataset]] = {"toy": _toy, "pictures": _pictures}
