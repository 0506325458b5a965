"""ADE20K, its validation split of the scene parsing challenge: 150 classes."""

from __future__ import annotations

from fusion.evaluation.datasets.base import Dataset, DatasetKind
from fusion.evaluation.datasets.files import folder_of, pairs, stems
from fusion.evaluation.datasets.indices import id_table, indexed
from fusion.evaluation.datasets.names import labels_of
from fusion.evaluation.metrics import UNKNOWN


def _open(root: str, _no_label: int) -> Dataset:
    images, maps = folder_of(root, "images/validation"), folder_of(root, "annotations/validation")
    labels = labels_of("ade20k")
    ids = {0: UNKNOWN} | {index: index for index in range(1, len(labels) + 1)}  # 0: another of its 3,000 classes
    return indexed(labels, pairs(stems(images, ".jpg"), images, maps), id_table(ids))


ADE20K = DatasetKind(
    about="ADE20K, validation: 150 kinds of things and stuff of indoor and outdoor scenes",
    tree="""ADEChallengeData2016/
├── images/validation/NAME.jpg
└── annotations/validation/NAME.png       0 = none of them, ignored; 1 to 150""",
    open=_open,
)
