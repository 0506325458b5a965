"""Settings of the open-vocabulary step: a preset (YAML) or a mapping in, a checked `OvsegConfig` out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ovseg.prompts import resolve_templates

DENSE_VARIANTS = ("clip", "maskclip")  # the keys of dense.DENSE, said here too so that a config needs no torch
MODEL_FORMS = "an open_clip name, hf-hub:ORG/REPO, local-dir:PATH or builtin:NAME"


@dataclass(frozen=True)
class OvsegConfig:
    """What dense CLIP runs with; checked when it is made (ValueError on the first bad value)."""

    model: str  # open_clip name (then pretrained too) | "hf-hub:org/repo" | "local-dir:path" | "builtin:mini"
    pretrained: str | None = None  # open_clip tag or a .safetensors file, for a bare open_clip name only
    revision: str | None = None  # commit of the hub repository; None: its main branch
    license: str = ""  # licence of the weights
    download_mb: int = 0  # MB that a download takes; 0: not known
    dense: str = "maskclip"  # what stands in for a ViT's last block; a convolutional net has maskclip alone
    templates: str | tuple[str, ...] = "photo"  # a set in prompts.TEMPLATES, or the templates themselves
    image_size: int = 448  # px of the shorter side of CLIP's input; sides are rounded to whole patches
    window: int = 0  # px of that input that CLIP sees at once, a square; 0: all of it
    stride: int = 0  # px from one window to the next; 0: half a window
    logit_scale: float | None = None  # factor on the cosines before the softmax; None: the model's own

    def __post_init__(self) -> None:
        rows = (
            ("model", _is_text(self.model), f"text: {MODEL_FORMS}"),
            ("pretrained", self.pretrained is None or _is_text(self.pretrained), "a tag, a file or null"),
            ("revision", self.revision is None or _is_text(self.revision), "a commit id, as text, or null"),
            ("license", isinstance(self.license, str), "text"),
            ("download_mb", _is_whole(self.download_mb, 0), "a whole number of MB"),
            ("dense", self.dense in DENSE_VARIANTS, f"one of {', '.join(DENSE_VARIANTS)}"),
            ("image_size", _is_whole(self.image_size, 1), "a whole number of pixels from 1"),
            ("window", _is_whole(self.window, 0), "a whole number of pixels, or 0"),
            ("stride", _is_whole(self.stride, 0), "a whole number of pixels, or 0"),
            ("logit_scale", self.logit_scale is None or _is_positive(self.logit_scale), "above 0, or null"),
        )
        for name, ok, expected in rows:
            if not ok:
                raise ValueError(f"ovseg.{name} is {getattr(self, name)!r}, expected {expected}")
        if self.window and self.stride > self.window:
            raise ValueError(f"ovseg.stride is {self.stride}, expected at most ovseg.window, {self.window}")
        if ":" in self.model and self.pretrained is not None:
            raise ValueError(
                f"ovseg.pretrained is {self.pretrained!r}, expected null: {self.model} has its own weights"
            )
        resolve_templates(self.templates)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> OvsegConfig:
        """Config from a preset's `ovseg` section; ValueError on a missing `model` or an unknown key."""
        known = [field.name for field in fields(cls)]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise ValueError(f"unknown ovseg setting {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
        if "model" not in values:
            raise ValueError(f"ovseg.model is missing, expected {MODEL_FORMS}")
        settings = dict(values)
        if isinstance(settings.get("templates"), list):  # YAML knows no tuples
            settings["templates"] = tuple(settings["templates"])
        return cls(**settings)


def read_preset(preset: str | Path) -> dict[str, Any]:
    """All sections of a preset: a bare name (`configs/NAME.yaml`) or the path of a .yaml file.

    Raises ValueError on an unknown name (with the names there are) or a file that is no YAML mapping, and
    FileNotFoundError on a missing file.
    """
    if Path(preset).suffix in (".yaml", ".yml"):
        path = Path(preset).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"no preset file {path}")
    else:
        root = Path(__file__).parents[1]
        folder = next((f for f in (root / "emerseg/configs", root / "configs") if f.is_dir()), root)  # wheel, checkout
        paths = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if str(preset) not in paths:
            raise ValueError(f"unknown preset {str(preset)!r}: give one of {', '.join(paths)} or a .yaml file")
        path = paths[str(preset)]
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"preset {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"preset {path} holds {type(values).__name__}, expected a mapping with a section ovseg")
    return values


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
