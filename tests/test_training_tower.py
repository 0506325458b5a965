"""The image tower's trainer: its losses are those of one image at a time, and what it writes is a CLIP."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_adapt import save_images, save_label_maps
from tiny_ovseg import save_with_bert
from torch import Tensor

from ovseg import OpenVocabSegmenter, OvsegConfig
from training import photo_tags, tower, tower_losses
from training.data import scene_cache
from training.tower_folder import prepare
from training.tower_lessons import TagDraw
from training.tower_model import HEAD, average, fold, put_together, save_overlay
from training.tower_views import Drawn, draw_views, seen, seen_regions
from training.tower_words import TagSet, Words

VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    save_with_bert(folder, VISION)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten noise images with tags of each of two sources, and ten composites: cat, grass and an unknown rest."""
    folder = tmp_path_factory.mktemp("images")
    rows = [
        f"images/{source}/{index:02}.png,{tags},"
        for source, tags in (("streets", "road;building;sky;tree"), ("pets", "cat"), ("composites", "cat;grass"))
        for index in range(10)
    ]
    save_images(folder, [row.split(",")[0] for row in rows], (60, 40))
    (folder / "captions.csv").write_text("\n".join(["path,tags,caption", *rows]) + "\n")
    truth = np.repeat(np.array([[0, 1, 255]], np.uint8), [30, 20, 10], axis=1).repeat(40, axis=0)
    save_label_maps(folder, "composites", ["cat", "grass"], truth)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scene_cache(tmp_path_factory.mktemp("scenes"), 0, 4)


def drawn(count: int, aspect: float = 1.0, smallest: float = 0.5) -> Drawn:
    return Drawn(torch.arange(count), np.full(count, aspect), np.full(count, smallest))


def test_a_still_view_of_a_square_is_the_image() -> None:
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    view = draw_views(drawn(2), np.random.default_rng(0), CPU, still=True)
    torch.testing.assert_close(seen(images, view, 32), images.permute(0, 3, 1, 2) / 255)
    assert torch.equal(seen_regions(images[..., 0], view, 32), images[..., 0].long())
    torch.testing.assert_close(view.rows(4), torch.tensor([[0.125, 0.375, 0.625, 0.875]]).expand(2, 4))


def test_views_lie_within_the_image_and_are_nearly_as_wide_as_high() -> None:
    view = draw_views(drawn(200, aspect=1.5), np.random.default_rng(0), CPU)
    halves, centres = view.boxes[:, [0, 1], [0, 1]].abs(), view.boxes[..., 2]
    assert (centres.abs() + halves).max() <= 1 + 1e-6
    width_to_height = halves[:, 0] * 1.5 / halves[:, 1]
    assert 1 / 1.3 - 1e-5 <= width_to_height.min() < 0.9 < 1.1 < width_to_height.max() <= 1.3 + 1e-5
    assert halves[:, 1].min() >= 0.5 - 1e-5


LABELS = ("road", "sky", "tree", "cat", "grass", "dog", "wall")


