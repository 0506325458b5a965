"""What a run is configured by: preset name or file + overrides → checked configs of the three steps, their hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from emerdiff.config import PRESET_FOLDERS, EmerDiffConfig, read_preset
from fusion.config import FusionConfig
from ovseg.config import OvsegConfig

SECTIONS = ("emerdiff", "ovseg", "fusion")
_NO_RESULT = ("license", "download_mb", "batch_size")  # fields that change nothing in the result


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
    sections = {name: dict(_section(preset, name, values.get(name) or {})) for name in SECTIONS}
    for override in overrides:
        section, key, value = _parse_override(override)
        sections[section][key] = value
    return Preset(
        name=str(preset),
        description=str(values.get("description", "")),
        emerdiff=EmerDiffConfig.from_mapping(sections["emerdiff"]),
        ovseg=OvsegConfig.from_mapping(sections["ovseg"]),
        fusion=FusionConfig.from_mapping(sections["fusion"]),
    )


def list_presets() -> tuple[str, ...]:
    """The names of the presets that come with the package, sorted."""
    folder = next(folder for folder in PRESET_FOLDERS if folder.is_dir())
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def config_hash(preset: Preset, **choices: Any) -> str:
    """SHA-256 (hex) of all that decides a result: the three configs and the run's other `choices`, plain data only.

    Left out: names, licences, sizes of downloads, and how many trajectories run at once.
    """
    return digest({**{name: _result_settings(getattr(preset, name)) for name in SECTIONS}, **choices})


def mask_hash(config: EmerDiffConfig, source: str, **choices: Any) -> str:
    """SHA-256 (hex) of all that decides the masks of a `source` (see `fusion.config`) for a given picture."""
    settings = _result_settings(config) if source in ("emerdiff", "naive") else {"clusters": config.clusters}
    return digest({"source": source, **settings, **choices})


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
    except yaml.YAMLError as error:
        raise ValueError(f"override {override!r}: the value is no YAML: {' '.join(str(error).split())}") from None
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value, re.IGNORECASE):
        value = float(value)  # YAML 1.1 takes 1e-5, without a point, for text
    return section, key, value
