"""Folders of diffusers → one file, under the names that the first releases gave to tensors: as people share models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    ".norm1.": ".in_layers.0.",
    ".conv1.": ".in_layers.2.",
    ".time_emb_proj.": ".emb_layers.1.",
    ".norm2.": ".out_layers.0.",
    ".conv2.": ".out_layers.3.",
    ".conv_shortcut.": ".skip_connection.",
}
_VAE = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_out.0": "proj_out",
    "to_": "",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    ".resnets.": ".block.",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
    "down_blocks.": "down.",
}
_OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers.": "transformer.resblocks.",
    "layer_norm": "ln_",
    "self_attn": "attn",
    "fc1": "c_fc",
    "fc2": "c_proj",
}


def load_weights(part: Path) -> dict[str, Tensor]:
    return {name: tensor for file in part.glob("*.safetensors") for name, tensor in load_file(file).items()}


def first_names(parts: Mapping[str, dict[str, Tensor]], open_clip: bool = False) -> dict[str, Tensor]:
    """The tensors of all parts of Stable Diffusion 1.x, 2.x (whose text tower is `open_clip`'s) or XL (of two)."""
    named = {f"model.diffusion_model.{name}": tensor for name, tensor in unet(parts["unet"]).items()}
    named |= {f"first_stage_model.{name}": tensor for name, tensor in vae(parts["vae"]).items()}
    first, second = parts.get("text_encoder", {}), parts.get("text_encoder_2", {})
    stage = "conditioner.embedders.0" if second else "cond_stage_model"
    if open_clip:
        named |= {f"{stage}.model.{name}": tensor for name, tensor in open_clip_tower(first).items()}
    else:
        named |= {f"{stage}.transformer.text_model.{bare(name)}": tensor for name, tensor in first.items()}
    return named | {f"conditioner.embedders.1.model.{name}": each for name, each in open_clip_tower(second).items()}


def unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    layers = 1 + max(int(name.split(".")[3]) for name in tensors if name.startswith("down_blocks.0.resnets"))
    attended = {name.split(".")[1] for name in tensors if re.match(r"up_blocks\.\d+\.attentions", name)}

    def renamed(name: str) -> str:
        if match := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name):
            side, block, kind, layer, rest = match.groups()
            index = int(block) * (layers + 1) + int(layer)
            if kind == "downsamplers":
                return f"input_blocks.{1 + index + layers}.0.op.{rest.removeprefix('conv.')}"
            if kind == "upsamplers":
                return f"output_blocks.{index + layers}.{2 if block in attended else 1}.{rest}"
            place = f"input_blocks.{1 + index}" if side == "down" else f"output_blocks.{index}"
            return f"{place}.1.{rest}" if kind == "attentions" else replaced(f"{place}.0.{rest}", _RESNET)
        if match := re.match(r"mid_block\.(\w+)\.(\d)\.(.*)", name):
            kind, layer, rest = match.groups()
            place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(layer)}"
            return f"{place}.{rest}" if kind == "attentions" else replaced(f"{place}.{rest}", _RESNET)
        return replaced(name, _TOP)

    return {renamed(name): tensor for name, tensor in tensors.items()}


def vae(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its attention is made of convolutions of 1×1."""
    last = max(int(name.split(".")[2]) for name in tensors if name.startswith("decoder.up_blocks."))

    def renamed(name: str) -> str:
        name = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{last - int(match[1])}", name)
        return replaced(name, _VAE)

    return {
        renamed(name): tensor[..., None, None] if "attentions" in name and tensor.ndim == 2 else tensor
        for name, tensor in tensors.items()
    }


def open_clip_tower(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {}
    for name, tensor in tensors.items():
        new = replaced(bare(name), _OPEN_CLIP)
        if match := re.fullmatch(r"(.*)\.q_proj\.(weight|bias)", new):
            thirds = [tensors[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
            named[f"{match[1]}.in_proj_{match[2]}"] = torch.cat(thirds)
        elif name == "text_projection.weight":
            named["text_projection"] = tensor.T.contiguous()
        elif not re.search(r"\.[kv]_proj\.", new):
            named[new] = tensor
    return named


def bare(name: str) -> str:
    return name.removeprefix("text_model.")


def replaced(text: str, pairs: Mapping[str, str]) -> str:
    for old, new in pairs.items():
        text = text.replace(old, new)
    return text
