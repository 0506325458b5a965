"""What a tool's user chooses, as text or values → `RunSpec`; and the loaded models that serve such a spec."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion import RunSpec, Segmenter, load_preset
from fusion.cli.labels import labels_of

if TYPE_CHECKING:
    from PIL import Image

    from fusion import Preset, Segmentation
    from ovseg import Label

    Labels = str | Sequence[str | Label]

# Models are touched through hooks, and servers have threads.
_ONE_AT_A_TIME = Lock()


def spec_of(
    labels: Labels,
    *,
    background: Labels = (),
    preset: str | Path = "sd15",
    masks: str = "emerdiff",
    speed: str | None = None,
    overrides: str | Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> RunSpec:
    """The run of `emerseg segment` with these options.

    Tools hand over text: labels and background may be "cat, sky [stuff]" or a label file's path, and overrides
    "emerdiff.clusters=20; fusion.min_score=0.5". ValueError or FileNotFoundError, in one line, on what is wrong.
    """
    changes = overrides.split(";") if isinstance(overrides, str) else overrides
    changes = [change.strip() for change in changes if change.strip()]
    if speed is not None:
        changes = [f"emerdiff.speed={speed}", *changes]
    return RunSpec(
        preset=load_preset(preset, changes),
        labels=_labels(labels),
        background=_labels(background) if background else (),
        masks=masks,
        seed=seed,
        device=device,
        dtype=dtype,
    )


def segment(image: Image.Image | NDArray[np.uint8], spec: RunSpec) -> Segmentation:
    """`image` (PIL.Image or (H, W, 3) uint8) by `spec`; the models are loaded once and kept. Threads take turns."""
    with _ONE_AT_A_TIME:
        segmenter = _loaded(spec.preset, str(spec.masks), spec.device, str(spec.dtype))
        return segmenter.segment(image, spec.labels, background=spec.background, seed=spec.seed)


def load(spec: RunSpec) -> None:
    """Load the models of `spec` now, not with the first image. WeightsMissing if they are not on this disk."""
    with _ONE_AT_A_TIME:
        _loaded(spec.preset, str(spec.masks), spec.device, str(spec.dtype))


@lru_cache(maxsize=1)  # models are large
def _loaded(preset: Preset, masks: str, device: str, dtype: str) -> Segmenter:
    return Segmenter.from_preset(preset, masks=masks, device=device, dtype=dtype)


def _labels(labels: Labels) -> Sequence[str | Label]:
    return labels_of(labels) if isinstance(labels, str) else labels
