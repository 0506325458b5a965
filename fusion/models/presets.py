"""What a run is configured by: a preset + overrides → checked configs of the three steps, and their hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

import emerdiff.fetch
import ovseg.fetch
from emerdiff.config import EmerDiffConfig
from fusion.step.choices import MaskSource
from fusion.step.config import FusionConfig
from ground.presets import list_presets as list_presets
from ground.presets import read_preset
from ground.weights import file_marks
from ovseg.config import OvsegConfig

SECTIONS = ("emerdiff", "ovseg", "fusion")
# Fields that change nothing in the result.
_NO_RESULT = ("license", "download_mb", "batch_size")


@dataclass(frozen=True)
class Preset:
    """The settings of a whole run."""

    name: str  # as given: a name or the path of a YAML file; what `emerseg download` takes
    description: str
    emerdiff: EmerDiffConfig
    ovseg: OvsegConfig
    fusion: FusionConfig


def load_preset(preset: str | Path, overrides: Sequence[str] = ()) -> Preset:
    """The preset of a name ("sd15") or of a .yaml file, with `overrides` such as "emerdiff.timestep_modulate=481".

    Values of overrides are YAML; the last one of a key counts. Raises ValueError on an unknown preset,
    section or key (with the known ones) or a bad value, FileNotFoundError on a missing file.
    """
    values = read_preset(preset)
    unknown = [key for key in values if key not in (*SECTIONS, "description")]
    if unknown:
        raise ValueError(
            f"preset {preset}: unknown section {', '.join(map(repr, unknown))}; "
            f"known: description, {', '.join(SECTIONS)}"
        )
    sections = {name: _section(preset, name, values.get(name) or {}) for name in SECTIONS}
    return make_preset(str(preset), str(values.get("description", "")), sections, overrides)


def make_preset(
    name: str, description: str, sections: Mapping[str, Mapping[str, Any]], overrides: Sequence[str] = ()
) -> Preset:
    """The preset of the mappings of SECTIONS; `overrides` and errors as for `load_preset`."""
    settings = {section: dict(sections[section]) for section in SECTIONS}
    for override in overrides:
        section, key, value = _parse_override(override)
        settings[section][key] = value
    return Preset(
        name=name,
        description=description,
        emerdiff=EmerDiffConfig.from_mapping(settings["emerdiff"]),
        ovseg=OvsegConfig.from_mapping(settings["ovseg"]),
        fusion=FusionConfig.from_mapping(settings["fusion"]),
    )


def with_overrides(preset: Preset, overrides: Sequence[str]) -> Preset:
    """The preset with `overrides` as for `load_preset`."""
    return make_preset(preset.name, preset.description, asdict(preset), overrides)


def config_hash(preset: Preset, **choices: Any) -> str:
    """SHA-256 (hex) of all that decides a result: the three configs and the run's other `choices`, plain data only.

    Names, licences, sizes of downloads and the number of trajectories at once are left out.
    """
    weights = [*emerdiff.fetch.local_weights(preset.emerdiff), *ovseg.fetch.local_weights(preset.ovseg)]
    sections = {name: _result_settings(getattr(preset, name)) for name in SECTIONS}
    return digest({**sections, "weights": file_marks(weights), **choices})


def mask_hash(config: EmerDiffConfig, source: str, **choices: Any) -> str:
    """SHA-256 (hex) of all that decides the masks of a `source` (a `MaskSource`) for a given image."""
    if not MaskSource.of(source, "masks").needs_diffusion:
        return digest({"source": source, "clusters": config.clusters, **choices})
    weights = file_marks(emerdiff.fetch.local_weights(config))
    return digest({"source": source, **_result_settings(config), "weights": weights, **choices})


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _result_settings(config: EmerDiffConfig | OvsegConfig | FusionConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in _NO_RESULT}


def _section(preset: str | Path, name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"preset {preset}: section {name} is {value!r}, expected a mapping of settings")
    return value


def _parse_override(override: str) -> tuple[str, str, Any]:
    """ "emerdiff.clusters=20" → ("emerdiff", "clusters", 20)."""
    path, equals, text = override.partition("=")
    section, dot, key = path.strip().partition(".")
    if not (equals and dot and key and section in SECTIONS):
        raise ValueError(
            f"override is {override!r}, expected SECTION.KEY=VALUE with a section of {', '.join(SECTIONS)}"
        )
    try:
        value = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"override {override!r}: the value is no YAML: {' '.join(str(error).split())}") from None
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value, re.IGNORECASE):
        # YAML 1.1 takes 1e-5, without a point, for text.
        value = float(value)
    return section, key, value
