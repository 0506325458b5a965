"""Open-vocabulary segmentation with dense CLIP: an image and labels in, a coarse map of the labels out.

Names are imported on first use, so that `import ovseg` stays light (no torch, no open_clip).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from ovseg.coarse import CoarseMap as CoarseMap
    from ovseg.config import OvsegConfig as OvsegConfig
    from ovseg.labels import Label as Label
    from ovseg.labels import as_labels as as_labels
    from ovseg.labels import parse_labels as parse_labels
    from ovseg.labels import read_labels as read_labels
    from ovseg.segment import OpenVocabSegmenter as OpenVocabSegmenter

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "coarse": ["CoarseMap"],
        "config": ["OvsegConfig"],
        "labels": ["Label", "as_labels", "parse_labels", "read_labels"],
        "segment": ["OpenVocabSegmenter"],
    },
)
