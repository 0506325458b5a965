"""Scenes of the toy world: a range of seeds → samples whose truth is exact."""

from __future__ import annotations

import numpy as np

from fusion.evaluation.datasets.base import Dataset, DatasetKind, Sample
from ovseg.labels import Label

_STUFF = {  # in colours that look like them
    "grass": (96, 176, 72),
    "sand": (224, 190, 110),
    "water": (44, 110, 200),
    "snow": (226, 236, 246),
    "pavement": (140, 142, 150),
    "wheat": (226, 170, 40),
    "sky": (120, 196, 246),
}


def toy_labels() -> tuple[Label, ...]:
    """All labels of the toy world, its grounds and its sky as stuff."""
    from toyworld import KINDS

    return tuple(Label(kind, stuff=kind in _STUFF, color=_STUFF.get(kind)) for kind in KINDS)


def _open(root: str, _no_label: int) -> Dataset:
    """Scenes of the toy world; `root` is a range of seeds "FIRST:END", END not among them. ValueError on another."""
    first, colon, end = root.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(
            f"root is {root!r}, expected a range of seeds FIRST:END such as 1000000:1000040 for dataset toy"
        )
    labels = toy_labels()
    ids = {label.name: index for index, label in enumerate(labels, start=1)}

    def load(name: str) -> Sample:
        from toyworld import scene

        made = scene(int(name))
        kind_ids = np.array([ids[kind] for kind in made.kinds], np.int32)
        return Sample(name, made.image, kind_ids[made.label_map], made.label_map)

    return Dataset(labels, tuple(map(str, range(int(first), int(end)))), load, instances=True)


TOY = DatasetKind(
    about="scenes that are drawn from seeds, as few or as many as are asked for; their truth is exact",
    tree="a range of seeds FIRST:END, END not among them, such as 1000000:1000040",
    open=_open,
)
