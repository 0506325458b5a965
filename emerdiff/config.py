"""Configuration: the `emerdiff` section of a preset (YAML mapping) → a checked, frozen `EmerDiffConfig`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

PRESET_FOLDERS = tuple(
    Path(__file__).parents[1] / folder for folder in ("emerseg/configs", "configs")
)  # wheel, checkout


@dataclass(frozen=True)
class EmerDiffConfig:
    """Every constant of the method (EmerDiff, arXiv 2401.11739, section 4); the defaults are the paper's for SD 1.x.

    Raises ValueError, in one line, for a value of a wrong type or out of range. Whether `timestep_modulate` is on the
    schedule and the layers exist is known only with the model: `EmerDiff` checks that.
    """

    model: str  # hub id, local diffusers folder, or "builtin:NAME"
    revision: str | None = None  # commit on the hub; None for a local folder or built-in weights
    license: str = ""  # of the weights
    download_mb: int = 0  # MB that a download takes
    image_size: int = 512  # px; pictures are scaled to about image_size² pixels, keeping their aspect
    num_timesteps: int = 50  # 50 → 981, 961, …, 21, 1 for a model trained with T = 1000
    timestep_feature: int = 1  # t_f: where the features to cluster are read
    timestep_modulate: int = 281  # t_m: where modulated denoising begins; on the schedule
    modulate: str = "once"  # "once": offset at t_m alone; "onward": at t_m and every later timestep
    strength: float = 10.0  # λ, added to the modulation layer's output
    clusters: int = 30  # K
    clustering: str = "kmeans"  # "kmeans"; "ward": neighbours are merged, so that each cluster is connected
    position_weight: float = 0.0  # of the place in the picture beside the features that are clustered; 0: as the paper
    feature_layer: str = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"  # its queries are clustered
    modulation_layer: str = "up_blocks.1.attentions.2.transformer_blocks.0.attn2"  # its output is offset
    feature_draws: int = 1  # noise draws at t_f whose features are averaged
    inject_attention: bool = True  # modulated passes take Q and K of the unmodulated pass
    image_blur: float = 0.0  # Gaussian sigma in px of the model's image frame, on the difference image I⁻ − I⁺
    difference_blur: float = 1.0  # Gaussian sigma in px of the model's image frame, on d = ‖I⁻ − I⁺‖
    locality: float = 0.0  # each d^i is weighted by its M^i, blurred by so many grid positions (sigma); 0: as the paper
    guided_radius: float = 0.0  # borders follow edges of the picture this near, in grid positions; 0: as the paper
    batch_size: int = 16  # trajectories at once; halved by itself when memory runs out

    def __post_init__(self) -> None:
        for name, accepts, expected in _CHECKS:
            value = getattr(self, name)
            if not accepts(value):
                raise ValueError(f"emerdiff.{name}: {value!r} given, {expected} expected")
        for name in ("strength", "position_weight", "image_blur", "difference_blur", "locality", "guided_radius"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 10 and 10.0 are one configuration

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> EmerDiffConfig:
        """Config from the mapping of a preset. An unknown key or a missing `model` is a ValueError."""
        known = [field.name for field in fields(cls)]
        if unknown := [key for key in values if key not in known]:
            raise ValueError(f"emerdiff: unknown key {unknown[0]!r}; known keys: {', '.join(known)}")
        if "model" not in values:
            raise ValueError("emerdiff: no `model` given; expected a hub id, a local folder or 'builtin:NAME'")
        return cls(**values)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_integer(low: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


_CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("model", _is_text, "a hub id, a local folder or 'builtin:NAME'"),
    ("revision", lambda value: value is None or _is_text(value), "a commit of the hub or null"),
    ("license", lambda value: isinstance(value, str), "a text"),
    ("download_mb", _is_integer(0), "an integer >= 0 (MB)"),
    ("image_size", _is_integer(8), "an integer >= 8 (px)"),
    ("num_timesteps", _is_integer(1), "an integer >= 1"),
    ("timestep_feature", _is_integer(0), "an integer >= 0"),
    ("timestep_modulate", _is_integer(1), "an integer >= 1"),
    ("modulate", lambda value: value in ("once", "onward"), "'once' or 'onward'"),
    ("strength", _is_number, "a finite number >= 0"),
    ("clusters", _is_integer(1), "an integer >= 1"),
    ("clustering", lambda value: value in ("kmeans", "ward"), "'kmeans' or 'ward'"),
    ("position_weight", _is_number, "a finite number >= 0"),
    ("feature_layer", _is_text, "the name of an attention layer"),
    ("modulation_layer", _is_text, "the name of an attention layer"),
    ("feature_draws", _is_integer(1), "an integer >= 1"),
    ("inject_attention", lambda value: isinstance(value, bool), "true or false"),
    ("image_blur", _is_number, "a finite number >= 0 (sigma in px)"),
    ("difference_blur", _is_number, "a finite number >= 0 (sigma in px)"),
    ("locality", _is_number, "a finite number >= 0 (sigma in positions of the feature layer)"),
    ("guided_radius", _is_number, "a finite number >= 0 (positions of the feature layer)"),
    ("batch_size", _is_integer(1), "an integer >= 1"),
)


def read_preset(preset: str | Path) -> dict[str, Any]:
    """The whole mapping of a preset: `preset` is a bare name ("sd15") or the path of a .yaml file.

    Raises ValueError for an unknown name (listing the known ones) and for a file that is not YAML or not a mapping of
    sections, FileNotFoundError for a file that is not there.
    """
    path = _preset_path(preset)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no preset file {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"preset {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"preset {path} holds a {type(values).__name__}; expected a mapping of sections")
    return values


def _preset_path(preset: str | Path) -> Path:
    if Path(preset).suffix in (".yaml", ".yml"):
        return Path(preset).expanduser()
    folder = next((folder for folder in PRESET_FOLDERS if folder.is_dir()), PRESET_FOLDERS[0])
    paths = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if str(preset) not in paths:
        names = ", ".join(paths) or "none"
        raise ValueError(f"preset {str(preset)!r} is unknown; presets: {names}; or the path of a .yaml file")
    return paths[str(preset)]
