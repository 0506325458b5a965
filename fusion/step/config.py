"""Settings of the fusion step: a preset's `fusion` section → a checked, frozen `FusionConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fusion.step.choices import CLIP_ALONE_RULE, FuseRule, MaskSource
from ground import checks
from ground.checks import number, one_of, whole, yes_no


@dataclass(frozen=True)
class FusionConfig:
    """How masks get their labels; checked when it is made (ValueError on the first bad value)."""

    # One of FuseRule.
    fuse: Annotated[str, one_of(FuseRule)] = "overlap"
    # For `auto`: a mask whose winner leads the runner-up by a lower share of its pixels is left to its pixels.
    clear_margin: Annotated[float, number(0, 1)] = 0.6
    # Whether every connected part of a mask votes by itself, as a mask of its own.
    split: Annotated[bool, yes_no()] = False
    # A mask whose label has a lower mean score in it abstains to "other".
    min_score: Annotated[float, number(0, 1)] = 0.0
    # A mask whose winner leads the runner-up by a lower share of its pixels abstains to "other", and so does a piece of
    # it (see `auto`) whose label does not lead.
    min_margin: Annotated[float, number(0, 1)] = 0.0
    # px; smaller components of the label map are absorbed by the label that surrounds them most.
    min_area: Annotated[int, whole(0, "px")] = 0

    def __post_init__(self) -> None:
        checks.check_fields(self, "fusion")

    def for_masks(self, source: str) -> FusionConfig:
        """The settings for masks of `source`: CLIP alone keeps its own labels, which is the overlap rule."""
        return replace(self, fuse=CLIP_ALONE_RULE.value) if source == MaskSource.NONE else self

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> FusionConfig:
        """Config from a preset's `fusion` section; ValueError on an unknown key, with the known ones."""
        return checks.from_mapping(cls, values, "fusion")
