"""Words: a dual encoder learns from the tags and captions of the images, and how well it ranks those held out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg import OvsegConfig
from ovseg.backbone import load_backbone
from training.adapt.split import LARGEST, Split
from training.hardware import Hardware
from training.photo_clip import SCHEDULE, TEACHER_CLASSES, Head, encoder, load_start, save, train
from training.photo_tags import embed_texts
from training.photos import FeatureCache, Photo, feature_cache, read_photos

# A fifth of the rate that the head was trained with: with all of it, words that it knew already got worse.
LEARNING_RATE = 2e-4
# Seconds from one checkpoint to the next: what a kill loses.
CHECKPOINT_EVERY = 60.0


@dataclass(frozen=True)
class WordFigures:
    """How well the held-out images go with their own tags and captions; None where there are none."""

    images: int  # held out, with tags
    tags: int  # that compete: all of the folder
    tag_first: float | None  # 0..1, images whose best of all tags is one of their own
    tag_first_by_chance: float | None  # 0..1, the same if tags were drawn
    tags_found: float | None  # 0..1, of an image with k tags, how many of its k best are its own; mean over images
    tag_loss: float | None  # nats, -log of the share of an image that goes to its own tags; mean over images
    captions: int  # images held out with captions, which compete with each other
    caption_first: float | None  # 0..1, images that fit their own caption best of all
    caption_loss: float | None  # nats, cross-entropy of the right one


def merged(config: OvsegConfig, start: Path, target: Path) -> Path:
    """The open_clip folder `start`, or a copy of it in `target` with the overlay of the preset, if that has one."""
    if config.overlay is None:
        return start
    if not target.exists():
        part = target.with_suffix(".part")
        save(load_backbone(config, device="cpu", dtype="float32").model, start, part)
        part.replace(target)
    return target


def train_words(split: Split, start: Path, minutes: float, run: Path, target: Path, hardware: Hardware) -> Path:
    """Adapt the model of the open_clip folder `start` to the images of `split`, into the folder `target`.

    `run` keeps feature maps and checkpoints, from which a later call goes on, and the model as well: its folder is
    returned.
    """
    schedule = replace(SCHEDULE, minutes=minutes, learning_rate=LEARNING_RATE, validate_every=CHECKPOINT_EVERY)
    train(split.train, schedule, run, run / "weights", start=start, resume=True, size=LARGEST, hardware=hardware)
    shutil.rmtree(target, ignore_errors=True)
    trained = run / "weights/photo"
    shutil.copytree(trained, target)
    return trained


def measure_words(split: Split, tags: Sequence[str], model: Path, run: Path, hardware: Hardware) -> WordFigures:
    """The figures of the open_clip folder `model` on the images held out; `tags` are all that compete.

    Adapting leaves the tower below the head as it is, so that `run` keeps feature maps for before and after.
    """
    backbone = load_start(model, hardware)
    photos = read_photos(split.held)
    encode = encoder(backbone, lambda features: torch.zeros(len(features), TEACHER_CLASSES), hardware)  # not looked at
    cache = feature_cache(run, photos, LARGEST, backbone.patch_hw[0], encode)
    head = Head(backbone.model)
    embeddings = [_places(head, cache, index, hardware) for index in range(len(photos))]
    scale = float(head.logit_scale.exp().clamp(max=60))
    tagged = [(photo, scale * own) for photo, own in zip(photos, embeddings, strict=True) if photo.tags]
    captioned = [(photo, scale * own) for photo, own in zip(photos, embeddings, strict=True) if photo.caption]
    first, found, loss, chance = _rank_tags(tagged, tags, embed_texts(tags, backbone)) if tagged else (None,) * 4
    captions = sorted({photo.caption for photo, _ in captioned})
    best, caption_loss = None, None
    if len(captions) > 1:
        best, caption_loss = _rank_captions(captioned, captions, torch.from_numpy(backbone.encode_text(captions)))
    return WordFigures(len(tagged), len(tags), first, chance, found, loss, len(captioned), best, caption_loss)


@torch.inference_mode()
def _places(head: Head, cache: FeatureCache, index: int, hardware: Hardware) -> Tensor:
    """(P, C) unit embeddings of all places of an image, on the CPU."""
    features = np.asarray(cache.features[cache.starts[index] : cache.starts[index + 1]], np.float32)
    return head(torch.from_numpy(features).to(hardware.device)).cpu()


def _rank_tags(
    images: Sequence[tuple[Photo, Tensor]], tags: Sequence[str], texts: Tensor
) -> tuple[float, float, float, float]:
    """(first, found, loss, chance) as in WordFigures: tags are ranked by the share of the places that they win."""
    rows = []
    for photo, own in images:
        shares = (own @ texts.T).softmax(dim=1).mean(dim=0)  # of the tags
        right = torch.tensor([tag in photo.tags for tag in tags])
        best = right[shares.argsort(descending=True)]
        count = int(right.sum())
        rows.append((best[0], best[:count].float().mean(), -shares[right].sum().log(), count / len(tags)))
    first, found, loss, chance = (float(column) for column in np.array(rows, float).mean(axis=0))
    return first, found, loss, chance


def _rank_captions(
    images: Sequence[tuple[Photo, Tensor]], captions: Sequence[str], texts: Tensor
) -> tuple[float, float]:
    """(first, loss) as in WordFigures: a caption counts by the places that fit it best, as in training."""
    rows = []
    for photo, own in images:
        fits = own @ texts.T  # P x captions
        pooled = (fits.softmax(dim=0) * fits).sum(dim=0)
        right = captions.index(photo.caption)
        rows.append((int(pooled.argmax()) == right, float(F.cross_entropy(pooled, torch.tensor(right)))))
    first, loss = (float(column) for column in np.array(rows, float).mean(axis=0))
    return first, loss