def words(*sets: TagSet) -> Words:
    embeddings = torch.nn.functional.normalize(torch.randn(7, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    negatives = torch.zeros(len(sets), 7, dtype=torch.bool)
    negatives[:, 5:] = True
    return Words(LABELS, sets, embeddings, embeddings[:3], torch.eye(7, dtype=torch.bool), negatives)


def test_the_losses_of_tags_are_those_of_the_images_one_by_one() -> None:
    """A source that is tagged in full, one whose tag has companions, and one whose tag has none."""
    known = words(
        TagSet("streets", (0, 1, 2), (), (), True),
        TagSet("pets", (3,), (), (4, 1), False),
        TagSet("x", (5,), (), (), False),
    )
    known = replace(known, negatives=known.negatives & (torch.arange(7) == 6))
    labels = torch.tensor([[0, 1, 2], [3, 4, 1], [5, -1, -1]])
    companions = torch.tensor([[False] * 3, [False, True, True], [False] * 3])
    heights, unsure = torch.from_numpy(known.heights[labels]), torch.from_numpy(known.unsure[labels]) & companions
    sets, exhaustive = torch.arange(3), torch.tensor([True, False, False])
    draw = TagDraw(sets, np.ones(3), np.ones(3), sets, labels, companions, exhaustive, heights, unsure)
    view = draw_views(draw, np.random.default_rng(0), CPU, still=True)
    places = torch.nn.functional.normalize(torch.randn(3, 16, 8, generator=torch.Generator().manual_seed(2)), dim=2)
    guess = tower_losses.tag_losses(torch.tensor(9.0), places, draw, view, known, 1.5)

    rows = ((torch.arange(4) + 0.5) / 4).repeat_interleave(4)
    expected: list[tuple[Tensor, Tensor, Tensor]] = []
    for own, of in zip(places, known.sets, strict=True):
        positives = [*of.specific, *of.companions]
        among = torch.tensor([*positives, 6])
        logs = (9.0 * own @ known.embeddings[among].T).log_softmax(dim=1)[:, : len(positives)]
        tags, others = ([LABELS[i] for i in some] for some in (of.specific, of.companions))
        expected.append(photo_tags.tag_losses(logs, rows, tags, others, exhaustive=of.exhaustive, lift=1.5))
    everywhere, best, untagged = (torch.stack(some) for some in zip(*expected, strict=True))
    torch.testing.assert_close(guess.all_places, everywhere.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guess.best_places, best.mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guess.untagged, untagged, rtol=1e-4, atol=1e-5)


def test_labels_near_in_meaning_do_not_compete_unless_their_source_tells_them_apart() -> None:
    similar = torch.eye(4, dtype=torch.bool)
    similar[0, 1] = similar[1, 0] = True
    labels, none = torch.tensor([[0, -1]]), torch.zeros(1, 4, dtype=torch.bool)
    assert tower_losses.taking_part(labels, none, similar).tolist() == [[True, False, True, True]]
    closed = torch.tensor([[False, True, False, False]])
    assert tower_losses.taking_part(labels, closed, similar).tolist() == [[True] * 4]


def test_the_loss_of_label_maps_takes_places_by_their_regions_and_leaves_out_the_unknown() -> None:
    embeddings = torch.eye(3)
    regions = torch.tensor([[[0, 0, 1, 1]] * 2 + [[0, 0, 2, 2]] * 2])  # 2 x 2 places, the last unknown
    places, labels, among = (
        embeddings[torch.tensor([[0, 2, 0, 1]])],
        torch.tensor([[0, 2, -1]]),
        torch.ones(1, 3, dtype=torch.bool),
    )
    loss = tower_losses.map_loss(torch.tensor(50.0), places, regions, labels, among, embeddings)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    # Of 8 and 4 pixels that are known the first 8 are right; the others, wrong by 50, weigh 4 / √4 of 8 / √8 + 4 / √4.
    wrong = embeddings[torch.tensor([[0, 1, 0, 1]])]
    loss = tower_losses.map_loss(torch.tensor(50.0), wrong, regions, labels, among, embeddings)
    assert loss.item() == pytest.approx(50 * 2 / (2 + 8**0.5), rel=1e-4)


def train(
    images: Path, folder: Path, start: Path, scenes: object = None, minutes: float = 1e-4, **settings: object
) -> None:
    schedule = replace(tower.SCHEDULE, minutes=minutes)
    given = {"start": start, "resume": False, "maps": ("composites",), "batch": (3, 2), "side": 64} | settings
    tower.train(images, schedule, folder / "run", folder / "weights", scenes=scenes, **given)


def test_training_moves_the_image_tower_alone_and_writes_a_clip(tmp_path, images, start, scenes) -> None:
    train(images, tmp_path, start, scenes)
    before, after = (
        load_file(folder / "open_clip_model.safetensors") for folder in (start, tmp_path / "weights/tower")
    )
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name].half(), after[name])}
    assert moved and all(name.startswith("visual.") or name == "logit_scale" for name in moved)
    config = OvsegConfig(model=f"local-dir:{tmp_path / 'weights/tower'}", image_size=64, output_stride=16)
    coarse = OpenVocabSegmenter.from_config(config).segment(np.zeros((64, 96, 3), np.uint8), ["cat", "grass"])
    assert coarse.embeddings.shape[1:] == (4, 6)


def test_regions_of_composites_go_by_broader_words_too_which_do_not_compete(tmp_path, images, start) -> None:
    (images / "broader.csv").write_text("label,broader\ncat,animal;mammal\n")
    try:
        words, _, mapped = prepare(images, ("composites",), tmp_path / "run", start, None)
    finally:
        (images / "broader.csv").unlink()
    named = [[words.labels[i] for i in way[row][:2]] for row in (0, 1) for way in mapped.labels]
    assert named == [["cat", "grass"], ["animal", "grass"], ["cat", "grass"], ["mammal", "grass"]]
    assert all(words.similar[words.index["cat"], words.index[other]] for other in ("cat", "animal", "mammal"))
    assert mapped.labels[0, 0, mapped.regions[0, 0, -1].long()] == -1


