"""The frozen models of a preset: settings → loaded models, only those that are needed; or their files, fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fusion.models.presets import Preset
from fusion.step.choices import MaskSource
from ground.garbage import uncollected
from ground.weights import WeightsMissing
from ovseg.choices import Refinement

if TYPE_CHECKING:
    from emerdiff import EmerDiff
    from ovseg import OpenVocabSegmenter


def load_diffusion(
    source: str, preset: Preset, *, labels: bool = True, device: str = "auto", dtype: str = "auto"
) -> EmerDiff | None:
    """The diffusion model if masks of `source` need it, or the refinement of `labels` if there are any; else None.

    Raises FileNotFoundError, in one line, if its weights are not on this disk (WeightsMissing with the preset's name if
    they come from the hub), and ValueError on anything unknown.
    """
    if not needs_diffusion(source, preset, labels=labels):
        return None
    with _naming(preset), uncollected():
        from emerdiff import EmerDiff

        return EmerDiff.from_config(preset.emerdiff, device=device, dtype=dtype)


def needs_diffusion(source: str, preset: Preset, *, labels: bool = True) -> bool:
    """Whether a diffusion model takes part: in masks of `source`, or in the refinement of where `labels` are."""
    refines = labels and preset.ovseg.refine != Refinement.NONE
    return MaskSource.of(source, "masks").needs_diffusion or refines


def load_clip(preset: Preset, *, device: str = "auto", dtype: str = "auto") -> OpenVocabSegmenter:
    """The open-vocabulary segmenter; errors as for `load_diffusion`."""
    with _naming(preset), uncollected():
        from ovseg import OpenVocabSegmenter

        return OpenVocabSegmenter.from_config(preset.ovseg, device=device, dtype=dtype)


def download_weights(preset: Preset) -> dict[str, str]:
    """Where all models' files are on this disk, downloaded if they were not there; WeightsMissing if that fails."""
    from emerdiff.fetch import fetch_decoder
    from emerdiff.fetch import fetch_weights as fetch_diffusion
    from ovseg.backbone import fetch_weights as fetch_clip

    decoder = fetch_decoder(preset.emerdiff, download=True)
    return {
        "emerdiff": str(fetch_diffusion(preset.emerdiff, download=True)),
        **({} if decoder is None else {"decoder": str(decoder)}),
        "ovseg": fetch_clip(preset.ovseg, download=True).removeprefix("local-dir:"),
    }


def weights_used(preset: Preset, *, diffusion: bool, clip: bool) -> dict[str, Any]:
    """Which weights a run used, for its record."""
    used = {"emerdiff": preset.emerdiff if diffusion else None, "ovseg": preset.ovseg if clip else None}
    return {
        name: {"model": config.model, "revision": config.revision, "license": config.license}
        for name, config in used.items()
        if config is not None
    }


@contextmanager
def _naming(preset: Preset) -> Iterator[None]:
    """Lets the error about missing weights say which preset they belong to: the models do not know it."""
    try:
        yield
    except WeightsMissing as error:
        error.preset = preset.name
        raise
