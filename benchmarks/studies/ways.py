"""Ways to masks: settings in place of a preset's, and what is tried out here alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from emerdiff import EmerDiff, Masks
from emerdiff.zoom import zoomed
from fusion.evaluation.datasets import Sample

# Where to zoom, of those that are no setting: by the entropy of CLIP's labels.
ENTROPY = "entropy"


@dataclass(frozen=True)
class Way:
    """A way to masks."""

    name: str
    settings: dict[str, Any]  # in place of the preset's
    doubts: str | None = None  # ENTROPY, or None: of the features, as in the package

    def model(self, base: EmerDiff, masks: dict[str, int]) -> EmerDiff:
        """What makes its masks for an image on which the other ways have so many."""
        numbers = {
            field: max(masks[value[1:]], 1)
            for field, value in self.settings.items()
            if isinstance(value, str) and value.startswith("@")
        }
        return EmerDiff(base.backbone, replace(base.config, **{**self.settings, **numbers}))


def way_of(text: str) -> Way:
    """The way that "NAME:FIELD=VALUE,FIELD=VALUE" says; values are YAML. ValueError for doubts that are unknown."""
    name, _, settings = text.partition(":")
    pairs = [pair.split("=", 1) for pair in settings.split(",") if pair]
    # A YAML value cannot begin with @.
    fields = {key: value if value.startswith("@") else yaml.safe_load(value) for key, value in pairs}
    doubts = fields.pop("doubts", None)
    if doubts not in (None, ENTROPY):
        raise ValueError(f"doubts is {doubts!r}, expected {ENTROPY!r}, or none for those of the features")
    return Way(name, fields, doubts)


def masks_of_way(model: EmerDiff, sample: Sample, doubts: NDArray[np.float32] | None) -> Masks:
    """The masks of a sample, zoomed where `doubts` (h, w) are high; None: where the features are in doubt."""
    if doubts is None:
        return model.segment(sample.image)
    far = EmerDiff(model.backbone, replace(model.config, zoom=0))
    near = EmerDiff(model.backbone, replace(far.config, clustering="ncut"))
    return zoomed(
        far.segment(sample.image), doubts, lambda window: near.segment(sample.image[window]), model.config.zoom
    )
