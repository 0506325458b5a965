"""Anybody's data set: a folder with images/, labels/ and names.txt, a label file."""

from __future__ import annotations

import numpy as np

from fusion.evaluation.datasets.base import Dataset, DatasetKind, Sample
from fusion.evaluation.datasets.files import folder_of, root_of
from fusion.evaluation.datasets.indices import class_regions, id_table, read_png, sized, truth_of
from fusion.evaluation.datasets.pictures import NO_LABEL, images_of, sliced
from fusion.evaluation.metrics import UNKNOWN
from fusion.evaluation.missing import MissingFilesError
from ground.images import read_image
from ovseg.labels import as_labels, read_labels

_NAMES = "names.txt"


def _open(root: str, no_label: int) -> Dataset:
    """Images that have a label map; a class `background` is `no_label`, 0 or unknown, and not looked for."""
    given, which = sliced(root)
    base = root_of(given)
    folder = folder_of(base, "labels")
    if not (base / _NAMES).is_file():
        raise MissingFilesError(f"no {_NAMES} in {base}")
    maps = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    if not maps:
        raise MissingFilesError(f"no label map NAME.png in {folder}")
    images = images_of(folder_of(base, "images"), maps)
    given_labels = read_labels(base / _NAMES)
    labels = as_labels([label for label in given_labels if label.name != NO_LABEL])
    numbers = {label.name: index for index, label in enumerate(labels, start=1)}
    ids = {index: numbers.get(label.name, no_label) for index, label in enumerate(given_labels)}
    tables = {}
    for bits in (8, 16):
        blank = 2**bits - 1
        fits = {index: id_ for index, id_ in ids.items() if index < blank}
        tables[bits] = id_table(fits | {blank: UNKNOWN}, blank + 1)

    def load(name: str) -> Sample:
        image, path = read_image(images[name]), folder / f"{name}.png"
        values = read_png(path)
        table = tables[8 if values.dtype == np.uint8 else 16]
        truth = truth_of(sized(values, image, path), table, path)
        return Sample(name, image, truth, class_regions(truth))

    return Dataset(labels, tuple(path.stem for path in maps[which]), load)


FOLDER = DatasetKind(
    about="your own images and label maps; its labels are in names.txt",
    tree="""DIR, or every tenth of its label maps: DIR:0::10
├── images/NAME.jpg        or of another kind
├── labels/NAME.png        indices of 8 bits, 255 = unknown, or of 16 bits, 65535 = unknown
└── names.txt              a label a line, in the order of the indices from 0: name, synonym, synonym [stuff]""",
    open=_open,
)
