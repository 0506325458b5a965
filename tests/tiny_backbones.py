"""Tiny random models of each family of backbones, of the real classes, in memory and as folders on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    VQModel,
)
from tiny_emerdiff import tiny_text_config, tiny_tokenizer, tiny_unet, tiny_vae
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from emerdiff.backbones.dit import DiTBackbone
from emerdiff.backbones.flux import FluxBackbone
from emerdiff.backbones.pixart import PixArtBackbone
from emerdiff.backbones.protocol import Backbone
from emerdiff.backbones.sd3 import SD3Backbone
from emerdiff.backbones.unet import UNetBackbone
from emerdiff.schedule import FlowSchedule, NoiseSchedule

_LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
_SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_TEXT, _POOLED = 16, 24


def _schedule(**betas: Any) -> NoiseSchedule:
    return NoiseSchedule(tuple(DDIMScheduler(**betas).alphas_cumprod.double().tolist()), "epsilon")


def tiny_xl_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 2, 3),
        attention_head_dim=[1, 2, 4],
        use_linear_projection=True,
        cross_attention_dim=_TEXT + _POOLED,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=_POOLED + 6 * 8,
        norm_num_groups=4,
    )


def tiny_vq() -> VQModel:
    """Factor 4, as the first latent diffusion models'."""
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 8),
        layers_per_block=1,
        latent_channels=4,
        num_vq_embeddings=64,
        norm_num_groups=2,
    )


def tiny_pixart(sample_size: int = 8, **changes: Any) -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=24,
        caption_channels=_TEXT,
        sample_size=sample_size,
        **changes,
    )


def tiny_dit() -> DiTTransformer2DModel:
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        sample_size=8,
        num_embeds_ada_norm=5,
    )


def tiny_sd3(**changes: Any) -> SD3Transformer2DModel:
    """As 3.0; `dual_attention_layers` and `qk_norm` make it one of 3.5."""
    return SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=48,
        caption_projection_dim=16,
        pooled_projection_dim=2 * _POOLED,
        pos_embed_max_size=16,
        **changes,
    )


def tiny_flux(**changes: Any) -> FluxTransformer2DModel:
    """As [schnell]; `guidance_embeds` makes it one like [dev]."""
    return FluxTransformer2DModel(
        in_channels=4 * 2**2,
        num_layers=3,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=_TEXT,
        pooled_projection_dim=_POOLED,
        axes_dims_rope=(2, 2, 4),
        **changes,
    )


def _lively(model: torch.nn.Module) -> Any:
    """With random numbers where a model begins with zeros or ones: gates and scales then have something to do."""
    for parameter in model.parameters():
        if parameter.numel() > 1 and parameter.flatten().unique().numel() == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def _xl() -> UNetBackbone:
    prompt, pooled = torch.randn(1, 5, _TEXT + _POOLED), torch.randn(1, _POOLED)
    return UNetBackbone(_lively(tiny_xl_unet()), _lively(tiny_vae()), prompt, _schedule(**_SCALED), pooled=pooled)


def _vq() -> UNetBackbone:
    return UNetBackbone(_lively(tiny_unet("mini")), _lively(tiny_vq()), torch.randn(1, 5, 16), _schedule(**_SCALED))


def _pixart(sample_size: int = 8, **changes: Any) -> PixArtBackbone:
    transformer = _lively(tiny_pixart(sample_size, **changes))
    return PixArtBackbone(transformer, _lively(tiny_vae()), torch.randn(1, 1, _TEXT), _schedule(**_LINEAR))


def _dit() -> DiTBackbone:
    return DiTBackbone(_lively(tiny_dit()), _lively(tiny_vae()), _schedule(**_LINEAR))


def _sd3(**changes: Any) -> SD3Backbone:
    prompt, pooled = torch.randn(1, 7, 48), torch.randn(1, 2 * _POOLED)
    return SD3Backbone(_lively(tiny_sd3(**changes)), _lively(tiny_vae()), prompt, pooled, FlowSchedule(1000))


def _flux(**changes: Any) -> FluxBackbone:
    prompt, pooled = torch.randn(1, 7, _TEXT), torch.randn(1, _POOLED)
    return FluxBackbone(_lively(tiny_flux(**changes)), _lively(tiny_vae()), prompt, pooled, FlowSchedule(1000))


