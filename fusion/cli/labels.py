"""The labels of a command: text such as "cat, grass, sky [stuff]", or a label file → labels."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from ground.paths import user_path
from ovseg.labels import SUFFIXES, read_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusion.runs.spec import RunSpec
    from ovseg.labels import Label

log = logging.getLogger(__name__)


def labels_of(text: str) -> Sequence[str | Label]:
    """Labels of a comma-separated text, or of the label file that it names: what is a file is never a label.

    Raises FileNotFoundError if it looks like a file that is not there, ValueError on a file that is no label file.
    """
    path = user_path(text)
    if os.path.exists(path) and not os.path.isdir(path):
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f'{text} is a file, and label files end in {", ".join(SUFFIXES)}; as a label it is "{text} [thing]"'
            )
        return read_labels(path)
    if text.lower().endswith((*SUFFIXES, ".csv")) and "," not in text:
        raise FileNotFoundError(f'no label file {text}; labels are given as in --labels "cat, grass, sky"')
    return text.split(",")


def note_kinds(labels: Sequence[Label]) -> None:
    """Log a note if all labels are of one kind, which the evaluation of COCO panoptic divides by zero with."""
    kinds = {label.stuff for label in labels}
    if len(kinds) == 1:
        kind, other = ("stuff", "thing") if labels[0].stuff else ("things", "stuff")
        log.warning(
            'all labels are %s: panopticapi divides by zero where there is no %s; say "NAME [%s]"', kind, other, other
        )


def labelled_run(
    preset: str, overrides: Sequence[str], labels: str, background: str | None, **settings: Any
) -> RunSpec:
    """The run that a command's options ask for; `settings` are fields of RunSpec. Logs what `note_kinds` notes."""
    from fusion.models.presets import load_preset
    from fusion.runs.spec import RunSpec

    spec = RunSpec(
        preset=load_preset(preset, overrides),
        labels=labels_of(labels),
        background=labels_of(background) if background is not None else (),
        **settings,
    )
    note_kinds(spec.labels)
    return spec
