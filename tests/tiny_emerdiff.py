"""Tiny random Stable Diffusion models of the real classes: as a backbone in memory, or as a whole folder on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from emerdiff.backbones.unet import UNetBackbone
from emerdiff.config import EmerDiffConfig
from emerdiff.schedule import NoiseSchedule

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_PROMPT_WIDTH = 16

# Stable Diffusion's layouts at a tiny width: what differs between its versions is all here.
UNETS: dict[str, dict[str, Any]] = {
    "mini": {
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
    },
    "sd1": {
        "block_out_channels": (8, 16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": 8,
    },
    "sd2": {
        "block_out_channels": (8, 16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": [1, 2, 4, 4],
        "use_linear_projection": True,
        "upcast_attention": True,
    },
}


def tiny_unet(layout: str = "mini") -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=2,
        cross_attention_dim=_PROMPT_WIDTH,
        norm_num_groups=4,
        **UNETS[layout],
    )


def tiny_vae() -> AutoencoderKL:
    """Factor 8, as Stable Diffusion's."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
    )


def tiny_backbone(layout: str = "mini", prediction_type: str = "epsilon") -> UNetBackbone:
    """The same weights at every call; image sides are multiples of 32 (mini) or 64."""
    torch.manual_seed(0)
    scheduler = DDIMScheduler(**_BETAS)
    return UNetBackbone(
        unet=tiny_unet(layout).eval().requires_grad_(False),
        vae=tiny_vae().eval().requires_grad_(False),
        empty_prompt=torch.randn(1, 5, _PROMPT_WIDTH),
        schedule=NoiseSchedule(tuple(scheduler.alphas_cumprod.double().tolist()), prediction_type),
    )


def tiny_config(**changes: Any) -> EmerDiffConfig:
    """Three timesteps from t_m = 21 down, three clusters; the default layers."""
    settings = {
        "model": "tiny",
        "image_size": 64,
        "num_timesteps": 100,
        "timestep_modulate": 21,
        "clusters": 3,
        "batch_size": 4,
        **changes,
    }
    return EmerDiffConfig.from_mapping(settings)


def picture(height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: two halves of different colour, with noise."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    noise[:, width // 2 :] += (150, 60, 0)
    return noise.astype(np.uint8)


def tiny_text_config(tokenizer: Any, width: int, *, layers: int, **changes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **changes,
    )


def save_folder(folder: Path, layout: str = "sd1") -> Path:
    """A folder as `StableDiffusionPipeline.save_pretrained` lays it out, with random weights as safetensors."""
    torch.manual_seed(0)
    tiny_unet(layout).save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    tokenizer = tiny_tokenizer(folder / "tokenizer")
    CLIPTextModel(tiny_text_config(tokenizer, _PROMPT_WIDTH, layers=2)).save_pretrained(folder / "text_encoder")
    if layout == "sd2":
        scheduler = DDIMScheduler(**_BETAS, prediction_type="v_prediction", steps_offset=1, clip_sample=False)
    else:
        scheduler = PNDMScheduler(**_BETAS, steps_offset=1, skip_prk_steps=True)
    scheduler.save_pretrained(folder / "scheduler")
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    index = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer over single letters, in the files that Stable Diffusion repositories have."""
    folder.mkdir(parents=True)
    letters = [letter + end for end in ("", "</w>") for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokens = [*letters, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 77,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)
