"""Where masks get their words: class-agnostic masks + a coarse map in, labelled segmentation and its files out.

Names are imported on first use, so that `import fusion` stays light (no torch, no diffusers, no open_clip).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusion.models.presets import Preset, list_presets, load_preset
    from fusion.models.segmenter import Segmenter
    from fusion.runs.folder import run_folder
    from fusion.runs.spec import RunSpec
    from fusion.step.config import FusionConfig
    from fusion.step.pipeline import fuse
    from fusion.step.segmentation import Segment, Segmentation

_HOME = {
    "FusionConfig": "fusion.step.config",
    "Preset": "fusion.models.presets",
    "RunSpec": "fusion.runs.spec",
    "Segment": "fusion.step.segmentation",
    "Segmentation": "fusion.step.segmentation",
    "Segmenter": "fusion.models.segmenter",
    "fuse": "fusion.step.pipeline",
    "list_presets": "fusion.models.presets",
    "load_preset": "fusion.models.presets",
    "run_folder": "fusion.runs.folder",
}

__all__ = [
    "FusionConfig",
    "Preset",
    "RunSpec",
    "Segment",
    "Segmentation",
    "Segmenter",
    "fuse",
    "list_presets",
    "load_preset",
    "run_folder",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fusion' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
