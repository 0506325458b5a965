"""The sizes of published diffusion models, for random weights: what such a model costs, whatever it has learned."""

from __future__ import annotations

import json
from typing import Any

import torch

from emerdiff.checkpoint import LAYOUTS
from emerdiff.schedule import NoiseSchedule


def published(layout: str, part: str) -> dict[str, Any]:
    """What the library's class of a part takes, from the layouts that single files are read with."""
    config = json.loads((LAYOUTS / layout / part / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in config.items() if not key.startswith("_")}


SD_VAE = published("sd1", "vae")
SD1 = published("sd1", "unet")
SD1_PROMPT = 77, 768  # states of a prompt


def sd_schedule() -> NoiseSchedule:
    """Stable Diffusion's; of other models the betas differ, the cost does not."""
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    return NoiseSchedule(tuple(alphas.tolist()), "epsilon")
