"""The photographic dual encoder: a convolutional CLIP whose places learn labels from tags and captions of images.

The towers are frozen: feature maps are computed once and kept. The head is trained, which takes every place by itself:
the last 1x1 convolution and the projection into the space of the text embeddings. It has three teachers:

- tags: those of an image compete for its places with labels that the image does not show (photo_tags);
- captions: of all captions, an image's places must fit its own best (patch-aligned, Mukhoti et al., CVPR 2023);
- distillation: the likeliest of a thousand classes at each place, by the tower's own classifier or by the model before
  training, so that labels that are no image's tag still find their places.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ovseg import OvsegConfig
from ovseg.backbone import Backbone, load_backbone
from ovseg.fetch import WEIGHTS_FILE
from training.data import SceneCache
from training.hardware import CPU, Hardware
from training.loop import Schedule, fit, generators
from training.photo_tags import TagVocabulary, embed_texts, tag_losses
from training.photos import KEPT_ASIDE, Encode, FeatureCache, Photo, feature_cache, read_photos, scene_photos

SCHEDULE = Schedule(minutes=12, learning_rate=1e-3, warmup_steps=50, ema_decay=0.99, validate_every=120.0)
# The tower's own classifier, in the folder that --start names; it is not shipped.
CLASSIFIER_FILE = "classifier.safetensors"
# The teacher's likeliest classes that are kept of each place.
TEACHER_CLASSES = 16
LARGEST = 448  # px of the images' shorter side, at most
# Images a step, places of each at most, labels drawn as negatives.
BATCH, PLACES, NEGATIVES = 32, 96, 240
# Places of a batch that learn from the teacher; drawn more often where it is sure.
TAUGHT = 800
# Log-odds of "up" or "down" at the image's edge at the first step, and the steps after which half of them is left.
LIFT, LIFT_STEPS = 3.0, 300
# photo_tags.FALLING and SLACK for parts of drawn scenes, whose regions differ more in size.
SCENE_FALLING, SCENE_SLACK = 0.5, 2.0
# The tower's last features (P, D) -> logits of class_names() (P, 1000).
Teacher = Callable[[Tensor], Tensor]
log = logging.getLogger(__name__)


class Head(nn.Module):
    """What follows the frozen tower, for each place by itself; it shares the modules of the CLIP that it is made of."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        trunk = model.visual.trunk
        self.conv, self.norm, self.projection = trunk.conv_head, trunk.bn2, trunk.classifier
        self.logit_scale = model.logit_scale

    def forward(self, features: Tensor) -> Tensor:
        """(P, C) float32 unit embeddings of P places; `features` (P, D)."""
        planes = self.norm(self.conv(features.T[None, :, :, None]))  # 1 x D' x P x 1
        return F.normalize(self.projection(planes[0, :, :, 0].T).float(), dim=-1)


def train(
    images: Path,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    start: Path,
    resume: bool,
    size: int,
    scenes: SceneCache | None = None,
    hardware: Hardware = CPU,
) -> None:
    """Train on the folder `images` (see training.photos) from the open_clip local-dir `start`; writes weights/photo.

    `size`: px of the photographs' shorter side, at most; `scenes`: of the toy world, to learn from as well. ValueError
    if the image tower of `start` is no EfficientNet of timm.
    """
    backbone = load_start(start, hardware)
    photos = read_photos(images)
    if scenes is not None:
        photos += scene_photos(run / "scenes", scenes)
    log.info("%d images to train on", len(photos))
    teach = teacher(backbone, start)
    encode = encoder(backbone, teach, hardware)
    cache = feature_cache(run / f"features-{size}", photos, size, backbone.patch_hw[0], encode)
    learn(photos, cache, backbone, schedule, run, resume=resume, hardware=hardware)
    save(backbone.model, start, weights / "photo")


def load_start(start: Path, hardware: Hardware = CPU) -> Backbone:
    """The model of an open_clip local-dir; ValueError unless its image tower is one of timm's EfficientNets."""
    backbone = load_backbone(OvsegConfig(model=f"local-dir:{start}"), device=str(hardware.device), dtype="float32")
    for name in ("conv_head", "bn2", "classifier"):
        if not hasattr(getattr(backbone.model.visual, "trunk", None), name):
            raise ValueError(f"the image tower of {start} has no {name}, expected one of timm's EfficientNets")
    return backbone


