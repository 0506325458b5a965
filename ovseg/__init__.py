"""Open-vocabulary segmentation with dense CLIP: a picture and words in, a coarse map of the words out.

Names are imported on first use, so that `import ovseg` stays light (no torch, no open_clip).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ovseg.coarse import CoarseMap
    from ovseg.config import OvsegConfig
    from ovseg.labels import Label, as_labels, parse_labels, read_labels
    from ovseg.segment import OpenVocabSegmenter

_HOME = {
    "CoarseMap": "ovseg.coarse",
    "Label": "ovseg.labels",
    "OpenVocabSegmenter": "ovseg.segment",
    "OvsegConfig": "ovseg.config",
    "as_labels": "ovseg.labels",
    "parse_labels": "ovseg.labels",
    "read_labels": "ovseg.labels",
}

__all__ = [
    "CoarseMap",
    "Label",
    "OpenVocabSegmenter",
    "OvsegConfig",
    "as_labels",
    "parse_labels",
    "read_labels",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'ovseg' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
