"""The layout of a model's folder: model_index.json → its family, and the parts that must be there with weights.

Imports nothing heavy: what is missing is said before torch is loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ground.weights import loading

# The class of a folder's denoiser, and the file of `backbones` that loads it.
FAMILIES = {
    "UNet2DConditionModel": "unet",
    "PixArtTransformer2DModel": "pixart",
    "DiTTransformer2DModel": "dit",
    "SD3Transformer2DModel": "sd3",
    "FluxTransformer2DModel": "flux",
}
# Folders of older releases call both of these Transformer2DModel, and differ in their norms.
_BY_NORM = {"ada_norm_single": "pixart", "ada_norm_zero": "dit"}
INDEX = "model_index.json"
# What tells the layout of a folder: enough to know which files to ask a hub for.
TELLING = (INDEX, "transformer/config.json")


@dataclass(frozen=True)
class Layout:
    """What a folder of a family consists of."""

    family: str  # the file of `backbones`
    parts: tuple[str, ...]  # folders with a config and weights
    tokenizers: tuple[str, ...] = ()  # folders with a tokenizer's files


def layout_of(folder: Path) -> Layout:
    """The layout of a diffusers folder by the class of its denoiser; ValueError for one that is not known.

    A folder without an index is taken for one of Stable Diffusion.
    """
    index = folder / INDEX
    if not index.is_file():
        return _LAYOUTS["unet"]({})
    with loading(str(index)):
        parts = json.loads(index.read_text(encoding="utf-8"))
        library, denoiser = parts.get("transformer") or parts["unet"]
    family = FAMILIES.get(denoiser)
    if denoiser == "Transformer2DModel":
        config = folder / "transformer" / "config.json"
        with loading(str(config)):
            family = _BY_NORM.get(json.loads(config.read_text(encoding="utf-8"))["norm_type"])
    if family is None:
        raise ValueError(f"{index} has a {library} {denoiser}, expected one of {', '.join(FAMILIES)}")
    return _LAYOUTS[family](parts)


def _unet(parts: dict[str, Any]) -> Layout:
    if not has(parts, "text_encoder_2"):
        return Layout("unet", ("unet", "vae", "text_encoder"), ("tokenizer",))
    # Stable Diffusion XL; where its null condition is zeros, no text is ever encoded.
    if parts.get("force_zeros_for_empty_prompt"):
        return Layout("unet", ("unet", "vae"))
    return Layout("unet", ("unet", "vae", "text_encoder", "text_encoder_2"), ("tokenizer", "tokenizer_2"))


def _pixart(parts: dict[str, Any]) -> Layout:
    """T5's tokens of an empty prompt are in its config, so that no tokenizer is needed."""
    return Layout("pixart", ("transformer", "vae", "text_encoder"))


def _dit(parts: dict[str, Any]) -> Layout:
    return Layout("dit", ("transformer", "vae"))


def _sd3(parts: dict[str, Any]) -> Layout:
    return Layout("sd3", ("transformer", "vae", "text_encoder", "text_encoder_2"), ("tokenizer", "tokenizer_2"))


def _flux(parts: dict[str, Any]) -> Layout:
    """The second text encoder is a T5."""
    return Layout("flux", ("transformer", "vae", "text_encoder", "text_encoder_2"), ("tokenizer",))


_LAYOUTS = {"unet": _unet, "pixart": _pixart, "dit": _dit, "sd3": _sd3, "flux": _flux}


def has(parts: dict[str, Any], part: str) -> bool:
    """Whether an index names a part: what a pipeline may do without stands there as [null, null]."""
    return bool(parts.get(part)) and parts[part][1] is not None


def stem(part: str) -> str:
    """How the names of a part's weights files begin: text encoders are of another library."""
    return "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
