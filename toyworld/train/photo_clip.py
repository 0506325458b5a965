"""The photographic dual encoder: a convolutional CLIP whose places learn words from tags and captions of pictures.

The towers stay as they are: feature maps are computed once and kept. What learns is the head, which takes every place
by itself: the last 1x1 convolution and the projection into the space of the words. Its teachers:

- tags: those of a picture compete for its places, beside words that it surely does not show. What each place shows is
  guessed from what the head believes so far, with every tag's share of the picture kept in bounds, and then learned
  (multiple-instance learning by expectation and maximisation);
- captions: of all captions, a picture's places must fit its own best (patch-aligned, Mukhoti et al., CVPR 2023);
- what it knew: the likeliest of a thousand classes at each place, as the tower's own classifier sees it, or as the
  model saw it before, so that words that no tag has said still find their places.
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

from ovseg import Label, OvsegConfig
from ovseg.backbone import Backbone, load_backbone
from ovseg.fetch import WEIGHTS_FILE
from ovseg.prompts import embed_labels
from toyworld.data import SceneCache
from toyworld.photo_words import BROAD, COMPANIONS, ELSEWHERE, HEIGHTS, SYNONYMS, UNSURE, WORN
from toyworld.photos import Encode, FeatureCache, Photo, feature_cache, read_photos, scene_photos
from toyworld.train.loop import Schedule, fit, generators

SCHEDULE = Schedule(minutes=12, learning_rate=1e-3, warmup_steps=50, ema_decay=0.99, validate_every=120.0)
TEMPLATES = "photo"  # of the words, as in the preset
CLASSIFIER_FILE = "classifier.safetensors"  # the tower's own, in the folder that --start names; it is not shipped
TEACHER_CLASSES = 16  # kept of each place
BATCH, PLACES, NEGATIVES = 32, 96, 240  # pictures, places of each at most, words tried beside the tags
TAUGHT = 800  # places of a batch that learn from the teacher, those drawn of which it is sure
TELLS_ALL = 3.0  # tags on average: pictures of such a source show nothing that its other pictures' tags would name
LIFT, LIFT_STEPS = 3.0, 300  # log-odds of "up" or "down" at the picture's edge at first, halved after so many steps
FIGURE = 0.5  # of a picture is what its tags tell, if all they tell is worn
FALLING, SLACK = 0.6, 1.25  # each tag of such a picture fills about 0.6 of what the one before it does, give or take
SCENE_FALLING, SCENE_SLACK = 0.5, 2.0  # the same for parts of drawn scenes, whose things differ more in size
FULL_NAMES, RIVALS = 0.3, 48  # how often a scene's regions go by their full names, and names of others tried then
KEPT_ASIDE = 50  # every so many-th picture is for validation
Teacher = Callable[[Tensor], Tensor]  # the tower's last features (P, D) -> logits of class_names() (P, 1000)
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


class Words:
    """All words that take part, as unit vectors, and which of them a picture shows, may show and does not show."""

    def __init__(self, photos: Sequence[Photo], backbone: Backbone) -> None:
        self.used: dict[str, dict[str, int]] = {}  # source -> tag -> pictures
        totals: dict[str, int] = {}
        specific: dict[str, int] = {}
        for photo in photos:
            tags = self.used.setdefault(photo.source, {})
            for tag in photo.tags:
                tags[tag] = tags.get(tag, 0) + 1
            totals[photo.source] = totals.get(photo.source, 0) + 1
            specific[photo.source] = specific.get(photo.source, 0) + len(set(photo.tags) - BROAD)
        self.names = list(dict.fromkeys(name for photo in photos for name in photo.names if name not in photo.tags))
        self.pictures = totals
        self.telling = {source for source, count in totals.items() if specific[source] >= TELLS_ALL * count}
        self.telling |= {photo.source for photo in photos if photo.names}
        known = [word for entry in (SYNONYMS, COMPANIONS) for key, words in entry.items() for word in (key, *words)]
        tags_of_all = [tag for tags in self.used.values() for tag in tags]
        self.words = list(dict.fromkeys([*tags_of_all, *known, *self.names]))
        self.index = {word: i for i, word in enumerate(self.words)}
        self.embeddings = embed_words(self.words, backbone)  # V x C
        # These may be anywhere without a tag: what scenes are made of, and what sources with several tags name.
        several = {tag for source in totals if specific[source] > totals[source] for tag in self.used[source]}
        self.common = {*known, *several, *BROAD}

    def wanted(self, photo: Photo, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """The tags to look for in the picture, either the broad ones or the others, and what may be beside them.

        Of a scene all tags, or at times the full names.
        """
        if photo.names:
            return list(photo.names if rng.random() < FULL_NAMES else photo.tags), []
        worn = not WORN.isdisjoint(photo.tags)
        broad = [tag for tag in photo.tags if tag in BROAD or (tag == "person" and worn)]
        specific = [tag for tag in photo.tags if tag not in broad]
        tags = broad if not specific or (broad and rng.random() < 0.25) else specific
        return tags, self.beside(photo)

    def beside(self, photo: Photo) -> list[str]:
        """What may be in the picture besides its tags; if those tell all, what is behind those who wear it."""
        tags = [tag for tag in photo.tags if tag in WORN or photo.source not in self.telling]
        said = {*photo.tags, *(word for tag in photo.tags for word in SYNONYMS.get(tag, ()))}
        return [word for word in dict.fromkeys(w for tag in tags for w in COMPANIONS.get(tag, ())) if word not in said]

    def absent(self, photo: Photo) -> Tensor:
        """(V,) bool: the words that the picture does not show.

        Either its source tells all it shows and names the word in others of its pictures, or the word belongs to other
        places than its tags do, or nobody names it but sources with a single tag a picture: a thing by itself, not what
        scenes are made of. Of the last, words near in meaning to a tag are left out.
        """
        used, count = self.used[photo.source], self.pictures[photo.source]
        shown = [*photo.tags, *self.beside(photo)]
        said = {word for tag in shown for word in (tag, *SYNONYMS.get(tag, ()))} | {*photo.names}
        elsewhere = {word for tag in photo.tags for word in ELSEWHERE.get(tag, ())}
        near = self.embeddings @ self.embeddings[[self.index[tag] for tag in photo.tags]].T > 0.55
        unlike = (~near.any(dim=1)).tolist()
        names = frozenset(self.names)
        absent = torch.zeros(len(self.words), dtype=torch.bool)
        for i, word in enumerate(self.words):
            if word in said or any(synonym in photo.tags for synonym in SYNONYMS.get(word, ())):
                continue
            if word in names:
                absent[i] = bool(photo.names)
                continue
            named = photo.source in self.telling and used.get(word, 0) > 0.05 * count
            absent[i] = named or word in elsewhere or (unlike[i] and word not in used and word not in self.common)
        return absent

    def rivals(self, photo: Photo, tags: Sequence[str], rng: np.random.Generator) -> list[int]:
        """Indices of the words to tell the tags apart from above all, were they absent: names, if the tags are such."""
        rivals = [word for tag in photo.tags for word in ELSEWHERE.get(tag, ())]
        if photo.source in self.telling:
            rivals += self.used[photo.source]
        if tags and photo.names == tuple(tags):
            rivals += [self.names[i] for i in rng.permutation(len(self.names))[:RIVALS]]
        return [self.index[word] for word in rivals]

    def said_as(self, word: str, rng: np.random.Generator) -> int:
        """Index of the word itself or, at times, of one of its synonyms."""
        others = SYNONYMS.get(word, ())
        return self.index[others[rng.integers(len(others))] if others and rng.random() < 0.4 else word]


def embed_words(words: Sequence[str], backbone: Backbone) -> Tensor:
    """(N, C) unit embeddings, each the mean over the preset's templates."""
    return torch.from_numpy(embed_labels([Label(word) for word in words], TEMPLATES, backbone.encode_text))