# The families, with the layers whose queries are clustered and whose output is offset.
BACKBONES: dict[str, Callable[[], Backbone]] = {
    "sdxl": _xl,
    "vq": _vq,
    "pixart-sigma": _pixart,
    "pixart-alpha": lambda: _pixart(use_additional_conditions=True, num_embeds_ada_norm=1000),
    "dit": _dit,
    "sd3": _sd3,
    "sd35": lambda: _sd3(dual_attention_layers=(0, 1), qk_norm="rms_norm"),
    "flux": _flux,
    "flux-dev": lambda: _flux(guidance_embeds=True),
}
LAYERS: dict[str, tuple[str, str]] = {
    "sdxl": tuple(f"up_blocks.0.attentions.{number}.transformer_blocks.0.attn2" for number in (0, 2)),
    "vq": tuple(f"up_blocks.1.attentions.{number}.transformer_blocks.0.attn2" for number in (0, 2)),
    "pixart-sigma": ("transformer_blocks.1.attn2", "transformer_blocks.1.attn1"),
    "pixart-alpha": ("transformer_blocks.0.attn1", "transformer_blocks.2.attn1"),
    "dit": ("transformer_blocks.1.attn1", "transformer_blocks.1.attn1"),
    "sd3": ("transformer_blocks.1.attn", "transformer_blocks.1.attn"),
    "sd35": ("transformer_blocks.1.attn", "transformer_blocks.1.attn2"),
    "flux": ("transformer_blocks.1.attn", "transformer_blocks.1.attn"),
    "flux-dev": ("transformer_blocks.0.attn", "transformer_blocks.2.attn"),
}


def tiny(family: str) -> Backbone:
    """The same weights at every call; image sides are multiples of 32 (UNets) or 16."""
    torch.manual_seed(0)
    return BACKBONES[family]()


def save_family(folder: Path, family: str, **index: Any) -> Path:
    """A folder as the family's pipeline saves it, with random weights; `index` are further keys of its index."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {"vae": tiny_vae()}
    if family == "sdxl":
        parts |= {"unet": tiny_xl_unet(), "scheduler": EulerDiscreteScheduler(**_SCALED)}
        parts |= {"text_encoder": _clip(folder, "", _TEXT), "text_encoder_2": _clip(folder, "_2", _POOLED, _POOLED)}
    elif family == "vq":
        parts |= {"vae": tiny_vq(), "unet": tiny_unet("mini"), "scheduler": DDIMScheduler(**_SCALED)}
        parts |= {"text_encoder": _clip(folder, "", 16)}
    elif family.startswith("pixart"):
        alpha = {"use_additional_conditions": True} if family == "pixart-alpha" else {}
        parts |= {"transformer": tiny_pixart(**alpha), "scheduler": DPMSolverMultistepScheduler(**_LINEAR)}
        parts |= {"text_encoder": _t5(_TEXT)}
    elif family == "dit":
        parts |= {"transformer": tiny_dit(), "scheduler": DDIMScheduler(**_LINEAR)}
    elif family == "flux":
        parts |= {"transformer": tiny_flux(), "scheduler": FlowMatchEulerDiscreteScheduler()}
        parts |= {"text_encoder": _clip(folder, "", _POOLED), "text_encoder_2": _t5(_TEXT)}
    else:
        parts |= {"transformer": tiny_sd3(), "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)}
        parts |= {
            "text_encoder": _clip(folder, "", _TEXT, _POOLED),
            "text_encoder_2": _clip(folder, "_2", _POOLED, _POOLED),
        }
        parts |= {"text_encoder_3": _t5(48)}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    named = {name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()}
    named |= {path.name: ["transformers", "CLIPTokenizer"] for path in folder.glob("tokenizer*")}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline", **named, **index}))
    return folder


def _clip(folder: Path, number: str, width: int, projected: int | None = None) -> Any:
    tokenizer = tiny_tokenizer(folder / f"tokenizer{number}")
    config = tiny_text_config(tokenizer, width, layers=3, projection_dim=projected or width)
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=16, num_layers=2, num_heads=2))
