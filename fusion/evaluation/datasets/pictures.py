"""Photographs with label maps in folders: DIR/labels with a names.txt, and DIR/images."""

from __future__ import annotations

import re
from pathlib import Path

from fusion.evaluation.datasets.base import Dataset, DatasetKind
from fusion.evaluation.datasets.indices import id_table, indexed
from fusion.evaluation.metrics import UNKNOWN
from fusion.evaluation.missing import MissingFilesError
from fusion.runs.search import SUFFIXES
from ground.paths import user_path
from ovseg.labels import as_labels

_BLANK = 255  # in the label maps: nobody said what is there
NO_LABEL = "background"  # their class of everything that nobody named: it is not looked for


def sliced(root: str) -> tuple[str, slice]:
    """A root such as "FOLDER" or "FOLDER:FIRST:END:STEP" → (FOLDER, which of its samples, a slice as in Python)."""
    match = re.fullmatch(r"(.+?):(\d*):(\d*):(\d*)", root)
    if match is None:
        return root, slice(None)
    bounds = [int(text) if text else None for text in match.groups()[1:]]
    if bounds[2] == 0:
        raise ValueError(f"root is {root!r}, expected a step from 1")
    return match[1], slice(*bounds)


def images_of(folder: Path, maps: list[Path]) -> dict[str, Path]:
    """The image in `folder` of every label map: that of its name, but for the suffix; MissingFilesError without one."""
    images = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES}
    missing = [path.name for path in maps if path.stem not in images]
    if missing:
        raise MissingFilesError(f"no images in {folder} for {', '.join(missing[:3])}")
    return images


def _open(root: str, no_label: int) -> Dataset:
    """Photographs with label maps; `root` is "FOLDER", or "FOLDER:FIRST:END:STEP" for a slice of it as in Python.

    FOLDER holds names.txt (a class a line, in the order of the indices) and label maps: 8-bit PNGs of class indices,
    255 where nothing is known. The images have the same names, but for the suffix, in the folder whose path has
    `images` in place of the last `labels`: DIR/labels and DIR/images, or DIR/labels/SOURCE and DIR/images/SOURCE.
    A class `background` is `no_label`, 0 or unknown too. Label maps tell no objects apart: regions are the classes.
    """
    given, which = sliced(root)
    labels = user_path(given)
    if "labels" not in labels.parts or not (labels / "names.txt").is_file():
        raise ValueError(
            f"root is {root!r}, expected a folder of label maps with a names.txt, `labels` in its path, "
            "and perhaps a slice such as :0::10, for dataset pictures"
        )
    last = len(labels.parts) - 1 - labels.parts[::-1].index("labels")
    folder = Path(*labels.parts[:last], "images", *labels.parts[last + 1 :])
    maps = sorted(labels.glob("*.png"))
    if not maps:
        raise MissingFilesError(f"no label map NAME.png in {labels}")
    images = images_of(folder, maps)
    lines = (labels / "names.txt").read_text(encoding="utf-8").split("\n")
    names = [line.strip() for line in lines if line.strip()]
    named = [name for name in names if name != NO_LABEL]
    if len(names) > _BLANK:
        raise ValueError(f"{labels / 'names.txt'} has {len(names)} names, expected at most {_BLANK}")
    ids = {index: no_label if name == NO_LABEL else named.index(name) + 1 for index, name in enumerate(names)}
    pairs = {path.stem: (images[path.stem], path) for path in maps[which]}
    return indexed(as_labels(named), pairs, id_table(ids | {_BLANK: UNKNOWN}))


PICTURES = DatasetKind(
    about="photographs with label maps, one folder of them for each source; its labels are in names.txt",
    tree="""DIR/labels or DIR/labels/SOURCE, or every tenth of them: DIR/labels:0::10
DIR/labels/names.txt     a label a line, in the order of the indices
DIR/labels/NAME.png      8-bit indices, 255 = unknown
DIR/images/NAME.jpg      or of another kind""",
    open=_open,
)
