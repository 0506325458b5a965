"""PASCAL VOC 2012, its validation split: 20 classes, with what is none of them ignored or as a background."""

from __future__ import annotations

from functools import partial

from fusion.evaluation.datasets.base import Dataset, DatasetKind
from fusion.evaluation.datasets.files import folder_of, listed, pairs, root_of
from fusion.evaluation.datasets.indices import id_table, indexed
from fusion.evaluation.datasets.names import background_of, labels_of
from fusion.evaluation.metrics import UNKNOWN

_VOID = 255  # the borders of objects, and what is hard to tell
_TREE = """VOC2012/
├── JPEGImages/NAME.jpg
├── SegmentationClass/NAME.png            palette: 0 = background, 1 to 20, 255 = void
└── ImageSets/Segmentation/val.txt        a NAME a line"""


def _open(root: str, _no_label: int, *, background: bool) -> Dataset:
    base = root_of(root)
    images, maps = folder_of(base, "JPEGImages"), folder_of(base, "SegmentationClass")
    labels = labels_of("voc20")
    other = 0 if background else UNKNOWN
    ids = id_table({0: other, _VOID: UNKNOWN} | {index: index for index in range(1, len(labels) + 1)})
    found = pairs(listed(base / "ImageSets/Segmentation/val.txt"), images, maps)
    return indexed(labels, found, ids, background_of("background-voc", labels) if background else ())


VOC20 = DatasetKind(
    about="PASCAL VOC 2012: 20 kinds of things; what is none of them is ignored",
    tree=_TREE,
    open=partial(_open, background=False),
)
VOC21 = DatasetKind(
    about="PASCAL VOC 2012: 20 kinds of things, and what is none of them as the background",
    tree=_TREE,
    open=partial(_open, background=True),
)