def test_the_head_learns_alone_where_the_trunk_is_to_stay(tmp_path, images, start) -> None:
    train(images, tmp_path, start, head_only=True)
    before, after = (
        load_file(folder / "open_clip_model.safetensors") for folder in (start, tmp_path / "weights/tower")
    )
    moved = {name for name in before if not torch.equal(before[name].half(), after[name])}
    assert moved and all(name.split(".")[2] in HEAD for name in moved - {"logit_scale"})


def test_with_its_words_at_hand_a_run_needs_no_text_tower(tmp_path, images, start) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in start.glob("*.json"):
        (alone / path.name).write_bytes(path.read_bytes())
    state = load_file(start / "open_clip_model.safetensors")
    visual = {name: tensor for name, tensor in state.items() if name.startswith(("visual.", "logit_scale"))}
    save_file(visual, alone / "open_clip_model.safetensors")
    prepare(images, ("composites",), tmp_path / "run", start, None)
    train(images, tmp_path, alone)
    assert load_file(tmp_path / "weights/tower/open_clip_model.safetensors").keys() == visual.keys()
    put_together(tmp_path / "weights/tower", start, tmp_path / "whole")
    whole = load_file(tmp_path / "whole/open_clip_model.safetensors")
    assert whole.keys() == state.keys()
    name = next(name for name in visual if name.endswith("weight"))
    assert torch.equal(whole[name], load_file(tmp_path / "weights/tower/open_clip_model.safetensors")[name])


def test_words_of_other_images_and_sources_that_are_not_there_are_refused(tmp_path, images, start) -> None:
    prepare(images, ("composites",), tmp_path / "run", start, None)
    with pytest.raises(ValueError, match="holds the words of other images"):
        prepare(images, (), tmp_path / "run", start, None)
    with pytest.raises(ValueError, match="no images of collages"):
        prepare(images, ("collages",), tmp_path / "run", start, None)


def test_an_average_lies_between_two_models_and_leaves_what_they_share_as_it_is(tmp_path, start) -> None:
    state = load_file(start / "open_clip_model.safetensors")
    moved, other = tmp_path / "moved", tmp_path / "other"
    eighths = {"visual.trunk.conv_stem.weight": state["visual.trunk.conv_stem.weight"].to(torch.float8_e4m3fn)}
    shutil.copytree(start, tmp_path / "first")
    save_file(state | eighths, tmp_path / "first/open_clip_model.safetensors")
    for folder, weights in ((moved, state | eighths | {"logit_scale": state["logit_scale"] + 1}), (other, eighths)):
        folder.mkdir()
        save_file(weights, folder / "open_clip_model.safetensors")
    average(tmp_path / "first", moved, 0.25, tmp_path / "between")
    between = load_file(tmp_path / "between/open_clip_model.safetensors")
    assert between.keys() == state.keys()
    torch.testing.assert_close(between["logit_scale"], state["logit_scale"] + 0.25)
    for name, tensor in (state | eighths).items():
        assert between[name].dtype == tensor.dtype
        assert name == "logit_scale" or torch.equal(between[name].float(), tensor.float())
    with pytest.raises(ValueError, match="differ in architecture"):
        average(start, other, 0.5, tmp_path / "another")
    assert not (tmp_path / "another").exists()


def test_an_overlay_is_what_differs(tmp_path, start) -> None:
    state = load_file(start / "open_clip_model.safetensors")
    changed, other = tmp_path / "changed", tmp_path / "other"
    for folder, weights in (
        (changed, state | {"logit_scale": state["logit_scale"] + 1}),
        (other, {"a": state["logit_scale"]}),
    ):
        folder.mkdir()
        save_file(weights, folder / "open_clip_model.safetensors")
    save_overlay(changed, start, tmp_path / "overlay.safetensors")
    assert load_file(tmp_path / "overlay.safetensors") == {"logit_scale": state["logit_scale"] + 1}
    fold(start, tmp_path / "overlay.safetensors", tmp_path / "folded")  # and laid over, it is the model again
    folded = load_file(tmp_path / "folded/open_clip_model.safetensors")
    assert folded.keys() == state.keys() and folded["logit_scale"] == state["logit_scale"] + 1
    assert all(torch.equal(folded[name], state[name]) for name in state if name != "logit_scale")
    assert (tmp_path / "folded/tokenizer.json").read_bytes() == (start / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match="differ in architecture"):
        save_overlay(other, start, tmp_path / "overlay.safetensors")
    with pytest.raises(ValueError, match=r"has weights that .* has not, or in another shape: a$"):
        fold(start, other / "open_clip_model.safetensors", tmp_path / "another")
    assert not (tmp_path / "another").exists()
