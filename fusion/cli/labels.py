"""The labels of a command: text such as "cat, grass, sky", or a label file → labels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ovseg.labels import parse_labels, read_labels

if TYPE_CHECKING:
    from ovseg.labels import Label

_SUFFIXES = (".txt", ".yaml", ".yml")


def labels_of(text: str) -> tuple[Label, ...]:
    """Labels of a comma-separated text, or of the label file that it names.

    Raises FileNotFoundError if it looks like a file that is not there, ValueError on bad labels.
    """
    if text.lower().endswith(_SUFFIXES) and ("," not in text or os.path.isfile(text)):
        if not os.path.isfile(os.path.expanduser(text)):
            raise FileNotFoundError(f'no label file {text}; labels are given as in --labels "cat, grass, sky"')
        return read_labels(text)
    return parse_labels(text)
