"""Names to models: which masks, speeds, variants and rules are asked for → a `Plan` with all that is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from emerdiff import EmerDiff
from fusion.evaluation.datasets import Dataset
from fusion.evaluation.plan import Plan, make_plan, needs_clip, ways_of
from fusion.models.load import load_clip, load_diffusion
from fusion.models.presets import Preset, config_hash
from fusion.models.sources import mask_maker
from fusion.step.choices import MaskSource
from ground.device import resolved
from ovseg import OpenVocabSegmenter
from ovseg.choices import Refinement


@dataclass(frozen=True)
class Comparison:
    """What an evaluation compares; empty lists stand for what the preset says."""

    protocols: Sequence[str]
    masks: Sequence[str]
    speeds: Sequence[str] = ()
    clips: Sequence[str] = ()
    rules: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"


def prepare(dataset: Dataset, preset: Preset, wanted: Comparison) -> Plan:
    """Load the models that `wanted` needs, each once; errors as of `load_diffusion`, `load_clip`, `make_plan`."""
    sources = [MaskSource(source) for source in wanted.masks]
    named = needs_clip(wanted.protocols, wanted.masks)
    diffusion = next((source for source in sources if source.needs_diffusion), MaskSource.NONE)
    model = load_diffusion(diffusion, preset, labels=named, device=wanted.device, dtype=wanted.dtype)
    clips = {}
    if named:
        loaded = load_clip(preset, device=wanted.device, dtype=wanted.dtype)
        for variant in wanted.clips or [preset.ovseg.dense]:
            clips[variant] = OpenVocabSegmenter(loaded.backbone, replace(preset.ovseg, dense=variant))
    makers = {}
    ways = ways_of(wanted.masks, list(wanted.speeds) or [preset.emerdiff.speed])
    for way in ways:
        config = replace(preset.emerdiff, speed=way.speed or preset.emerdiff.speed)
        of_speed = EmerDiff(model.backbone, config) if model is not None else None
        if way.masks != MaskSource.NONE:
            refines = named and preset.ovseg.refine != Refinement.NONE
            makers[way] = mask_maker(way.masks, config, of_speed, keep_affinity=refines)
    return make_plan(
        dataset,
        ways,
        makers,
        clips,
        preset.fusion,
        protocols=wanted.protocols,
        rules=wanted.rules,
        seed=wanted.seed,
        model=model,
    )


def described(plan: Plan, preset: Preset, wanted: Comparison) -> dict[str, Any]:
    """All that decides the score of an image of a given name, as plain data."""
    return {
        "rows": [asdict(key) for key in plan.keys],
        "labels": [[label.name, *label.synonyms] for label in plan.dataset.labels],
        "background": [[label.name, *label.synonyms] for label in plan.dataset.background],
        "config_hash": hash_of(preset, wanted),
    }


def hash_of(preset: Preset, wanted: Comparison) -> str:
    """SHA-256 (hex) of the settings, the seed, and the device and precision as they are resolved."""
    return config_hash(preset, seed=wanted.seed, **resolved(wanted.device, wanted.dtype))
