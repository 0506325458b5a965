"""An earlier run as its run.json tells it: what it was made with and of, so that new words need no new masks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fusion.runs.batch import RUN
from fusion.step.config import check_source
from fusion.runs.inputs import ImageFile
from fusion.models.presets import Preset, make_preset


@dataclass(frozen=True)
class Run:
    """What a run of `emerseg segment` or `emerseg masks` was made with, and its images."""

    preset: Preset
    masks: str  # their source, one of MASK_SOURCES
    seed: int
    dtype: str
    segmentation: str  # one of SEGMENTATIONS
    files: tuple[ImageFile, ...]  # all of them, those that failed or were not yet begun as well


def read_run(output: Path, overrides: Sequence[str] = ()) -> Run:
    """The run in the folder `output`, with `overrides` such as "ovseg.dense=clip" of its settings.

    Raises ValueError, in one line, if there is none, if its run.json cannot be read, or if an override is bad or would
    need new masks.
    """
    if bad := [override for override in overrides if override.strip().startswith("emerdiff.")]:
        raise ValueError(f"override {bad[0]!r} would need new masks: `emerseg segment` makes them")
    path = output / RUN
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        made = Run(
            preset=make_preset(run["preset"], "", run["config"]),
            masks=check_source(run["masks"]),
            seed=run["seed"],
            dtype=run["dtype"],
            segmentation=run.get("segmentation", "rle"),  # a run without words has none
            files=tuple(ImageFile(Path(image["source"]), image["name"]) for image in run["images"]),
        )
    except FileNotFoundError:
        raise ValueError(f"no {RUN} in {output}: expected the output folder of `emerseg segment`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what `emerseg segment` writes, or damaged: {error!r}") from None
    return replace(made, preset=make_preset(made.preset.name, "", asdict(made.preset), overrides))
