"""Places that nobody photographed: features that an image tower's own classifier is sure of, and what they are called.

The classifier has seen photographs of a thousand kinds of things; its weights say where in the space of features they
lie. From features of real places we climb to where it is sure of a class, without going far, as the covariance of real
places counts it. What they are called says WordNet: the words of the class and what is above them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from training.free.names import Nouns, listed
from training.photo_clip import CLASSIFIER_FILE
from training.photo_tags import SIMILAR
from training.tower_model import load_tower
from training.tower_words import Words

EACH = 3  # imagined places of a class
STEPS, RATE, MOMENTUM = 25, 0.5, 0.7  # of the climb
# How likely the class need be, as a logarithm; how much of a real place is kept, and the weight of what is left of it.
SURE, KEPT, NEARNESS = -0.2, 0.7, 0.03
FAINTEST = 1e-4  # of the largest variance; directions that vary less count as if they varied so much
# Words that cover too much to be told apart from others.
TOO_BROAD = frozenset(
    listed(
        "thing, object, whole, unit, instrumentality, animal, device, artifact, matter, food, clothing, vehicle, "
        "machine, equipment, structure, furniture, container, cover, covering, organism, plant, fruit"
    )
)
NEAREST = 2  # words of a class that it goes by, beside its name
# Places a step, how often each goes by the name of its class, and what is added, as a share of how real places vary.
DRAWN, OWN_NAME, NOISE = 96, 0.34, 0.4
NEVER = -1e4  # a logit of no probability, small enough and finite


@dataclass(frozen=True, eq=False)
class Imagined:
    """M places of the features of a trunk."""

    features: Tensor  # (M, D)
    classes: Tensor  # (M,) int64
    spread: Tensor  # (D, D): the root of the covariance of real places


def imagine(start: Path, features: Tensor, seed: int = 0) -> Imagined:
    """Some places of each class of the classifier that lies in the folder `start`, from real places (N, D)."""
    tower, state = load_tower(start), load_file(start / CLASSIFIER_FILE)
    head = nn.Sequential(tower.visual.trunk.conv_head, tower.visual.trunk.bn2)
    weight, bias = state["weight"].float(), state["bias"].float()
    mean = features.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov(features.T).double())
    spreads = values.clamp(min=FAINTEST * values.max()).sqrt()
    root, inverse = ((vectors * of @ vectors.T).float() for of in (spreads, 1 / spreads))
    classes = torch.arange(len(weight)).repeat(EACH)
    drawn = torch.randint(len(features), (len(classes),), generator=torch.Generator().manual_seed(seed))
    real = (features[drawn] - mean) @ inverse
    white, speed = real.clone().requires_grad_(True), torch.zeros_like(real)
    for _ in range(STEPS):
        hidden = head((mean + white @ root)[:, :, None, None]).flatten(1)
        sure = F.linear(hidden, weight, bias).log_softmax(dim=1).gather(1, classes[:, None])
        loss = -sure.clamp(max=SURE).sum() + NEARNESS / 2 * (white - KEPT * real).square().sum()
        (slope,) = torch.autograd.grad(loss, white)
        with torch.no_grad():
            speed = MOMENTUM * speed + slope
            white -= RATE * speed
    return Imagined(mean + white.detach() @ root, classes, root)


class ImaginedLesson:
    """Imagined places, a step at a time, each by the name of its class or by a word for it."""

    def __init__(self, imagined: Imagined, words: Words, classes: Sequence[tuple[str, ...]]) -> None:
        """`classes`: what of the labels of `words` names each class, the nearest first; see `words_of_classes`."""
        self.imagined, self.count = imagined, len(words.labels)
        self.embeddings = torch.cat([words.embeddings, words.names])  # V + K
        self.similar = self.embeddings @ self.embeddings.T > SIMILAR
        self.similar[: self.count, : self.count] |= words.similar
        self.covering = [[words.index[word] for word in named] for named in classes]
        self.near = [[words.index[word] for word in named if word not in TOO_BROAD][:NEAREST] for named in classes]

    def loss(self, head: Callable[[Tensor], Tensor], scale: Tensor, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of some imagined places with what they are called, among all that is not near in meaning."""
        at = torch.from_numpy(rng.choice(len(self.imagined.classes), DRAWN))
        noise = torch.from_numpy(rng.standard_normal((DRAWN, len(self.imagined.spread)), np.float32))
        features = self.imagined.features[at] + NOISE * noise @ self.imagined.spread
        targets = []
        among = torch.ones(DRAWN, len(self.embeddings), dtype=torch.bool)
        for row, index in zip(among, self.imagined.classes[at].tolist(), strict=True):
            near, name = self.near[index], self.count + index
            target = name if not near or rng.random() < OWN_NAME else near[int(rng.integers(len(near)))]
            row &= ~(self.similar[target] | self.similar[name])
            row[self.covering[index]] = False
            row[target] = True
            targets.append(target)
        places = head(features[:, :, None, None])[:, 0]
        logits = scale * places @ self.embeddings.T
        return F.cross_entropy(logits.masked_fill(~among, NEVER), torch.tensor(targets))


def words_of_classes(wordnet: Path, labels: Collection[str]) -> list[tuple[str, ...]]:
    """Those of `labels` that name each class of ImageNet-1k, or what WordNet has above it, the nearest first."""
    from timm.data import ImageNetInfo

    info, nouns = ImageNetInfo("imagenet-1k"), Nouns(wordnet)
    found = []
    for index in range(info.num_classes()):
        synset = info.index_to_label_name(index)  # such as n02085620
        words = [word for above in nouns.chain(int(synset[1:])) for word in nouns.words.get(above, ())]
        found.append(tuple(dict.fromkeys(word for word in words if word in labels)))
    return found
