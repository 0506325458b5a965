"""The embedded dual encoder: a small ViT CLIP of open_clip, trained on crops at several zooms with their captions.

The class token learns to match the caption, as in CLIP, and so do, by the value path of MaskCLIP, the patches that fit
it best: patch-aligned contrastive learning (Mukhoti et al., CVPR 2023). The kinds that a picture shows compete for each
of its patches, and each has to win some: multiple-instance learning. All of it knows of pictures what their captions
could tell, never where things are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovseg.dense import captured_input, dense_tokens, value_path
from toyworld.data import SceneCache
from toyworld.train.loop import Schedule, fit, generators
from toyworld.train.tokenizer import CONTEXT_LENGTH, learn_tokenizer
from toyworld.vocabulary import KINDS

SIZE, BATCH = 64, 128  # px, pairs
ZOOMS = (24, 32, 32, 48, 64, 96)  # px of the square of a scene that becomes a training picture
FULL_NAMES = (
    0.35  # of the regions in captions; the others go by their kind, which colours and patterns do not give away
)
ALONE = 0.5  # of the captions tell of one region alone, as users' words do
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


def claims(probabilities: Tensor, shown: Sequence[frozenset[str]]) -> Tensor:
    """Mean over pictures of what each of their kinds lacks on the patches that it fits best.

    `probabilities` (B, P, N) of the N KINDS at each of P patches, `shown` the words that are true of each picture. A
    kind must win a third of its equal share of the patches: the most distinct patch alone would leave the rest of an
    object to the ground behind it.
    """
    losses = []
    for places, words in zip(probabilities, shown, strict=True):
        present = [index for index, kind in enumerate(KINDS) if kind in words]
        share = -(-len(places) // (3 * len(present)))
        best = places[:, present].topk(share, dim=0).values.mean(dim=0)
        losses.append(-best.clamp(min=1e-6).log().mean())
    return torch.stack(losses).mean()


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

    def contrast(logits: Tensor, also_true: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropies of (pictures, captions) logits; a caption that is true of another picture is no negative."""
        logits = logits.masked_fill(also_true & ~torch.eye(BATCH, dtype=torch.bool), -torch.inf)
        target = torch.arange(BATCH)
        return F.cross_entropy(logits, target) / 2, F.cross_entropy(logits.T, target) / 2

    kind_tokens = tokenize([f"a {kind}" for kind in KINDS])

    def compute_losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(generators(2, step)[0])
        drawn = [
            train_scenes.crop(i, ZOOMS[rng.integers(len(ZOOMS))], SIZE, rng, FULL_NAMES, ALONE)
            for i in rng.integers(len(train_scenes), size=BATCH)
        ]
        images, captions, shown = zip(*drawn, strict=True)
        visual = model.visual
        last_block = visual.transformer.resblocks[-1]
        with torch.autocast("cpu", torch.bfloat16), captured_input(last_block) as captured:
            image_features = model.encode_image(normalised(np.stack(images)), normalize=True)
            text_features = model.encode_text(tokenize([caption.text for caption in captions]), normalize=True)
            kind_features = model.encode_text(kind_tokens, normalize=True)
            patches = visual.ln_post(value_path(last_block, captured[0])[:, 1:]) @ visual.proj
            patches = F.normalize(patches.float(), dim=-1)
        scale = model.logit_scale.exp().clamp(max=100)
        text_features = text_features.float()
        also_true = torch.tensor([[caption.mentions <= visible for caption in captions] for visible in shown])
        whole = contrast(scale * image_features.float() @ text_features.T, also_true)
        kind_probabilities = (scale * patches @ kind_features.float().T).softmax(dim=-1)
        # Of each picture the patches that fit the caption: these learn to say what is at their place.
        similarity = scale * torch.einsum("ipc,tc->itp", patches, text_features)
        dense = contrast((similarity.softmax(dim=-1) * similarity).sum(dim=-1), also_true)
        names = ("image_to_text", "text_to_image", "patches_to_text", "text_to_patches", "kinds")
        return dict(zip(names, (*whole, *dense, claims(kind_probabilities, shown)), strict=True))

    @torch.inference_mode()
    def validate(averaged: Any) -> dict[str, float]:
        """Top-1 retrieval among 100 crops, where a caption that is true of several counts for each of them; and how
        many patches of whole scenes get the kind at their centre, among all kinds, by MaskCLIP's value path: of all
        patches, and the mean over the true kinds."""
        rng = np.random.default_rng(3)
        images, captions, shown = zip(*(validation.crop(i, 80, SIZE, rng) for i in range(100)), strict=True)
        image_features = averaged.encode_image(normalised(np.stack(images)), normalize=True)
        text_features = averaged.encode_text(tokenize([caption.text for caption in captions]), normalize=True)
        similarity = image_features @ text_features.T  # (pictures, captions)
        right = torch.tensor([[caption.mentions <= visible for caption in captions] for visible in shown])
        patch = settings["model_cfg"]["vision_cfg"]["patch_size"]
        dense = dense_tokens(averaged.visual, normalised(validation.images[:16]), "maskclip")[:, 1:]
        kinds = averaged.encode_text(tokenize([f"a {kind}" for kind in KINDS]), normalize=True)
        found = (F.normalize(dense, dim=-1) @ kinds.T).argmax(-1)  # 16 x patches
        centres = validation.label_maps[:16, patch // 2 :: patch, patch // 2 :: patch].reshape(16, -1)
        truth = torch.tensor([[KINDS.index(validation.kinds[i][region]) for region in centres[i]] for i in range(16)])
        hits = found == truth
        return {
            "patches": hits.float().mean().item(),
            "kinds_recall": torch.stack([hits[truth == kind].float().mean() for kind in truth.unique()]).mean().item(),
            "top1_image_to_text": right[torch.arange(100), similarity.argmax(1)].float().mean().item(),
            "top1_text_to_image": right[similarity.argmax(0), torch.arange(100)].float().mean().item(),
        }

    averaged = fit(model, compute_losses, validate, schedule, run, resume=resume)
    state = {name: tensor.detach().half().contiguous() for name, tensor in averaged.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
