"""Preset files: a name ("sd15") or the path of a YAML file → the mapping that it holds, section by section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ground.paths import user_path

# The first that exists holds the presets of the project: in an installed wheel, and in a checkout.
PRESET_FOLDERS = tuple(Path(__file__).parents[1] / folder for folder in ("emerseg/configs", "configs"))

# Settings that may name a folder or a file, and how they name one beside the preset's file.
_MODELS = ("model", "decoder", "overlay", "layout")
_IN_FOLDER = re.compile(r"^(local-dir:)?\./")


def list_presets() -> tuple[str, ...]:
    """The names of the presets that come with the package, sorted."""
    return tuple(_preset_files())


def read_preset(preset: str | Path) -> dict[str, Any]:
    """The whole mapping of a preset: `preset` is a name such as "sd15" or the path of a .yaml file.

    A `model`, `decoder`, `overlay` or `layout` such as ./weights or local-dir:./weights is returned as an absolute path
    beside the file.

    Raises ValueError for an unknown name (with the known ones) and for a file that is not YAML or not a mapping of
    sections, FileNotFoundError for a file that is not there.
    """
    path = _preset_path(preset)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no preset file {path}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"preset {path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"preset {path} holds {type(values).__name__}, expected a mapping of sections")
    return {name: _beside(path, section) for name, section in values.items()}


def read_section(preset: str | Path, name: str) -> Mapping[str, Any]:
    """The settings of one section of a preset; ValueError if it is missing, else errors as in `read_preset`."""
    section = read_preset(preset).get(name)
    if not isinstance(section, Mapping):
        raise ValueError(f"preset {preset}: section {name} is {section!r}, expected a mapping of settings")
    return section


def _beside(path: Path, section: Any) -> Any:
    """A section in which models that begin with ./ lie beside the preset's file, wherever it is moved."""
    if not isinstance(section, dict):
        return section
    here = path.absolute().parent
    models = {key: section[key] for key in _MODELS if isinstance(section.get(key), str)}
    return section | {
        key: _IN_FOLDER.sub(lambda match: f"{match[1] or ''}{here}/", text) for key, text in models.items()
    }


def _preset_path(preset: str | Path) -> Path:
    if Path(preset).suffix in (".yaml", ".yml"):
        return user_path(preset)
    files = _preset_files()
    if str(preset) not in files:
        names = ", ".join(files) or "none"
        raise ValueError(f"preset is {str(preset)!r}, expected one of {names}, or the path of a .yaml file")
    return files[str(preset)]


def _preset_files() -> dict[str, Path]:
    folder = next((folder for folder in PRESET_FOLDERS if folder.is_dir()), PRESET_FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}
