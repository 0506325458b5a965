"""The text tower of an open_clip folder, as the text encoder of a Stable Diffusion folder."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

_PARTS = {  # of a block: open_clip's name, transformers'
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def text_tower(folder: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Tokenizer and text encoder (float32, eval, frozen) of a CLIP in open_clip's layout (local-dir)."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    settings = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    text = settings["text_cfg"]
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=text["vocab_size"],
            hidden_size=text["width"],
            intermediate_size=4 * text["width"],
            num_hidden_layers=text["layers"],
            num_attention_heads=text["heads"],
            max_position_embeddings=text["context_length"],
            projection_dim=settings["embed_dim"],
            hidden_act="quick_gelu" if settings.get("quick_gelu") else "gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    weights = _renamed(load_file(folder / "open_clip_model.safetensors"), text["layers"])
    prefix = next(iter(encoder.state_dict())).partition("embeddings")[0]  # not the same in all versions of transformers
    encoder.load_state_dict({prefix + name: tensor.float() for name, tensor in weights.items()})
    return tokenizer, encoder.eval().requires_grad_(False)


def _renamed(clip: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    renamed = {
        "embeddings.token_embedding.weight": clip["token_embedding.weight"],
        "embeddings.position_embedding.weight": clip["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        renamed[f"final_layer_norm.{kind}"] = clip[f"ln_final.{kind}"]
        for layer in range(layers):
            theirs, ours = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            for old, new in _PARTS.items():
                renamed[f"{ours}.{new}.{kind}"] = clip[f"{theirs}.{old}.{kind}"]
            thirds = clip[f"{theirs}.attn.in_proj_{kind}"].chunk(3)
            for name, third in zip("qkv", thirds, strict=True):
                renamed[f"{ours}.self_attn.{name}_proj.{kind}"] = third
    return renamed
