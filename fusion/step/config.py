"""Settings of the fusion step: a preset's `fusion` section in, a checked `FusionConfig` out; and the choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

FUSE_RULES = ("overlap", "embedding")  # how a mask gets its label; the functions are in pipeline.py

DIFFUSION_SOURCES = ("emerdiff", "naive")  # masks that need the diffusion model
CONTROL_SOURCES = ("slic", "grid")  # as many superpixels or cells as there would be clusters
NO_MASKS = "none"  # CLIP alone: each label's region of the coarse map is a mask
CLIP_ALONE_RULE = "overlap"
MASK_SOURCES = (*DIFFUSION_SOURCES, *CONTROL_SOURCES, NO_MASKS)

SEGMENTATIONS = ("rle", "polygon")  # how instances.json says where a segment is

PROTOCOLS = ("open", "bound")  # of evaluation: words in, mIoU out; quality of the masks alone


@dataclass(frozen=True)
class FusionConfig:
    """How masks get their labels. Values are checked when the object is made: ValueError on the first bad one."""

    fuse: str = "overlap"  # one of FUSE_RULES
    split: bool = False  # every connected part of a mask votes by itself, as a mask of its own
    min_score: float = 0.0  # 0..1; a mask whose label has a lower mean score in it abstains to "other"
    min_margin: float = 0.0  # 0..1; same for a mask whose winner leads the runner-up by a lower share of its pixels
    min_area: int = 0  # px; smaller components of the label map are absorbed by the label that surrounds them most

    def __post_init__(self) -> None:
        rows = (
            ("fuse", self.fuse in FUSE_RULES, f"one of {', '.join(FUSE_RULES)}"),
            ("split", isinstance(self.split, bool), "true or false"),
            ("min_score", _is_share(self.min_score), "a number from 0 to 1"),
            ("min_margin", _is_share(self.min_margin), "a number from 0 to 1"),
            (
                "min_area",
                type(self.min_area) is int and self.min_area >= 0,
                "a whole number of pixels from 0",
            ),
        )
        for name, ok, expected in rows:
            if not ok:
                raise ValueError(f"fusion.{name} is {getattr(self, name)!r}, expected {expected}")

    def for_masks(self, source: str) -> FusionConfig:
        """The settings for masks of `source`: CLIP alone keeps its own labels, which is the overlap rule."""
        return replace(self, fuse=CLIP_ALONE_RULE) if source == NO_MASKS else self

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> FusionConfig:
        """Config from a preset's `fusion` section; ValueError on an unknown key, with the known ones."""
        known = [field.name for field in fields(cls)]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ValueError(f"unknown fusion setting {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
        return cls(**values)


def check_source(source: str) -> str:
    """`source` itself if it is one of MASK_SOURCES; ValueError with the choices otherwise."""
    if source not in MASK_SOURCES:
        raise ValueError(f"masks is {source!r}, expected one of {', '.join(MASK_SOURCES)}")
    return source


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
