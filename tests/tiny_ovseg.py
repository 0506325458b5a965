"""Tiny random CLIPs of open_clip's real classes, in memory and as the folders that users have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, BertConfig

from ovseg.backbone import Backbone

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
# open_clip's ViT-B-16 but for what costs time: there width is 768 (text: 512), layers 12, head_width 64
VIT_B16_SHAPED: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(
    *, layers: int = 2, embed_dim: int = 12, seed: int = 0, quick_gelu: bool = False, **vision: Any
) -> open_clip.CLIP:
    """A random CLIP in eval mode: patches of 8 px, images of 32 px; `vision` goes into vision_cfg."""
    torch.manual_seed(seed)
    vision_cfg = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": layers} | vision
    text_cfg = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=embed_dim, vision_cfg=vision_cfg, text_cfg=text_cfg, quick_gelu=quick_gelu)
    for parameter in model.visual.parameters():  # biases, gains and scales that are not their neutral start value
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def tiny_backbone(**settings: Any) -> Backbone:
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return Backbone(model=tiny_clip(**settings), tokenizer=tokenizer, mean=MEAN, std=STD, logit_scale=20.0)


def save_local_dir(folder: Path, model_cfg: dict[str, Any], *, seed: int = 0) -> open_clip.CLIP:
    """Writes a random model as an open_clip local-dir (weights in float16) and returns it."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**model_cfg).half().float()
    preprocess_cfg = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return model.eval().requires_grad_(False)


def save_with_own_tokenizer(folder: Path) -> None:
    """A local-dir as the embedded model is one: a small CLIPTokenizer (bytes, one merge) beside it."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        "at</w>",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocab = {token: index for index, token in enumerate(tokens)}
    text_cfg = VIT_B16_SHAPED["text_cfg"] | {
        "context_length": 32,
        "vocab_size": len(vocab),
        "hf_tokenizer_name": "local",
    }
    save_local_dir(folder, VIT_B16_SHAPED | {"text_cfg": text_cfg})
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\na t</w>\n")
    tokenizer_config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 32}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))


def save_bert(folder: Path) -> None:
    """Config and tokenizer of a tiny BERT, as transformers saves them."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "grass", "sky", "photo", "of"]
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertConfig(vocab_size=len(vocab), max_position_embeddings=64, **sizes).save_pretrained(folder)


def save_with_bert(folder: Path, vision_cfg: dict[str, Any]) -> None:
    """A random local-dir whose text tower is a tiny BERT, the files of both towers beside each other."""
    save_bert(folder)
    text_cfg = {
        "hf_model_name": "org/a-text-tower",
        "hf_tokenizer_name": "org/a-text-tower",
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
        "context_length": 32,
    }
    model_cfg = {"embed_dim": 12, "vision_cfg": vision_cfg, "text_cfg": text_cfg}
    torch.manual_seed(0)
    own = text_cfg | {"hf_model_name": str(folder), "hf_model_pretrained": False}
    model = open_clip.CustomTextCLIP(**model_cfg | {"text_cfg": own})
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    settings = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
