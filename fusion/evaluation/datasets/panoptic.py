"""COCO panoptic, validation 2017: 133 classes, and which pixels belong to which object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusion.evaluation.datasets.base import Dataset, DatasetKind, Sample
from fusion.evaluation.datasets.coco import IMAGES
from fusion.evaluation.datasets.coco_ids import PANOPTIC_IDS
from fusion.evaluation.datasets.files import check_files, folder_of, read_records, root_of
from fusion.evaluation.datasets.indices import read_png, sized
from fusion.evaluation.datasets.names import labels_of
from fusion.evaluation.metrics import UNKNOWN
from ground.images import read_image
from ovseg.labels import Label, as_labels

_JSON = "annotations/panoptic_val2017.json"
_MAPS = ("annotations/panoptic_val2017", "panoptic_val2017")
_VOID = 0
_OF_MATERIAL = re.compile(r"(?P<what>wall|floor|ceiling)-(?P<kind>.+)")


def _open(root: str, _no_label: int) -> Dataset:
    base = root_of(root)
    path = base / _JSON
    annotations, categories = read_records(path, "annotations", "categories")
    images, maps = folder_of(base, *IMAGES), folder_of(base, *_MAPS)
    try:
        labels = _labels(categories)
        classes = {category["id"]: index for index, category in enumerate(categories, start=1)}
        files = {Path(each["file_name"]).stem: _segments(each["segments_info"], classes) for each in annotations}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no file of COCO panoptic ({type(error).__name__}: {error})") from None
    check_files([file for name in files for file in (images / f"{name}.jpg", maps / f"{name}.png")])

    def load(name: str) -> Sample:
        image = read_image(images / f"{name}.jpg")
        return _sample(name, image, maps / f"{name}.png", files[name])

    return Dataset(labels, tuple(files), load, instances=True)


def _segments(segments: list[Any], classes: Mapping[int, int]) -> dict[int, tuple[int, bool]]:
    """Id of a segment → its class, and whether it is a crowd."""
    return {each["id"]: (classes[each["category_id"]], bool(each.get("iscrowd", 0))) for each in segments}


def _sample(name: str, image: np.ndarray, path: Path, segments: Mapping[int, tuple[int, bool]]) -> Sample:
    pixels = read_png(path)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"{path} is {pixels.shape}, expected RGB whose ids are R + 256 G + 65536 B")
    ids = sized(pixels.astype(np.int32) @ np.array([1, 256, 65536], np.int32), image, path)
    values, regions = np.unique(ids, return_inverse=True)
    unknown = [int(value) for value in values if value != _VOID and int(value) not in segments]
    if unknown:
        raise ValueError(f"{path} has the segment {unknown[0]}, which {_JSON} does not list")
    found = [segments.get(int(value), (UNKNOWN, False)) for value in values]
    truth = np.array([class_id for class_id, _ in found], np.int32)[regions.reshape(ids.shape)]
    numbers = np.cumsum(values != _VOID) - 1  # regions are numbered without the void
    region_ids = np.where(values == _VOID, UNKNOWN, numbers).astype(np.int32)[regions.reshape(ids.shape)]
    crowds = frozenset(int(number) for number, (_, crowd) in zip(numbers, found, strict=True) if crowd)
    return Sample(name, image, truth, region_ids, crowds)


def _labels(categories: list[Any]) -> tuple[Label, ...]:
    """Our labels for COCO's own 133 categories; for others their names, made plain."""
    ids = [category["id"] for category in categories]
    if set(ids) == set(PANOPTIC_IDS):
        ours = dict(zip(PANOPTIC_IDS, labels_of("coco-things", "coco-panoptic"), strict=True))
        return tuple(ours[id_] for id_ in ids)
    return as_labels([Label(plain(each["name"]), stuff=not each["isthing"]) for each in categories])


def plain(name: str) -> str:
    """A name of COCO's stuff in plain words: "sky-other-merged" is sky, "wall-brick" is brick wall."""
    name = re.sub(r"-(other|merged|stuff)\b", "", name)
    return _OF_MATERIAL.sub(r"\g<kind> \g<what>", name).replace("-", " ")


COCO_PANOPTIC = DatasetKind(
    about="COCO panoptic, val2017: 80 kinds of things and 53 of stuff, with their objects",
    tree="""coco/
├── val2017/NAME.jpg                          or images/val2017/NAME.jpg
└── annotations/
    ├── panoptic_val2017.json
    └── panoptic_val2017/NAME.png             or panoptic_val2017/NAME.png beside annotations/""",
    open=_open,
)