def learn(
    photos: Sequence[Photo],
    cache: FeatureCache,
    backbone: Backbone,
    schedule: Schedule,
    run: Path,
    *,
    resume: bool,
    hardware: Hardware = CPU,
) -> None:
    """Train the head of the backbone's model in place; photo i of `photos` has the feature map i of `cache`.

    The head alone runs on the device; the losses, many small sums over single images, are computed on the CPU.
    """
    model = backbone.model
    name_embeddings = embed_texts(class_names(), backbone)
    vocabulary = TagVocabulary(photos, backbone)
    captions = sorted({photo.caption for photo in photos if photo.caption})
    caption_index = {caption: i for i, caption in enumerate(captions)}
    caption_embeddings = torch.from_numpy(backbone.encode_text(captions)) if captions else None
    learners = [i for i in range(len(photos)) if i % KEPT_ASIDE]
    by_source: dict[str, list[int]] = {}
    for i in learners:
        by_source.setdefault(photos[i].source, []).append(i)
    sources = list(by_source)
    # Large sources must not drown small ones; images that are exhaustively tagged teach most.
    odds = np.array([len(by_source[s]) ** 0.5 * (3 if s in vocabulary.exhaustive else 1) for s in sources])
    odds /= odds.sum()
    negatives: dict[int, Tensor] = {}
    head = Head(model).requires_grad_(True)

    def places_of(index: int, limit: int, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Some places of an image, as rows of the cache, and how far down they are, 0 to 1."""
        height, width = cache.grids[index]
        chosen = np.sort(rng.permutation(height * width)[:limit])
        return cache.starts[index] + chosen, torch.from_numpy((chosen // width + 0.5) / height).float()

    def compute_losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(generators(5, step)[0])
        picked = [by_source[sources[s]] for s in rng.choice(len(sources), BATCH, p=odds)]
        batch = [indices[rng.integers(len(indices))] for indices in picked]
        places, rows = zip(*(places_of(i, PLACES, rng) for i in batch), strict=True)
        at = np.concatenate(places)
        with hardware.autocast():
            embeddings = head(torch.from_numpy(cache.features[at]).float().to(hardware.device)).cpu()  # P x C
        scale = head.logit_scale.exp().clamp(max=60).cpu()
        # The usual heights break the tie at first; later looks decide.
        lift = LIFT / (1 + step / LIFT_STEPS)
        drawn = torch.from_numpy(rng.permutation(len(vocabulary.labels))[:NEGATIVES])
        parts: dict[str, list[Tensor]] = {"all_places": [], "best_places": [], "captions": []}
        # Per image: how likely each of its places shows something that is no tag.
        untagged = torch.zeros(len(at)).split([len(down) for down in rows])
        for i, down, own, rest in zip(batch, rows, embeddings.split([len(d) for d in rows]), untagged, strict=True):
            photo = photos[i]
            if photo.caption and caption_embeddings is not None:
                fits = scale * own @ caption_embeddings.T  # P x captions
                pooled = (fits.softmax(dim=0) * fits).sum(dim=0)
                parts["captions"].append(F.cross_entropy(pooled, torch.tensor(caption_index[photo.caption])))
            if not photo.tags:
                continue
            if i not in negatives:
                negatives[i] = vocabulary.negatives(photo)
            tags, companions = vocabulary.draw_positives(photo, rng)
            spoken = [vocabulary.draw_synonym(tag, rng) for tag in tags]
            positives = torch.tensor([*spoken, *(vocabulary.index[label] for label in companions)])
            hard = torch.tensor(vocabulary.hard_negatives(photo, tags, rng), dtype=torch.long)
            against = torch.cat([hard, drawn]).unique()
            among = torch.cat([positives, against[negatives[i][against]]])
            logs = (scale * own @ vocabulary.embeddings[among].T).log_softmax(dim=1)[:, : len(positives)]
            exhaustive = photo.source in vocabulary.exhaustive
            sizes = {"falling": SCENE_FALLING, "slack": SCENE_SLACK} if photo.names else {}
            everywhere, best, on_companions = tag_losses(
                logs, down, tags, companions, exhaustive=exhaustive, lift=lift, **sizes
            )
            # What the teacher sees in drawings is not worth learning.
            rest += 1 if photo.names else on_companions
            parts["all_places"].append(everywhere)
            parts["best_places"].append(best)
        weight = {"all_places": 1.0, "best_places": 1.0, "captions": 0.1}
        # The teacher sees an object in much of what is around it: places that show something else do not learn from it.
        probabilities = torch.from_numpy(cache.probabilities[at]).float()
        sure = (probabilities[:, 0].clamp(min=0.05) * (1 - torch.cat(untagged)).clamp(0.02, 1)).double().numpy()
        taught = torch.from_numpy(rng.choice(len(at), min(TAUGHT, len(at)), replace=False, p=sure / sure.sum()))
        likely = torch.from_numpy(cache.classes[at]).long()[taught]
        seen = (scale * embeddings[taught] @ name_embeddings.T).log_softmax(dim=-1).gather(1, likely)
        losses = {"teacher": -(probabilities[taught] * seen).sum(dim=1).mean()}
        zero = torch.zeros(())
        return losses | {name: weight[name] * torch.stack([zero, *some]).sum() / BATCH for name, some in parts.items()}

    aside = [i for i in range(0, len(photos), KEPT_ASIDE) if photos[i].tags]
    tags_of_all = [
        i
        for i, label in enumerate(vocabulary.labels)
        if any(label in counts for counts in vocabulary.tag_counts.values())
    ]

    @torch.inference_mode()
    def validate(averaged: Head) -> dict[str, float]:
        """Of images kept aside: how often the label that most places choose, among all tags, is one of its own."""
        hits = []
        for i in aside:
            at = slice(cache.starts[i], cache.starts[i + 1])
            features = torch.from_numpy(np.asarray(cache.features[at], np.float32))
            embeddings = averaged(features.to(hardware.device)).cpu()
            votes = (embeddings @ vocabulary.embeddings[tags_of_all].T).argmax(dim=1).bincount()
            hits.append(vocabulary.labels[tags_of_all[int(votes.argmax())]] in photos[i].tags)
        return {"tag_found": float(np.mean(hits)) if hits else float("nan")}

    averaged = fit(head, compute_losses, validate, schedule, run, resume=resume, hardware=hardware)
    head.load_state_dict(averaged.state_dict())


def teacher(backbone: Backbone, start: Path) -> Teacher:
    """The tower's own classifier if it lies in `start`, else the model as it is now."""
    device = backbone.model.logit_scale.device
    if (start / CLASSIFIER_FILE).is_file():
        state = load_file(start / CLASSIFIER_FILE, device=str(device))
        return lambda features: F.linear(features, state["weight"].float(), state["bias"].float())
    projection = backbone.model.visual.trunk.classifier
    weight, bias = projection.weight.detach().clone(), projection.bias.detach().clone()
    embeddings, scale = embed_texts(class_names(), backbone).to(device), backbone.logit_scale
    return lambda features: scale * F.normalize(F.linear(features, weight, bias), dim=-1) @ embeddings.T


def class_names() -> list[str]:
    """The thousand classes of ImageNet-1k in order, each by the first of its names."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]


def encoder(backbone: Backbone, teach: Teacher, hardware: Hardware = CPU) -> Encode:
    """The tower up to its head, and what the teacher sees at each place."""
    trunk = backbone.model.visual.trunk
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))

    def encode(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = (torch.tensor(rgb).permute(2, 0, 1) / 255 - mean) / std
        inputs = pixels[None].to(hardware.device, memory_format=torch.channels_last)
        with torch.inference_mode(), hardware.autocast():
            features = trunk.blocks(trunk.bn1(trunk.conv_stem(inputs)))
            last = trunk.bn2(trunk.conv_head(features))[0].flatten(1).T.float()
        with torch.inference_mode():
            likely = teach(last).softmax(dim=-1).topk(TEACHER_CLASSES)
        rows, classes, probabilities = (
            part.cpu().numpy()
            for part in (features[0].flatten(1).T.half().contiguous(), likely.indices.short(), likely.values.half())
        )
        return rows, classes, probabilities

    return encode


def save(model: Any, start: Path, folder: Path) -> None:
    """Write the model as an open_clip local-dir in float16, with the tokenizer and text config of `start`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().half().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    for path in start.iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copyfile(path, folder / path.name)
