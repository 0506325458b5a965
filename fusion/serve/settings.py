"""What a request may set of a preset, and nothing else: a preset may name files, a request may not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fusion.models.presets import Preset
from fusion.serve.limits import Limits

# By the section of the preset that they stand in. New masks are needed for the first ones.
MASK_SETTINGS = ("speed", "clusters")
FUSION_SETTINGS = ("fuse", "min_score", "min_margin", "min_area")


def with_settings(preset: Preset, settings: Mapping[str, Any], limits: Limits) -> Preset:
    """The preset with `settings` of MASK_SETTINGS and FUSION_SETTINGS; None leaves one as it is.

    ValueError on another setting, on a bad value, and on more clusters than the limit.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    known = (*MASK_SETTINGS, *FUSION_SETTINGS)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown setting {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    of_masks = {name: value for name, value in given.items() if name in MASK_SETTINGS}
    of_fusion = {name: value for name, value in given.items() if name in FUSION_SETTINGS}
    emerdiff = replace(preset.emerdiff, **of_masks)
    if "clusters" in given and emerdiff.clusters > limits.max_clusters:
        raise ValueError(f"clusters is {emerdiff.clusters}, expected {limits.max_clusters} at most")
    fusion = replace(preset.fusion, **of_fusion)
    if fusion.min_area > limits.max_megapixels * 1e6:
        raise ValueError(f"min_area is more than {limits.max_megapixels:g} megapixels, which no image has")
    return replace(preset, emerdiff=emerdiff, fusion=fusion)
