"""The embedded dual encoder: a small ViT CLIP of open_clip, trained on crops at several zooms with their captions.

The class token learns to match the caption, as in CLIP. The patches, by the value path of MaskCLIP, learn the names of
regions: the mean over a region is to be nearest to the region's name (contrast of regions and texts, as in RegionCLIP,
Zhong et al., CVPR 2022). Where the regions are is known, since the scenes are drawn; photo_clip.py learns from tags and
captions of images alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovseg.dense import captured_input, dense_tokens
from ovseg.templates import TEMPLATES
from ovseg.variants import value_path
from toyworld.captions import draw_name
from toyworld.vocabulary import KINDS
from toyworld.wording import draw_one_word_apart, without_synonyms
from training.data import Crop, SceneCache
from training.hardware import CPU, Hardware
from training.loop import Schedule, fit, generators
from training.tokenizer import CONTEXT_LENGTH, learn_tokenizer

# Side of a training image in px, and pairs a step.
SIZE, BATCH = 64, 128
# Sides in px of the squares of a scene that become training images.
ZOOMS = (24, 32, 48, 64, 64, 96)
# Share of regions that go by their full names. The others go by their kind, which colours do not give away.
FULL_NAMES = 0.35
# Share of captions that name one region alone, as users' labels do.
ALONE = 0.5
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


@dataclass(frozen=True)
class Regions:
    """The regions of crops, R of them, and N texts: names of regions, and wrong names."""

    crops: Tensor  # (R,) int64: index of the crop that each is in
    weights: Tensor  # (R, P): the shares of the crop's patches, of sum 1
    texts: tuple[str, ...]
    named: Tensor  # (R,) int64: index of the text that was drawn for each
    true: Tensor  # (R, N) bool: whether a text is true of a region, also if it was drawn for another one

    def to(self, device: torch.device) -> Regions:
        """The same with its tensors on `device`."""
        tensors = (tensor.to(device) for tensor in (self.crops, self.weights, self.named, self.true))
        crops, weights, named, true = tensors
        return Regions(crops, weights, self.texts, named, true)


def name_regions(crops: Sequence[Crop], grid: int, rng: np.random.Generator) -> Regions:
    """Give each region a name (the full one, the kind or a synonym of the kind) and each crop a wrong name besides.

    Half of the time a region is all of its patches, of a grid of `grid` × `grid`, else about half of them.
    """
    owners, weights, drawn, truths = [], [], [], []
    wrong: list[str] = []
    for owner, crop in enumerate(crops):
        for region, (name, kind) in enumerate(zip(crop.names, crop.kinds, strict=True)):
            inside = (crop.regions == region).astype(np.float32)
            shares = cv2.resize(inside, (grid, grid), interpolation=cv2.INTER_AREA).ravel()
            some = shares * (rng.random(shares.shape) < 0.5)
            chosen = some if rng.random() < 0.5 and some.any() else shares
            owners.append(owner)
            weights.append(chosen / chosen.sum())
            drawn.append(draw_name(name, kind, rng, FULL_NAMES)[1])
            truths.append((name, kind))
        wrong += draw_one_word_apart(crop.names[rng.integers(len(crop.names))], 1, rng)
    texts = tuple(dict.fromkeys([*drawn, *wrong]))
    meant = [without_synonyms(text) for text in texts]
    places = {text: index for index, text in enumerate(texts)}
    return Regions(
        torch.tensor(owners),
        torch.from_numpy(np.stack(weights)),
        texts,
        torch.tensor([places[text] for text in drawn]),
        torch.tensor([[text in truth for text in meant] for truth in truths]),
    )


def region_contrast(similarity: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
    """Half the cross-entropies of (R, N) logits: of each region's text, and of each text's regions.

    Another text that is true of a region is no negative of it. A text that is true of none is a negative of all.
    """
    named = F.one_hot(regions.named, len(regions.texts)).bool()
    to_text = F.cross_entropy(similarity.masked_fill(regions.true & ~named, -torch.inf), regions.named)
    meant = regions.true.any(dim=0)
    columns, true = similarity[:, meant].T, regions.true[:, meant].T  # texts x R
    # The probabilities of all regions of a text add up.
    right = columns.masked_fill(~true, -torch.inf).logsumexp(dim=1)
    to_regions = (columns.logsumexp(dim=1) - right).mean()
    return to_text / 2, to_regions / 2


def train(
    train_scenes: SceneCache,
    validation: SceneCache,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    start: Path | None,
    resume: bool,
    hardware: Hardware = CPU,
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
        pixels = (torch.tensor(images).permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]
        return pixels.to(hardware.device)

    def contrast(logits: Tensor, also_true: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropies of (images, captions) logits; a caption that is true of another image is no negative."""
        logits = logits.masked_fill(
            also_true & ~torch.eye(BATCH, dtype=torch.bool, device=also_true.device), -torch.inf
        )
        target = torch.arange(BATCH, device=logits.device)
        return F.cross_entropy(logits, target) / 2, F.cross_entropy(logits.T, target) / 2

    def compute_losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(generators(2, step)[0])
        crops = [
            train_scenes.crop(i, ZOOMS[rng.integers(len(ZOOMS))], SIZE, rng, FULL_NAMES, ALONE)
            for i in rng.integers(len(train_scenes), size=BATCH)
        ]
        visual = model.visual
        regions = name_regions(crops, visual.grid_size[0], rng).to(hardware.device)
        last_block = visual.transformer.resblocks[-1]
        with hardware.autocast(), captured_input(last_block) as captured:
            image_features = model.encode_image(normalised(np.stack([crop.image for crop in crops])), normalize=True)
            template = TEMPLATES["toy"][rng.integers(len(TEMPLATES["toy"]))]
            texts = tokenize([crop.caption.text for crop in crops] + [template.format(text) for text in regions.texts])
            encoded = model.encode_text(texts.to(hardware.device), normalize=True)
            captions, names = encoded.float().split([BATCH, len(regions.texts)])
            patches = visual.ln_post(value_path(last_block, captured[0], visual.grid_size)[:, 1:]) @ visual.proj
        scale = model.logit_scale.exp().clamp(max=100)
        also_true = torch.tensor([[crop.caption.mentions <= seen.shown for crop in crops] for seen in crops])
        whole = contrast(scale * image_features.float() @ captions.T, also_true.to(hardware.device))
        means = torch.einsum("rp,rpc->rc", regions.weights, F.normalize(patches.float(), dim=-1)[regions.crops])
        similarity = scale * F.normalize(means, dim=-1) @ names.T
        losses = ("image_to_text", "text_to_image", "regions_to_text", "text_to_regions")
        return dict(zip(losses, (*whole, *region_contrast(similarity, regions)), strict=True))

    @torch.inference_mode()
    def validate(averaged: Any) -> dict[str, float]:
        """Top-1 retrieval among a crop of each scene, where a caption that is true of several counts for each of them;
        and how many patches of 16 whole scenes get the kind at their centre, among all kinds, by MaskCLIP's value path:
        of all patches, and the mean over the true kinds."""

        def encode_text(texts: list[str]) -> Tensor:
            return averaged.encode_text(tokenize(texts).to(hardware.device), normalize=True)

        rng = np.random.default_rng(3)
        crops = [validation.crop(i, 80, SIZE, rng) for i in range(len(validation))]
        image_features = averaged.encode_image(normalised(np.stack([crop.image for crop in crops])), normalize=True)
        text_features = encode_text([crop.caption.text for crop in crops])
        similarity = (image_features @ text_features.T).cpu()  # images x captions
        right = torch.tensor([[crop.caption.mentions <= seen.shown for crop in crops] for seen in crops])
        patch = settings["model_cfg"]["vision_cfg"]["patch_size"]
        whole = validation.images[:16]
        dense = dense_tokens(averaged.visual, normalised(whole), "maskclip")[:, 1:]
        kinds = encode_text([f"a {kind}" for kind in KINDS])
        found = (F.normalize(dense, dim=-1) @ kinds.T).argmax(-1).cpu()  # 16 x patches
        centres = validation.label_maps[: len(whole), patch // 2 :: patch, patch // 2 :: patch]
        truth = torch.tensor(
            [[KINDS.index(validation.kinds[i][region]) for region in of.ravel()] for i, of in enumerate(centres)]
        )
        hits = found == truth
        return {
            "patches": hits.float().mean().item(),
            "kinds_recall": torch.stack([hits[truth == kind].float().mean() for kind in truth.unique()]).mean().item(),
            "top1_image_to_text": right[torch.arange(len(crops)), similarity.argmax(1)].float().mean().item(),
            "top1_text_to_image": right[similarity.argmax(0), torch.arange(len(crops))].float().mean().item(),
        }

    averaged = fit(model, compute_losses, validate, schedule, run, resume=resume, hardware=hardware)
    state = {name: tensor.detach().half().contiguous() for name, tensor in averaged.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
