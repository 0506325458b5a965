"""Where masks get their words: class-agnostic masks + a coarse map in, labelled segmentation and its files out.

Names are imported on first use, so that `import fusion` stays light (no torch, no diffusers, no open_clip).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusion.config import FusionConfig
    from fusion.pipeline import fuse
    from fusion.presets import Preset, list_presets, load_preset
    from fusion.segmentation import Segment, Segmentation
    from fusion.segmenter import Segmenter

_HOME = {
    "FusionConfig": "fusion.config",
    "Preset": "fusion.presets",
    "Segment": "fusion.segmentation",
    "Segmentation": "fusion.segmentation",
    "Segmenter": "fusion.segmenter",
    "fuse": "fusion.pipeline",
    "list_presets": "fusion.presets",
    "load_preset": "fusion.presets",
}

__all__ = [
    "FusionConfig",
    "Preset",
    "Segment",
    "Segmentation",
    "Segmenter",
    "fuse",
    "list_presets",
    "load_preset",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fusion' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
