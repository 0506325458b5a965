"""More latent channels or more layers for trained weights: what is new begins at zero, and changes nothing at first."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

# Log variance that the new channels begin with: little noise, so that they are of use at once.
_CERTAIN = -6.0
_FINE_HEADS = 2


@torch.no_grad()
def widened_vae(vae: AutoencoderKL, channels: int) -> AutoencoderKL:
    """A VAE of so many latent channels that decodes as before at first. ValueError for fewer than it has."""
    old = _at_most(vae.config.latent_channels, channels)
    wide = AutoencoderKL.from_config({**vae.config, "latent_channels": channels})
    kept = torch.cat([torch.arange(old), torch.arange(channels, channels + old)])  # of means and of log variances
    own, states = wide.state_dict(), vae.state_dict()
    for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
        states[name] = own[name].index_copy(0, kept, states[name])
    states["encoder.conv_out.bias"][channels + old :] = _CERTAIN
    states["quant_conv.weight"] = _block(states["quant_conv.weight"], kept, 2 * channels)
    states["quant_conv.bias"] = torch.zeros(2 * channels).index_copy(0, kept, states["quant_conv.bias"])
    first = torch.arange(old)
    states["post_quant_conv.weight"] = _block(states["post_quant_conv.weight"], first, channels)
    states["post_quant_conv.bias"] = torch.zeros(channels).index_copy(0, first, states["post_quant_conv.bias"])
    states["decoder.conv_in.weight"] = torch.zeros_like(own["decoder.conv_in.weight"]).index_copy(
        1, first, states["decoder.conv_in.weight"]
    )
    wide.load_state_dict(states)
    return wide


@torch.no_grad()
def widened_unet(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A UNet of so many latent channels that predicts the old ones as before, and 0 for the new ones at first.

    ValueError for fewer than it has.
    """
    old = _at_most(unet.config.in_channels, channels)
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": channels, "out_channels": channels})
    states, first = unet.state_dict(), torch.arange(old)
    for name, dimension in (("conv_in.weight", 1), ("conv_out.weight", 0), ("conv_out.bias", 0)):
        states[name] = torch.zeros_like(wide.state_dict()[name]).index_copy(dimension, first, states[name])
    wide.load_state_dict(states)
    return wide


@torch.no_grad()
def with_fine_attention(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A UNet whose last up block has a transformer block, after its first ResNet block; it predicts as before at first.

    The name of the new self-attention is up_blocks.N.attentions.0.transformer_blocks.0.attn1 with the last N. A UNet
    whose last up block has attention already is returned as it is.
    """
    config = unet.config
    if config.up_block_types[-1] == "CrossAttnUpBlock2D":
        return unet
    # What begins with an underscore is diffusers' own: the path that weights came from, and the names of settings that
    # were left at their defaults, which it would not let go of.
    known = {name: value for name, value in config.items() if not name.startswith("_")}
    levels, resnets = len(config.block_out_channels), config.layers_per_block + 1
    fine = UNet2DConditionModel.from_config(
        {
            **known,
            "up_block_types": (*config.up_block_types[:-1], "CrossAttnUpBlock2D"),
            # diffusers puts an attention after each ResNet block of a level. Those without a transformer block are two
            # convolutions of 1×1.
            "transformer_layers_per_block": [1] * levels,
            "reverse_transformer_layers_per_block": [*[[1] * resnets] * (levels - 1), [1] + [0] * (resnets - 1)],
            # Heads, despite the name. Fewer are faster on so many tokens.
            "attention_head_dim": [_FINE_HEADS, *[config.attention_head_dim] * (levels - 1)],
        }
    )
    fine.load_state_dict({**fine.state_dict(), **unet.state_dict()})
    for attention in fine.up_blocks[-1].attentions:
        nn.init.zeros_(attention.proj_out.weight)
        nn.init.zeros_(attention.proj_out.bias)
    return fine


def _at_most(old: int, channels: int) -> int:
    if channels < old:
        raise ValueError(f"{channels} latent channels given, at least the {old} that the weights have expected")
    return old


def _block(weight: Tensor, kept: Tensor, channels: int) -> Tensor:
    """A 1×1 convolution of `channels` channels: `weight` (C, C, 1, 1) for those kept, the others as they are."""
    wide = torch.eye(channels)
    wide[kept[:, None], kept] = weight[..., 0, 0]
    return wide[..., None, None]
