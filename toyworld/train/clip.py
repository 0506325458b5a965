"""The embedded dual encoder: a small ViT CLIP of open_clip, trained on crops at several zooms with their captions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from toyworld.data import SceneCache
from toyworld.train.loop import Schedule, fit, generators
from toyworld.train.tokenizer import CONTEXT_LENGTH, learn_tokenizer

SIZE, BATCH = 64, 128  # px, pairs
ZOOMS = (48, 64, 80, 96, 112)  # px of the square of a scene that becomes a training picture
FULL_NAMES = (
    0.35  # of the regions in captions; the others go by their kind, which colours and patterns do not give away
)
SCHEDULE = Schedule(minutes=30, learning_rate=1e-3, weight_decay=0.1, warmup_steps=150)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def config(vocab_size: int) -> dict:
    """open_clip_config.json of the embedded model."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": SIZE, "patch_size": 16, "width": 192, "head_width": 48, "layers": 6},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 3,
                "hf_tokenizer_name": "local",  # any name: open_clip then reads the tokenizer files beside this one
            },
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"},
    }


def train(
    train_scenes: SceneCache,
    validation: SceneCache,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    start: Path | None,
    resume: bool,
) -> None:
    import open_clip

    folder = weights / "clip"
    if start:
        shutil.copytree(start, folder, dirs_exist_ok=True)
        settings = json.loads((folder / "open_clip_config.json").read_text())
    else:
        settings = config(learn_tokenizer(train_scenes.captions(10_000), folder))
        (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    torch.manual_seed(0)
    model = open_clip.CLIP(**settings["model_cfg"])
    if start:
        model.load_state_dict(load_file(start / "open_clip_model.safetensors"))

    def normalised(images: np.ndarray) -> Tensor:
        return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]

    def compute_losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(generators(2, step)[0])
        drawn = [
            train_scenes.crop(i, ZOOMS[rng.integers(len(ZOOMS))], SIZE, rng, FULL_NAMES)
            for i in rng.integers(len(train_scenes), size=BATCH)
        ]
        images, captions, shown = zip(*drawn, strict=True)
        with torch.autocast("cpu", torch.bfloat16):
            image_features = model.encode_image(normalised(np.stack(images)), normalize=True)
            text_features = model.encode_text(tokenize([caption.text for caption in captions]), normalize=True)
        logits = model.logit_scale.exp().clamp(max=100) * image_features.float() @ text_features.float().T
        # a caption that is true of another picture of the batch as well is no negative for it
        also_true = torch.tensor([[caption.mentions <= visible for caption in captions] for visible in shown])
        logits = logits.masked_fill(also_true & ~torch.eye(BATCH, dtype=torch.bool), -torch.inf)
        target = torch.arange(BATCH)
        return {
            "image_to_text": F.cross_entropy(logits, target) / 2,
            "text_to_image": F.cross_entropy(logits.T, target) / 2,
        }

    @torch.inference_mode()
    def validate(averaged: Any) -> dict[str, float]:
        """Top-1 retrieval among 100 crops; a caption that is true of several counts for each of them."""
        rng = np.random.default_rng(3)
        images, captions, shown = zip(*(validation.crop(i, 80, SIZE, rng) for i in range(100)), strict=True)
        image_features = averaged.encode_image(normalised(np.stack(images)), normalize=True)
        text_features = averaged.encode_text(tokenize([caption.text for caption in captions]), normalize=True)
        similarity = image_features @ text_features.T  # (pictures, captions)
        right = torch.tensor([[caption.mentions <= visible for caption in captions] for visible in shown])
        return {
            "top1_image_to_text": right[torch.arange(100), similarity.argmax(1)].float().mean().item(),
            "top1_text_to_image": right[similarity.argmax(0), torch.arange(100)].float().mean().item(),
        }

    averaged = fit(model, compute_losses, validate, schedule, run, resume=resume)
    state = {name: tensor.detach().half().contiguous() for name, tensor in averaged.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
