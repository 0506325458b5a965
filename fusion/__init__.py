"""Where masks get their labels: class-agnostic masks + a coarse map in, labelled segmentation and its files out.

Names are imported on first use, so that `import fusion` stays light (no torch, no diffusers, no open_clip).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from fusion.models.presets import Preset as Preset
    from fusion.models.presets import list_presets as list_presets
    from fusion.models.presets import load_preset as load_preset
    from fusion.models.segmenter import Segmenter as Segmenter
    from fusion.runs.folder import run_folder as run_folder
    from fusion.runs.spec import RunSpec as RunSpec
    from fusion.step.config import FusionConfig as FusionConfig
    from fusion.step.pipeline import fuse as fuse
    from fusion.step.segmentation import Segment as Segment
    from fusion.step.segmentation import Segmentation as Segmentation

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "models.presets": ["Preset", "list_presets", "load_preset"],
        "models.segmenter": ["Segmenter"],
        "runs.folder": ["run_folder"],
        "runs.spec": ["RunSpec"],
        "step.config": ["FusionConfig"],
        "step.pipeline": ["fuse"],
        "step.segmentation": ["Segment", "Segmentation"],
    },
)
