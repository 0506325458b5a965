"""The head's trainer: it learns what the label maps say, on features of the trunk, and leaves all else as it was."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny_adapt import save_images, save_label_maps
from tiny_ovseg import save_with_bert

from training import map_head
from training.hardware import CPU
from training.map_head import MOST_WEIGHT, Head, Rarity, Recipe, Seen, learn, look
from training.tower_folder import prepare_maps
from training.tower_lessons import Mapped
from training.tower_model import load_tower
from training.tower_teaching import Eyes
from training.tower_words import Words

NOTHING = torch.zeros(0)
MAPPED = Mapped(NOTHING, NOTHING, torch.zeros(2, 1, 1), NOTHING, NOTHING, np.ones(1))
VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    save_with_bert(folder, VISION)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten images of each of two sources with label maps: a cat, and an unknown part; all of road."""
    folder = tmp_path_factory.mktemp("images")
    rows = [f"images/{source}/{index:02}.png,cat," for source in ("pets", "streets") for index in range(10)]
    save_images(folder, [row.split(",")[0] for row in rows], (48, 48))
    (folder / "captions.csv").write_text("\n".join(["path,tags,caption", *rows]) + "\n")
    for source, name, right in (("pets", "cat", 255), ("streets", "road", 0)):
        truth = np.repeat(np.array([[0, right]], np.uint8), 24, axis=1).repeat(48, axis=0)
        save_label_maps(folder, source, [name], truth)
    (folder / "broader.csv").write_text("label,broader\ncat,animal\n")
    return folder


def test_the_head_is_the_end_of_the_tower(start) -> None:
    tower = load_tower(start, 32)
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        trunk = tower.visual.trunk
        features = trunk.blocks(trunk.bn1(trunk.conv_stem(pixels)))
        torch.testing.assert_close(Head(tower)(features), tower(pixels), atol=1e-5, rtol=1e-4)


def test_images_of_each_kind_are_drawn_by_lot_with_their_labels(tmp_path, images, start) -> None:
    words, mapped, kinds = prepare_maps(images, [(("pets",), 4), (("streets",), 99)], tmp_path, start)
    assert [len(kind) for kind in kinds] == [4, 9]
    assert {"cat", "animal", "road"} <= set(words.labels)
    index = words.index
    assert (mapped.labels[0, kinds[0], 0] == index["cat"]).all() and (
        mapped.labels[1, kinds[0], 0] == index["animal"]
    ).all()
    assert (mapped.labels[:, kinds[1], 0] == index["road"]).all()
    seen = look(load_tower(start, 32), Eyes(start, 64, CPU), mapped)
    assert seen.features.shape[0] == 13 and seen.features.shape[2:] == (2, 2) and seen.regions.shape == (13, 4, 4)


def test_places_come_to_be_what_their_regions_are_called(start) -> None:
    head = Head(load_tower(start, 32))
    random = torch.Generator().manual_seed(0)
    count, width = 6, head.conv.in_channels
    features = torch.randn(2, width, 1, 1, generator=random)[torch.arange(count) % 2].expand(-1, -1, 2, 2)
    labels = torch.full((2, count, 256), -1)
    labels[:, :, 0] = torch.arange(count) % 2
    seen = Seen(features.half(), torch.zeros(count, 4, 4, dtype=torch.uint8), labels)
    embeddings = F.normalize(torch.randn(9, head.projection.out_features, generator=random), dim=1)
    words = Words(tuple("abcdefghi"), (), embeddings, embeddings, torch.eye(9, dtype=torch.bool), torch.zeros(0, 9) > 0)
    learn(head, seen, [np.arange(3), np.arange(3, 6)], words, Recipe(40))
    with torch.no_grad():
        chosen = (head(seen.features.float()) @ embeddings.T).argmax(dim=-1)
    assert torch.equal(chosen, labels[0, :, :1].expand(-1, 4))


