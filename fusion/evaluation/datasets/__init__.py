"""Images with their truth: the name of a data set and its root → labels to look for, and samples one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fusion.evaluation.datasets.ade import ADE20K
from fusion.evaluation.datasets.base import Dataset, DatasetKind, Sample
from fusion.evaluation.datasets.cityscapes import CITYSCAPES
from fusion.evaluation.datasets.coco import COCO_OBJECT, COCO_STUFF, COCO_STUFF27
from fusion.evaluation.datasets.context import CONTEXT59, CONTEXT60
from fusion.evaluation.datasets.folder import FOLDER
from fusion.evaluation.datasets.panoptic import COCO_PANOPTIC
from fusion.evaluation.datasets.pictures import PICTURES
from fusion.evaluation.datasets.toy import TOY
from fusion.evaluation.datasets.voc import VOC20, VOC21
from fusion.evaluation.metrics import UNKNOWN
from fusion.evaluation.missing import MissingFilesError
from ovseg.labels import Label, as_labels

__all__ = ["DATASETS", "Dataset", "DatasetKind", "Sample", "open_dataset"]

DATASETS: dict[str, DatasetKind] = {
    "toy": TOY,
    "pictures": PICTURES,
    "voc20": VOC20,
    "voc21": VOC21,
    "context59": CONTEXT59,
    "context60": CONTEXT60,
    "coco-object": COCO_OBJECT,
    "coco-stuff": COCO_STUFF,
    "coco-stuff27": COCO_STUFF27,
    "ade20k": ADE20K,
    "cityscapes": CITYSCAPES,
    "coco-panoptic": COCO_PANOPTIC,
    "folder": FOLDER,
}


def open_dataset(
    name: str,
    root: str,
    limit: int | None = None,
    background: Sequence[str | Label] | None = None,
    shuffle_seed: int | None = None,
) -> Dataset:
    """The data set `name` of DATASETS, the first `limit` samples of it, with `background` labels beside its own.

    With a `shuffle_seed` the samples are shuffled before the first are taken, always alike for one seed. `background`
    takes the place of the background labels that the data set brings. What a data set of `pictures` or `folder` calls
    background is unknown if they are None; with any of them, or an empty list, it is 0, none of the labels.
    ValueError on an unknown name, a bad root or bad labels, and MissingFilesError, a FileNotFoundError, where files
    are missing.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset is {name!r}, expected one of {', '.join(DATASETS)}")
    kind = DATASETS[name]
    try:
        data = kind.open(root, UNKNOWN if background is None else 0)
    except MissingFilesError as error:
        raise MissingFilesError(f"dataset {name}: {error.what}; expected as the root:", kind.tree) from None
    if background is not None:
        data = replace(data, background=as_labels(data.labels, background)[len(data.labels) :])
    names = data.names
    if shuffle_seed is not None:
        names = tuple(names[index] for index in np.random.default_rng(shuffle_seed).permutation(len(names)))
    return replace(data, names=names[:limit])
