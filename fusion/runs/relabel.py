"""An earlier run with other labels: its images and masks, as its run.json tells them, serve again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.runs.inputs import ImageFile, name_outputs
from fusion.runs.journal import Journal, located
from fusion.runs.spec import RunSpec, read_run
from ovseg.labels import Label, as_labels


def relabelled(
    output: Path,
    labels: Sequence[str | Label],
    background: Sequence[str | Label] | None = None,
    overrides: Sequence[str] = (),
    **settings: Any,
) -> RunSpec:
    """The spec of the run in `output` with other labels, `overrides` of its preset and fields of RunSpec.

    What is not given stays as it was: background labels, too, but for those that are now asked for; exports are added.
    Raises ValueError, in one line, if there is no run, if its run.json cannot be read, or if an override is bad or
    would need new masks.
    """
    if bad := [override for override in overrides if override.strip().startswith("emerdiff.")]:
        raise ValueError(f"override {bad[0]!r} would need new masks: `emerseg segment` makes them")
    spec = RunSpec.read(output).with_overrides(overrides)
    if background is None:
        asked_for = {label.name.casefold() for label in as_labels(labels)}
        background = [label for label in spec.background if label.name.casefold() not in asked_for]
    named = as_labels(labels, background)
    settings["exports"] = (*spec.exports, *settings.get("exports", ()))
    return replace(spec, labels=named[: len(labels)], background=named[len(labels) :], **settings)


def earlier_files(journal: Journal) -> list[ImageFile]:
    """All images of the run in the journal's folder, those that failed or were not yet begun as well.

    ValueError as above.
    """
    here = os.path.abspath(journal.output)
    by_name = {name: source for source, name in journal.names.items()}
    known: dict[str, str] = {}
    for image in read_run(journal.output).images:
        source = located(image.source, here, journal.earlier_folder)
        if source not in journal.entries:
            # After a move, a kill may have kept run.json from being written again, but not the journal.
            source = by_name.get(image.name, source)
        known[source] = image.name
    return name_outputs(map(Path, known), known)