def test_rare_labels_are_looked_at_more_often_and_count_more() -> None:
    regions = torch.zeros(9, 4, 4, dtype=torch.uint8)
    regions[8, 0, 0] = 1  # a ninth of the views shows a little of label 1, and nothing else has a label there
    labels = torch.full((2, 9, 256), -1)
    labels[:, :, 0], labels[:, 8, 1] = 0, 1
    seen, kind = Seen(torch.zeros(9, 1, 2, 2), regions, labels), np.arange(9)
    odds, weights = Rarity.of(seen, [kind], 3, rare=4 / 9)
    np.testing.assert_allclose(odds[0] / odds[0][0], [1] * 8 + [2])  # the root of 4/9 over 1/9
    assert weights[1] == MOST_WEIGHT and weights[0] < 1 and weights[2] == 1  # nothing is known of the last
    odds, weights = Rarity.of(seen, [kind], 3, rare=0)
    np.testing.assert_allclose(odds[0], 1 / 9)
    assert (weights == 1).all()


def test_what_is_beside_counts_as_much_as_is_asked(start) -> None:
    random = torch.Generator().manual_seed(0)
    head = Head(load_tower(start, 32))
    features = torch.randn(4, head.conv.in_channels, 2, 2, generator=random).half()
    labels = torch.full((2, 4, 256), -1)
    labels[:, :, 0] = torch.tensor([0, 0, 1, 1])
    seen = Seen(features, torch.zeros(4, 4, 4, dtype=torch.uint8), labels)
    embeddings = F.normalize(torch.randn(2, head.projection.out_features, generator=random), dim=1)
    words = Words(("a", "b"), (), embeddings, embeddings, torch.eye(2, dtype=torch.bool), torch.zeros(0, 2) > 0)
    heads = {}
    for weight, kinds in ((0.0, 1), (0.0, 2), (1.0, 2)):
        head = Head(load_tower(start, 32))
        learn(head, seen, [np.arange(2), np.arange(2, 4)][:kinds], words, Recipe(12, beside=weight))
        heads[weight, kinds] = [parameter.detach().clone() for parameter in head.parameters()]
    alone, without, beside = heads.values()
    assert all(torch.equal(one, other) for one, other in zip(alone, without, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(alone, beside, strict=True))


def test_the_command_writes_a_model_with_another_head_alone(tmp_path, images, start, monkeypatch) -> None:
    def move(head: Head, *_: object) -> None:
        with torch.no_grad():
            head.projection.bias += 1

    monkeypatch.setattr(map_head, "SIDE", 64)
    monkeypatch.setattr(map_head, "learn", move)
    monkeypatch.setattr(map_head, "prepare_maps", lambda *_: (None, MAPPED, []))
    monkeypatch.setattr(map_head, "look", lambda *_: Seen(torch.zeros(1, 2), torch.zeros(1), MAPPED.labels))
    output, run = tmp_path / "out", tmp_path / "run"
    run.mkdir()
    options = ["--images", str(images), "--maps", "streets", "--part", "0.5", "--run", str(run)]
    monkeypatch.setattr(sys, "argv", ["map_head", str(start), str(output), *options])
    map_head.main()
    old, new = (load_file(folder / "open_clip_model.safetensors") for folder in (start, output))
    moved = [name for name in old if not torch.equal(old[name].half(), new[name])]
    assert moved == ["visual.trunk.classifier.bias"]
    torch.testing.assert_close(new[moved[0]].float(), old[moved[0]].float() + 0.5, atol=1e-3, rtol=0)


def test_sources_that_are_not_there_are_named(tmp_path, images, start) -> None:
    with pytest.raises(ValueError, match="no images of cellars"):
        prepare_maps(images, [(("cellars",), 4)], tmp_path, start)


def test_a_start_without_weights_is_refused(tmp_path, images, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["map_head", str(tmp_path), "out", "--images", str(images), "--maps", "pets"])
    with pytest.raises(SystemExit):
        map_head.main()
    assert "expected an open_clip local-dir" in capsys.readouterr().err
