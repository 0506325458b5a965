"""Imagined places: the classifier is sure of them, they are called what their classes are, and the head learns them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny_ovseg import save_with_bert

from training.free.names import Nouns
from training.imagined import EACH, Imagined, ImaginedLesson, imagine
from training.photo_clip import CLASSIFIER_FILE
from training.tower_model import load_tower
from training.tower_words import Words

VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64}
# A dog, which is an animal, in the format of wndb(5).
DATA = """00000010 03 n 01 animal 0 000 | a living organism
00000020 05 n 02 dog 0 domestic_dog 0 001 @ 00000010 n 0000 | a canine
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    save_with_bert(folder, VISION)
    width = load_tower(folder).visual.trunk.conv_head.out_channels
    random = torch.Generator().manual_seed(0)
    save_file({"weight": torch.randn(5, width, generator=random), "bias": torch.zeros(5)}, folder / CLASSIFIER_FILE)
    return folder


def words(width: int) -> Words:
    embeddings = F.normalize(torch.randn(6, width, generator=torch.Generator().manual_seed(1)), dim=1)
    similar = torch.eye(3, dtype=torch.bool)
    return Words(("dog", "animal", "sky"), (), embeddings[:3], embeddings[3:], similar, torch.zeros(0, 3) > 0)


def test_the_classifier_is_surer_of_imagined_places_than_of_real_ones(start) -> None:
    trunk = load_tower(start).visual.trunk
    real = torch.randn(300, trunk.conv_head.in_channels, generator=torch.Generator().manual_seed(2))
    made = imagine(start, real)
    assert torch.equal(made.classes.bincount(), torch.full((5,), EACH))
    weight = torch.randn(5, trunk.conv_head.out_channels, generator=torch.Generator().manual_seed(0))

    def sure(features: torch.Tensor) -> float:
        with torch.no_grad():
            hidden = trunk.bn2(trunk.conv_head(features[:, :, None, None])).flatten(1)
        return float((hidden @ weight.T).softmax(dim=1).gather(1, made.classes[:, None]).mean())

    assert sure(made.features) > sure(real[: len(made.features)]) + 0.1
    assert torch.equal(imagine(start, real).features, made.features)


def test_names_and_what_covers_them_do_not_compete() -> None:
    """A head that finds the dog pays nothing for the animal, which covers it."""
    known = words(32)
    lesson = ImaginedLesson(
        Imagined(torch.zeros(4, 8), torch.zeros(4, dtype=torch.int64), torch.zeros(8, 8)), known, [("dog", "animal")]
    )
    assert lesson.near == [[0]]  # animal is too broad to be told apart
    among = [0, 3]  # its word and its name, each of which is at times asked for
    both = F.normalize(known.embeddings[0] + known.names[0], dim=0)
    loss = lesson.loss(lambda of: both.expand(len(of), 1, -1), torch.tensor(40.0), np.random.default_rng(0))
    others = lesson.embeddings @ both
    assert float(others[among].min()) > float(others[[2, 4, 5]].max())
    assert 0 <= float(loss) < 2


def test_wordnet_gives_words_and_what_is_above_them(tmp_path: Path) -> None:
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text("animal n 1 0 1 1 00000010\ndog n 1 1 @ 1 1 00000020\n")
    nouns = Nouns(tmp_path)
    assert nouns.chain(20) == [20, 10]
    assert nouns.words[20] == ["dog", "domestic dog"]
