"""PASCAL Context, its validation split: 59 classes, with the rest of its 459 ignored or as a background."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.datasets.base import Dataset, DatasetKind
from fusion.evaluation.datasets.files import folder_of, listed, pairs, root_of
from fusion.evaluation.datasets.indices import id_table, indexed, read_png
from fusion.evaluation.datasets.names import background_of, labels_of
from fusion.evaluation.metrics import UNKNOWN
from fusion.evaluation.missing import MissingFilesError

# Ids of the 59 classes among the 459, in the order of their names, which is that of the indices 1 to 59 in PNGs.
_IDS = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159),
    *(162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368),
    *(397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
_NUM_IDS = 459  # of all classes, from 1
_VOID = 255  # not in the official PNGs; some converters write it
_TREE = """VOC2010/
├── JPEGImages/NAME.jpg
├── SegmentationClassContext/NAME.png               0 = none of them, 1 to 59 in the order of their names
└── ImageSets/SegmentationContext/val.txt           a NAME a line
or as it is downloaded:
├── trainval/NAME.mat                               LabelMap, 0 to 459
└── ImageSets/Main/val.txt                          of VOC 2010; SegmentationContext/val.txt if it is there"""
_LISTS = ("ImageSets/SegmentationContext/val.txt", "ImageSets/Main/val.txt")


def _open(root: str, _no_label: int, *, background: bool) -> Dataset:
    base, labels = root_of(root), labels_of("context59")
    images, maps = folder_of(base, "JPEGImages"), folder_of(base, "SegmentationClassContext", "trainval")
    is_mat = maps.name == "trainval"
    other = 0 if background else UNKNOWN
    if is_mat:
        found_ids = dict.fromkeys(range(_NUM_IDS + 1), other) | {id_: i for i, id_ in enumerate(_IDS, start=1)}
    else:
        found_ids = {0: other, _VOID: UNKNOWN} | {index: index for index in range(1, len(labels) + 1)}
    lists = [base / path for path in (_LISTS if is_mat else _LISTS[:1]) if (base / path).is_file()]
    if not lists:
        raise MissingFilesError(f"no {' or '.join(_LISTS if is_mat else _LISTS[:1])} in {base}")
    found = pairs(listed(lists[0]), images, maps, map_suffix=".mat" if is_mat else ".png")
    competing = background_of("background-context", labels) if background else ()
    ids = id_table(found_ids, _NUM_IDS + 1)
    return indexed(labels, found, ids, competing, decode=read_mat if is_mat else read_png)


def read_mat(path: Path) -> NDArray[np.generic]:
    """(H, W): the array `LabelMap` of a file of MATLAB; ValueError with the path if it cannot be read."""
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(path)["LabelMap"])
    except KeyError:
        raise ValueError(f"{path} has no array LabelMap") from None
    except Exception as error:  # damaged files raise almost anything: zlib.error, TypeError, MatReadError, …
        raise ValueError(f"{path}: cannot be read as a file of MATLAB: {' '.join(str(error).split())}") from None


CONTEXT59 = DatasetKind(
    about="PASCAL Context: 59 kinds of things and stuff; what is none of them is ignored",
    tree=_TREE,
    open=partial(_open, background=False),
)
CONTEXT60 = DatasetKind(
    about="PASCAL Context: 59 kinds of things and stuff, and what is none of them as the background",
    tree=_TREE,
    open=partial(_open, background=True),
)
