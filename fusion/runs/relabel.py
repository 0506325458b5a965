"""An earlier run with other labels: its images and masks, as its run.json tells them, serve again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.runs.inputs import ImageFile
from fusion.runs.spec import RunSpec, read_run
from ovseg.labels import Label, as_labels


def relabelled(
    output: Path,
    labels: Sequence[str | Label],
    background: Sequence[str | Label] = (),
    overrides: Sequence[str] = (),
    **settings: Any,
) -> RunSpec:
    """The spec of the run in `output` with other labels, `overrides` of its preset and fields of RunSpec.

    Raises ValueError, in one line, if there is no run, if its run.json cannot be read, or if an override is bad or
    would need new masks.
    """
    if bad := [override for override in overrides if override.strip().startswith("emerdiff.")]:
        raise ValueError(f"override {bad[0]!r} would need new masks: `emerseg segment` makes them")
    named = as_labels(labels, background)
    spec = RunSpec.read(output).with_overrides(overrides)
    return replace(spec, labels=named[: len(labels)], background=named[len(labels) :], **settings)


def earlier_files(output: Path) -> list[ImageFile]:
    """All images of the run in `output`, those that failed or were not yet begun as well; ValueError as above."""
    return [ImageFile(Path(image.source), image.name) for image in read_run(output).images]
