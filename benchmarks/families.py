"""What each family of backbones costs at its own size, with random weights: seconds and memory of one image, a table.

    python -m benchmarks.families                            # every family and speed, on a GPU if there is one
    python -m benchmarks.families --families sd1,sdxl --speeds instant,fast --json OUT.json
    python -m benchmarks.families --families sd1 --speeds instant --device cpu --set clusters=4

The models have the geometry of the published ones and are made on the device itself, nothing is read from disk. The
settings are those of the presets. One image is segmented at each speed, after one at `instant` that warms up; peak is
the most that was allocated on the GPU, or of the whole process without one. With random weights masks mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import (
    AutoencoderKL,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from PIL import Image

from benchmarks.studies.sizes import SD1, SD1_PROMPT, SD_VAE, published, sd_schedule
from emerdiff import Backbone, EmerDiff, EmerDiffConfig
from emerdiff.backbones.flux import FluxBackbone
from emerdiff.backbones.parts import lean
from emerdiff.backbones.pixart import PixArtBackbone
from emerdiff.backbones.sd3 import SD3Backbone
from emerdiff.backbones.unet import UNetBackbone
from emerdiff.schedule import FlowSchedule
from emerdiff.speed import Speed
from fusion.evaluation.measure import measured
from ground.device import resolve_device, resolve_dtype
from ground.presets import read_section
from toyworld import scene

_PIXART = {"caption_channels": 4096, "interpolation_scale": 2, "use_additional_conditions": False}
_SD3 = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}


@dataclass(frozen=True)
class Site:
    """Where models are made, and in which precision."""

    device: torch.device
    dtype: torch.dtype

    def made(self, cls: Any, config: dict[str, Any], dtype: torch.dtype | None = None) -> Any:
        """A model with the random numbers of its class, drawn on the device."""
        usual = torch.get_default_dtype()
        torch.set_default_dtype(dtype or self.dtype)
        try:
            with self.device:
                return lean(cls(**config).eval())
        finally:
            torch.set_default_dtype(usual)

    def vae(self, *, upcast: bool = False, **changes: Any) -> Any:
        """As `Parts.vae` does it: in float32 where it overflows in float16, and for bfloat16."""
        dtype = self.dtype if self.dtype == torch.float16 and not upcast else torch.float32
        return self.made(AutoencoderKL, {**SD_VAE, **changes}, dtype)

    def noise(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)


def sd1(site: Site) -> Backbone:
    return UNetBackbone(site.made(UNet2DConditionModel, SD1), site.vae(), site.noise(1, *SD1_PROMPT), sd_schedule())


def sdxl(site: Site, layout: str = "sdxl") -> Backbone:
    unet = site.made(UNet2DConditionModel, published(layout, "unet"))
    prompt, pooled = site.noise(1, 77, 2048), site.noise(1, 1280)
    return UNetBackbone(unet, site.vae(upcast=True), prompt, sd_schedule(), pooled=pooled)


def ssd1b(site: Site) -> Backbone:
    return sdxl(site, "ssd1b")


def pixart(site: Site) -> Backbone:
    transformer = site.made(PixArtTransformer2DModel, _PIXART)
    return PixArtBackbone(transformer, site.vae(upcast=True), site.noise(1, 1, 4096), sd_schedule())


def sd3(site: Site) -> Backbone:
    transformer = site.made(SD3Transformer2DModel, _SD3)
    prompt, pooled = site.noise(1, 77 + 256, 4096), site.noise(1, 2048)
    return SD3Backbone(transformer, site.vae(latent_channels=16), prompt, pooled, FlowSchedule(1000))


def flux(site: Site) -> Backbone:
    transformer = site.made(FluxTransformer2DModel, {})  # the class's own sizes are those of [schnell]
    prompt, pooled = site.noise(1, 256, 4096), site.noise(1, 768)
    return FluxBackbone(transformer, site.vae(latent_channels=16), prompt, pooled, FlowSchedule(1000))


# The families: how a model is made, and the preset whose settings it takes.
FAMILIES: dict[str, tuple[Callable[[Site], Backbone], str]] = {
    "sd1": (sd1, "sd15"),
    "ssd1b": (ssd1b, "ssd1b"),
    "sdxl": (sdxl, "sdxl"),
    "pixart-sigma": (pixart, "pixart-sigma"),
    "sd3-medium": (sd3, "sd3-medium"),
    "flux-schnell": (flux, "flux-schnell"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES), help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--speeds", default="instant,fast,exact", help=f"of {', '.join(Speed.values())}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="of the denoiser; auto is float16 on a GPU, float32 on a CPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting of emerdiff")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    site = Site(device, resolve_dtype(arguments.dtype, device))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    print(f"{name}, {site.dtype}, torch {torch.__version__}\n", flush=True)
    print("| family | parameters | px | speed | s | peak GB |\n|---|---|---|---|---|---|", flush=True)
    changes = {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in arguments.set)}
    rows = []
    for family in arguments.families.split(","):
        for row in _rows(family, site, arguments.speeds.split(","), changes):
            rows.append(row)
            print(_line(row), flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    if arguments.json:
        settings = {"device": name, "dtype": str(site.dtype), "torch": torch.__version__, "settings": changes}
        arguments.json.write_text(json.dumps({**settings, "rows": rows}, indent=1) + "\n")


def _rows(family: str, site: Site, speeds: list[str], changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each speed in turn; a model that does not fit, or numbers that overflow, are a row with the reason."""
    make, preset = FAMILIES[family]
    settings = {**read_section(preset, "emerdiff"), "model": "random", **changes}
    config = EmerDiffConfig.from_mapping(settings)
    row: dict[str, Any] = {"family": family, "image_size": config.image_size}
    rows = []
    try:
        torch.manual_seed(0)
        backbone = make(site)
        row["parameters"] = _parameters(backbone.denoiser)
        image = np.asarray(Image.fromarray(scene(1_000_000).image).resize((config.image_size,) * 2))
        EmerDiff(backbone, replace(config, speed="instant")).segment(image)
        for speed in speeds:
            model = EmerDiff(backbone, replace(config, speed=speed))
            run = measured(lambda model=model: model.segment(image))
            rows.append({**row, "speed": speed, "seconds": run.seconds, "peak_gb": (run.peak_mb or 0) / 1000})
    except (RuntimeError, ValueError) as error:
        rows.append({**row, "reason": " ".join(str(error).split())[:200]})
    return rows


def _parameters(model: torch.nn.Module) -> int:
    """As published: `lean` makes 4×4 kernels of the upsamplings' 3×3."""
    return sum(each.numel() * 9 // 16 if each.shape[2:] == (4, 4) else each.numel() for each in model.parameters())


def _line(row: dict[str, Any]) -> str:
    cells = [row["family"], f"{row.get('parameters', 0) / 1e9:.2f} B", str(row["image_size"])]
    if "reason" in row:
        return f"| {' | '.join(cells)} | {row['reason']} | – | – |"
    return f"| {' | '.join(cells)} | {row['speed']} | {row['seconds']:.2f} | {row['peak_gb']:.1f} |"


if __name__ == "__main__":
    main()
