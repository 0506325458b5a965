"""Segment images by any list of labels and get COCO annotations out: the public names of all packages, in one place.

Names are imported on first use, so that `import emerseg` stays light (no torch, no diffusers, no open_clip).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emerdiff import EmerDiff, EmerDiffConfig, Masks
    from fusion import (
        FusionConfig,
        Preset,
        RunSpec,
        Segment,
        Segmentation,
        Segmenter,
        fuse,
        list_presets,
        load_preset,
        run_folder,
    )
    from ovseg import CoarseMap, Label, OpenVocabSegmenter, OvsegConfig, as_labels, parse_labels, read_labels

__all__ = [
    "CoarseMap",
    "EmerDiff",
    "EmerDiffConfig",
    "FusionConfig",
    "Label",
    "Masks",
    "OpenVocabSegmenter",
    "OvsegConfig",
    "Preset",
    "RunSpec",
    "Segment",
    "Segmentation",
    "Segmenter",
    "as_labels",
    "fuse",
    "list_presets",
    "load_preset",
    "parse_labels",
    "read_labels",
    "run_folder",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'emerseg' has no attribute {name!r}; it has {', '.join(__all__)}")
    packages = map(import_module, ("emerdiff", "ovseg", "fusion"))
    return getattr(next(package for package in packages if name in dir(package)), name)


def __dir__() -> list[str]:
    return __all__
