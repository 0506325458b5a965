"""The frozen models of a preset: settings → loaded models, only those that are needed; or their files, fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusion.models.presets import Preset
from fusion.step.config import DIFFUSION_SOURCES, check_source

if TYPE_CHECKING:
    from emerdiff import EmerDiff
    from ovseg import OpenVocabSegmenter


def load_diffusion(source: str, preset: Preset, *, device: str = "auto", dtype: str = "auto") -> EmerDiff | None:
    """The diffusion model if masks of `source` need it, else None.

    FileNotFoundError, in one line, if its weights are not on this disk; ValueError on anything unknown.
    """
    if check_source(source) not in DIFFUSION_SOURCES:
        return None
    from emerdiff import EmerDiff
    from emerdiff.backbone import fetch_weights, load_backbone

    folder = fetch_weights(preset.emerdiff, download=False, preset=preset.name)
    return EmerDiff(load_backbone(folder, device=device, dtype=dtype), preset.emerdiff)


def load_clip(preset: Preset, *, device: str = "auto", dtype: str = "auto") -> OpenVocabSegmenter:
    """The open-vocabulary segmenter; errors as for `load_diffusion`."""
    from ovseg import OpenVocabSegmenter
    from ovseg.backbone import load_backbone

    backbone = load_backbone(preset.ovseg, device=device, dtype=dtype, preset=preset.name)
    return OpenVocabSegmenter(backbone, preset.ovseg)


def download_weights(preset: Preset) -> dict[str, str]:
    """Fetch both models' files, unless they are on this disk; says where they lie. FileNotFoundError if that fails."""
    from emerdiff.backbone import fetch_weights as fetch_diffusion
    from ovseg.backbone import fetch_weights as fetch_clip

    return {
        "emerdiff": str(fetch_diffusion(preset.emerdiff, download=True, preset=preset.name)),
        "ovseg": fetch_clip(preset.ovseg, download=True, preset=preset.name).removeprefix("local-dir:"),
    }


def weights_used(preset: Preset, *, diffusion: bool, clip: bool) -> dict[str, Any]:
    """Which weights a run used, for its record."""
    used = {"emerdiff": preset.emerdiff if diffusion else None, "ovseg": preset.ovseg if clip else None}
    return {
        name: {"model": config.model, "revision": config.revision, "license": config.license}
        for name, config in used.items()
        if config is not None
    }
