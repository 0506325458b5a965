"""Cityscapes, its validation split: 19 classes of streets, and which pixels belong to which object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.datasets.base import Dataset, DatasetKind, Sample
from fusion.evaluation.datasets.files import check_files, folder_of, stems
from fusion.evaluation.datasets.indices import class_regions, id_table, read_png, sized, truth_of
from fusion.evaluation.datasets.names import labels_of
from fusion.evaluation.metrics import UNKNOWN
from fusion.evaluation.missing import MissingFilesError
from ground.images import read_image
from ovseg.labels import Label

_IMAGE = "_leftImg8bit.png"
_KINDS = ("_gtFine_labelIds.png", "_gtFine_labelTrainIds.png")  # of label maps; the first that is there counts
_OBJECTS = "_gtFine_instanceIds.png"
_TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of label ids, in order
_LAST_ID = 33
_VOID = 255
_PER_CLASS = 1000  # instance ids of objects are class * 1000 + number; below it stand classes, and groups of objects


def _open(root: str, _no_label: int) -> Dataset:
    images, maps = folder_of(root, "leftImg8bit/val"), folder_of(root, "gtFine/val")
    cities = sorted(city.name for city in images.iterdir() if city.is_dir())
    names = {name: city for city in cities for name in stems(images / city, _IMAGE)}
    if not names:
        raise MissingFilesError(f"no CITY/NAME{_IMAGE} in {images}")

    def files(suffix: str) -> dict[str, Path]:
        return {name: maps / city / f"{name}{suffix}" for name, city in names.items()}

    kind = next((kind for kind in _KINDS if next(iter(files(kind).values())).is_file()), _KINDS[0])
    label_maps, objects = files(kind), files(_OBJECTS)
    instances = any(path.is_file() for path in objects.values())
    check_files([*label_maps.values(), *(objects.values() if instances else ())])
    labels = labels_of("cityscapes")
    if kind == _KINDS[0]:
        found_ids = dict.fromkeys([*range(_LAST_ID + 1), _VOID], UNKNOWN)
        found_ids |= {id_: index for index, id_ in enumerate(_TRAIN_IDS, start=1)}
    else:
        found_ids = {index - 1: index for index in range(1, len(labels) + 1)} | {_VOID: UNKNOWN}
    ids = id_table(found_ids)

    def load(name: str) -> Sample:
        image = read_image(images / names[name] / f"{name}{_IMAGE}")
        path = label_maps[name]
        truth = truth_of(sized(read_png(path), image, path), ids, path)
        if not instances:
            return Sample(name, image, truth, class_regions(truth))
        found = sized(read_png(objects[name]), image, objects[name])
        return Sample(name, image, truth, *_regions(truth, found, labels))

    return Dataset(labels, tuple(names), load, instances=instances)


def _regions(
    truth: NDArray[np.int32], objects: NDArray[np.int32], labels: tuple[Label, ...]
) -> tuple[NDArray[np.int32], frozenset[int]]:
    """Regions (H, W) of instance ids, from 0, and which of them are groups: a class of things without a number."""
    known = truth > 0
    values, firsts, regions = np.unique(objects[known], return_index=True, return_inverse=True)
    result = np.full(truth.shape, UNKNOWN, np.int32)
    result[known] = regions.reshape(-1)
    things = [not labels[index - 1].stuff for index in truth[known][firsts]]
    groups = [i for i, (value, thing) in enumerate(zip(values, things, strict=True)) if thing and value < _PER_CLASS]
    return result, frozenset(groups)


CITYSCAPES = DatasetKind(
    about="Cityscapes, validation: 19 kinds of things and stuff of streets, with their objects",
    tree="""cityscapes/
├── leftImg8bit/val/CITY/NAME_leftImg8bit.png
└── gtFine/val/CITY/
    ├── NAME_gtFine_labelIds.png          0 to 33; or NAME_gtFine_labelTrainIds.png: 0 to 18, 255 = void
    └── NAME_gtFine_instanceIds.png       if they are there, objects are told apart""",
    open=_open,
)
