"""COCO-Stuff, validation 2017: 171 classes, their 27 groups, or the 80 things with the rest as a background.

Ids of COCO-Stuff run from 1 to 182, with gaps for eleven kinds that nobody labelled; the label maps that it publishes
hold ids less 1, and 255 where there is no label. mmsegmentation's converter closes the gaps: *_labelTrainIds.png.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion.evaluation.datasets.base import Dataset, DatasetKind
from fusion.evaluation.datasets.coco_ids import GROUPS, IDS, NUM_THINGS
from fusion.evaluation.datasets.coco_instances import INSTANCES, from_instances
from fusion.evaluation.datasets.files import folder_of, listed, pairs, root_of, stems
from fusion.evaluation.datasets.indices import id_table, indexed
from fusion.evaluation.datasets.names import background_of, labels_of
from fusion.evaluation.metrics import UNKNOWN
from fusion.evaluation.missing import MissingFilesError
from ovseg.labels import Label

IMAGES = ("images/val2017", "val2017")  # where images may be
_MAPS = ("annotations/val2017", "stuffthingmaps/val2017")  # where label maps may be
_CONVERTED = "_labelTrainIds.png"
_CONVERTED_THINGS = "_instanceTrainIds.png"
_RAW = ".png"
_VOID = 255
_CURATED = "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt"
_TREE = """coco_stuff164k/
├── images/val2017/NAME.jpg                          or val2017/NAME.jpg
└── annotations/val2017/NAME_labelTrainIds.png       0 to 170, 255 = void
or as they are downloaded:
└── annotations/val2017/NAME.png                     or stuffthingmaps/val2017: 0 to 181 with gaps, 255 = void"""


def _coco_stuff(root: str, _no_label: int) -> Dataset:
    return _stuff_maps(root, labels_of("coco-things", "coco-stuff"), {id_: i for i, id_ in enumerate(IDS, start=1)})


def _coco_stuff27(root: str, _no_label: int) -> Dataset:
    groups = {id_: number for number, ids in enumerate(GROUPS, start=1) for id_ in ids}
    return _stuff_maps(root, labels_of("coco-stuff27"), groups, root_of(root) / _CURATED)


def _coco_object(root: str, _no_label: int) -> Dataset:
    labels = labels_of("coco-things")
    background = background_of("background-coco", labels)
    images = folder_of(root, *IMAGES)
    maps, suffix = _label_maps(root_of(root), _CONVERTED_THINGS, _CONVERTED, _RAW)
    if maps is None:
        return from_instances(root_of(root) / INSTANCES, images, labels, background)
    if suffix == _CONVERTED_THINGS:
        ids = {index: index for index in range(NUM_THINGS + 1)}
    else:  # nothing is void: what has no label is the background, too
        indices = range(len(IDS)) if suffix == _CONVERTED else (id_ - 1 for id_ in IDS)
        ids = {index: i if i <= NUM_THINGS else 0 for i, index in enumerate(indices, start=1)} | {_VOID: 0}
    return indexed(labels, pairs(stems(images, ".jpg"), images, maps, map_suffix=suffix), id_table(ids), background)


def _stuff_maps(root: str, labels: tuple[Label, ...], classes: Mapping[int, int], names: Path | None = None) -> Dataset:
    """Label maps whose COCO-Stuff ids mean `classes`; only the images in the list `names`, if there is that file."""
    images = folder_of(root, *IMAGES)
    maps, suffix = _label_maps(root_of(root), _CONVERTED, _RAW)
    if maps is None:
        raise MissingFilesError(f"no label maps NAME{_CONVERTED} or NAME{_RAW} in {root_of(root) / _MAPS[0]}")
    ids = {index if suffix == _CONVERTED else id_ - 1: classes[id_] for index, id_ in enumerate(IDS)}
    chosen = listed(names) if names is not None and names.is_file() else stems(images, ".jpg")
    return indexed(labels, pairs(chosen, images, maps, map_suffix=suffix), id_table(ids | {_VOID: UNKNOWN}))


def _label_maps(base: Path, *suffixes: str) -> tuple[Path | None, str]:
    """The folder that holds label maps, and which of the suffixes they end in; the first suffix that is there counts.

    Converted label maps lie beside those that they were made of.
    """
    for suffix in suffixes:
        for folder in (base / choice for choice in _MAPS):
            names = stems(folder, suffix) if folder.is_dir() else []
            if any(not name.endswith("TrainIds") for name in names):
                return folder, suffix
    return None, suffixes[-1]


COCO_STUFF = DatasetKind(
    about="COCO-Stuff 164k, val2017: 80 kinds of things and 91 of stuff",
    tree=_TREE,
    open=_coco_stuff,
)
COCO_STUFF27 = DatasetKind(
    about="COCO-Stuff 164k, val2017: its 27 groups, 12 of things and 15 of stuff",
    tree=f"{_TREE}\nif it is there, only the images in this list (IIC's, as in PiCIE and STEGO):\n└── {_CURATED}",
    open=_coco_stuff27,
)
COCO_OBJECT = DatasetKind(
    about="COCO, val2017: 80 kinds of things, and what is none of them as the background",
    tree=f"""coco_object/
├── images/val2017/NAME.jpg                          or val2017/NAME.jpg
└── annotations/val2017/NAME_instanceTrainIds.png    0 = background, 1 to 80
or as it is downloaded, one of:
├── annotations/val2017/NAME.png                     COCO-Stuff's, or stuffthingmaps/val2017, or its _labelTrainIds
└── {INSTANCES}""",
    open=_coco_object,
)