def expected_places(beliefs: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(P, N): the share of each of N tags at each of P places, summing to 1 at a place.

    `beliefs` (P, N) are logits. The sum over places of a tag is pulled between `low` and `high` (N,), by turns with the
    sum at each place, as Sinkhorn's algorithm does for equalities.
    """
    shares = beliefs.softmax(dim=1)
    for _ in range(6):
        totals = shares.sum(dim=0).clamp(min=1e-6)
        shares = shares * (low / totals).clamp(min=1) * (high / totals).clamp(max=1)
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares


def heights_of(words: Sequence[str], rows: Tensor) -> Tensor:
    """(P, N): 1 to -1, how well each word goes with how far down the places are; `rows` (P,) 0 (top) to 1."""
    usual = torch.tensor([HEIGHTS.get(word, 0) for word in words], dtype=torch.float32)
    return (1 - 2 * rows)[:, None] * usual


def tag_losses(
    log_probabilities: Tensor,
    rows: Tensor,
    tags: Sequence[str],
    beside: Sequence[str],
    *,
    tells_all: bool,
    lift: float = 0.0,
    falling: float = FALLING,
    slack: float = SLACK,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a picture's tags teach its places.

    `log_probabilities` (P, N) of the tags and the words beside, among all words that take part; `rows` (P,); `lift`
    is what the usual heights weigh. If the tags tell all, each fills about `falling` of what the one before it does,
    give or take a factor `slack`. Returns the loss of places that all have a guess, the loss of the best places alone
    (one of the two is 0), and (P,) how likely each place shows something beside the tags.
    """
    count, places, zero = len(tags), len(rows), torch.zeros(())
    equal = places / (count if tells_all else count + 1)
    if not tells_all and not beside:  # the rest may be anything: each tag claims half of its share
        best = log_probabilities[:, :count].exp().topk(max(1, int(equal / 2)), dim=0).values.mean(dim=0)
        return zero, -best.clamp(min=1e-6).log().mean(), torch.zeros(places)
    low, high = torch.zeros(count + len(beside)), torch.full((count + len(beside),), float(places))
    if tells_all:  # the tag that comes first fills most
        usual = falling ** torch.arange(count)
        usual *= places * (FIGURE if beside else 1) / usual.sum()
        low[:count], high[:count] = usual / slack, usual * slack
    else:
        low[:count] = equal / 2
    with torch.no_grad():
        usual_heights = heights_of([*tags, *beside], rows)
        unsure = torch.tensor([False] * count + [word in UNSURE for word in beside])
        usual_heights[:, unsure] = usual_heights[:, unsure].clamp(max=0)
        guess = expected_places(1.5 * log_probabilities + lift * usual_heights, low, high)
    weight = 1.0 if tells_all else 0.6
    return -weight * (guess * log_probabilities).sum(dim=1).mean(), zero, guess[:, count:].sum(dim=1)


def train(
    pictures: Path,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    start: Path,
    resume: bool,
    size: int,
    scenes: SceneCache | None = None,
) -> None:
    """Train on the folder `pictures` (see toyworld.photos) from the open_clip local-dir `start`; writes weights/photo.

    `size`: px of the photographs' shorter side, at most; `scenes`: of the toy world, to learn from as well. ValueError
    if the image tower of `start` is no EfficientNet of timm.
    """
    backbone = load_backbone(OvsegConfig(model=f"local-dir:{start}"), device="cpu")
    for name in ("conv_head", "bn2", "classifier"):
        if not hasattr(getattr(backbone.model.visual, "trunk", None), name):
            raise ValueError(f"the image tower of {start} has no {name}, expected one of timm's EfficientNets")
    photos = read_photos(pictures)
    if scenes is not None:
        photos += scene_photos(run / "scenes", scenes)
    log.info("%d pictures to train on", len(photos))
    teach = teacher(backbone, start)
    cache = feature_cache(run / f"features-{size}", photos, size, backbone.patch_hw[0], encoder(backbone, teach))
    learn(photos, cache, backbone, schedule, run, resume=resume)
    save(backbone.model, start, weights / "photo")


def learn(
    photos: Sequence[Photo], cache: FeatureCache, backbone: Backbone, schedule: Schedule, run: Path, *, resume: bool
) -> None:
    """Train the head of the backbone's model in place; picture i of `photos` has the feature map i of `cache`."""
    model = backbone.model
    name_embeddings = embed_words(class_names(), backbone)
    words = Words(photos, backbone)
    captions = sorted({photo.caption for photo in photos if photo.caption})
    caption_index = {caption: i for i, caption in enumerate(captions)}
    caption_embeddings = torch.from_numpy(backbone.encode_text(captions)) if captions else None
    learners = [i for i in range(len(photos)) if i % KEPT_ASIDE]
    by_source: dict[str, list[int]] = {}
    for i in learners:
        by_source.setdefault(photos[i].source, []).append(i)
    sources = list(by_source)
    # Large sources must not drown small ones; pictures that tell all they show teach most.
    odds = np.array([len(by_source[s]) ** 0.5 * (3 if s in words.telling else 1) for s in sources])
    odds /= odds.sum()
    absent: dict[int, Tensor] = {}
    head = Head(model).requires_grad_(True)

    def places_of(index: int, limit: int, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Some places of a picture, as rows of the cache, and how far down they are, 0 to 1."""
        height, width = cache.grids[index]
        chosen = np.sort(rng.permutation(height * width)[:limit])
        return cache.starts[index] + chosen, torch.from_numpy((chosen // width + 0.5) / height).float()

    def compute_losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(generators(5, step)[0])
        picked = [by_source[sources[s]] for s in rng.choice(len(sources), BATCH, p=odds)]
        batch = [indices[rng.integers(len(indices))] for indices in picked]
        places, rows = zip(*(places_of(i, PLACES, rng) for i in batch), strict=True)
        at = np.concatenate(places)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = head(torch.from_numpy(cache.features[at]).float())  # P x C
        scale = head.logit_scale.exp().clamp(max=60)
        lift = LIFT / (1 + step / LIFT_STEPS)  # it breaks the tie at first; then looks decide
        tried = torch.from_numpy(rng.permutation(len(words.words))[:NEGATIVES])
        parts: dict[str, list[Tensor]] = {"all_places": [], "best_places": [], "captions": []}
        others = torch.zeros(len(at)).split([len(down) for down in rows])  # how likely a place shows no tag
        for i, down, own, other in zip(batch, rows, embeddings.split([len(d) for d in rows]), others, strict=True):
            photo = photos[i]
            if photo.caption and caption_embeddings is not None:
                fits = scale * own @ caption_embeddings.T  # P x captions
                pooled = (fits.softmax(dim=0) * fits).sum(dim=0)
                parts["captions"].append(F.cross_entropy(pooled, torch.tensor(caption_index[photo.caption])))
            if not photo.tags:
                continue
            if i not in absent:
                absent[i] = words.absent(photo)
            tags, beside = words.wanted(photo, rng)
            told = torch.tensor([*(words.said_as(tag, rng) for tag in tags), *(words.index[w] for w in beside)])
            against = torch.cat([torch.tensor(words.rivals(photo, tags, rng), dtype=torch.long), tried]).unique()
            among = torch.cat([told, against[absent[i][against]]])
            logs = (scale * own @ words.embeddings[among].T).log_softmax(dim=1)[:, : len(told)]
            tells_all = photo.source in words.telling
            sizes = {"falling": SCENE_FALLING, "slack": SCENE_SLACK} if photo.names else {}
            everywhere, best, seen_beside = tag_losses(
                logs, down, tags, beside, tells_all=tells_all, lift=lift, **sizes
            )
            other += 1 if photo.names else seen_beside  # what the teacher sees in drawings is not worth learning
            parts["all_places"].append(everywhere)
            parts["best_places"].append(best)
        weight = {"all_places": 1.0, "best_places": 1.0, "captions": 0.1}
        # Of a whole object the teacher sees much around it too: what shows something else does not learn from it.
        probabilities = torch.from_numpy(cache.probabilities[at]).float()
        sure = (probabilities[:, 0].clamp(min=0.05) * (1 - torch.cat(others)).clamp(0.02, 1)).double().numpy()
        taught = torch.from_numpy(rng.choice(len(at), min(TAUGHT, len(at)), replace=False, p=sure / sure.sum()))
        likely = torch.from_numpy(cache.classes[at]).long()[taught]
        seen = (scale * embeddings[taught] @ name_embeddings.T).log_softmax(dim=-1).gather(1, likely)
        losses = {"teacher": -(probabilities[taught] * seen).sum(dim=1).mean()}
        zero = torch.zeros(())
        return losses | {name: weight[name] * torch.stack([zero, *some]).sum() / BATCH for name, some in parts.items()}

    aside = [i for i in range(0, len(photos), KEPT_ASIDE) if photos[i].tags]
    tags_of_all = [i for i, word in enumerate(words.words) if any(word in used for used in words.used.values())]

    @torch.inference_mode()
    def validate(averaged: Head) -> dict[str, float]:
        """Of pictures kept aside: how often the word that most places choose, among all tags, is one of its own."""
        hits = []
        for i in aside:
            at = slice(cache.starts[i], cache.starts[i + 1])
            embeddings = averaged(torch.from_numpy(np.asarray(cache.features[at], np.float32)))
            votes = (embeddings @ words.embeddings[tags_of_all].T).argmax(dim=1).bincount()
            hits.append(words.words[tags_of_all[int(votes.argmax())]] in photos[i].tags)
        return {"tag_found": float(np.mean(hits)) if hits else float("nan")}

    averaged = fit(head, compute_losses, validate, schedule, run, resume=resume)
    head.load_state_dict(averaged.state_dict())


def teacher(backbone: Backbone, start: Path) -> Teacher:
    """The tower's own classifier if it lies in `start`, else the model as it is now."""
    if (start / CLASSIFIER_FILE).is_file():
        state = load_file(start / CLASSIFIER_FILE)
        return lambda features: F.linear(features, state["weight"].float(), state["bias"].float())
    projection = backbone.model.visual.trunk.classifier
    weight, bias = projection.weight.detach().clone(), projection.bias.detach().clone()
    embeddings, scale = embed_words(class_names(), backbone), backbone.logit_scale
    return lambda features: scale * F.normalize(F.linear(features, weight, bias), dim=-1) @ embeddings.T


def class_names() -> list[str]:
    """The thousand classes of ImageNet-1k in order, each by the first of its names."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]


def encoder(backbone: Backbone, teach: Teacher) -> Encode:
    """The tower up to its head, and what the teacher sees at each place."""
    trunk = backbone.model.visual.trunk
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))

    def encode(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = (torch.tensor(rgb).permute(2, 0, 1) / 255 - mean) / std
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            features = trunk.blocks(trunk.bn1(trunk.conv_stem(pixels[None].to(memory_format=torch.channels_last))))
            last = trunk.bn2(trunk.conv_head(features))[0].flatten(1).T.float()
        with torch.inference_mode():
            likely = teach(last).softmax(dim=-1).topk(TEACHER_CLASSES)
        rows = features[0].flatten(1).T.half().contiguous()
        return rows.numpy(), likely.indices.short().numpy(), likely.values.half().numpy()

    return encode


def save(model: Any, start: Path, folder: Path) -> None:
    """Write the model as an open_clip local-dir in float16, with the tokenizer and text config of `start`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    for path in start.iterdir():
        if path.suffix in (".json", ".txt"):
            shutil.copyfile(path, folder / path.name)
