"""The sizes of published diffusion models, for random weights: what such a model costs, whatever it has learned."""

from __future__ import annotations

from typing import Any

import torch

from emerdiff.schedule import NoiseSchedule

SD_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD1: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD1_PROMPT = 77, 768  # states of a prompt


def sd_schedule() -> NoiseSchedule:
    """Stable Diffusion's; of other models the betas differ, the cost does not."""
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    return NoiseSchedule(tuple(alphas.tolist()), "epsilon")
