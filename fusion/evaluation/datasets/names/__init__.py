"""Label files of the data sets, of our own making: a label a line, in the order of the data set's indices."""

from __future__ import annotations

from pathlib import Path

from ovseg.labels import Label, as_labels, read_labels


def labels_of(*files: str) -> tuple[Label, ...]:
    """The labels of one label file of this folder, or of several, one after the other: labels_of("voc20")."""
    folder = Path(__file__).parent
    return as_labels([label for file in files for label in read_labels(folder / f"{file}.txt")])


def background_of(file: str, labels: tuple[Label, ...]) -> tuple[Label, ...]:
    """Background labels of a file here, checked together with the labels that they compete with."""
    return as_labels(labels, labels_of(file))[len(labels) :]
