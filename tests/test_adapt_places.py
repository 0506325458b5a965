"""Words that learn from label maps that they draw of a user's images: by the images' own tags, once, and again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_adapt import save_start, save_user_folder

from fusion.models.presets import load_preset
from ovseg.fetch import WEIGHTS_FILE
from training import own_maps
from training.adapt import places
from training.adapt.folder import read_collection
from training.adapt.places import halfway, train_places
from training.adapt.split import Split, split
from training.adapt.start import has_small_masks
from training.hardware import CPU
from training.map_head import Recipe
from training.own_maps import UNKNOWN, Artist

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def small():
    """Few steps on small views of maps without unknown places."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "SIDE", 64)
        patch.setattr(places, "RECIPE", Recipe(steps=3, places=2, rare=0.5))
        patch.setattr(own_maps, "SURE", 0.0)
        yield


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    return split(read_collection(save_user_folder(folder), folder / "out"), folder / "out")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_start(tmp_path_factory.mktemp("preset"))


@pytest.fixture(scope="module")
def first(halves, preset, tmp_path_factory):
    """The folder of a first call, which drew the maps of all tagged images."""
    folder = tmp_path_factory.mktemp("first")
    assert _trained(halves, preset, folder) == 36
    return folder


def _trained(halves: Split, preset, folder) -> int:
    return train_places(halves, preset.parent / "clip", str(preset), folder / "run", folder / "words", CPU)


def test_the_head_learns_and_the_rest_stays_as_it_was(first, preset) -> None:
    before, after = (load_file(folder / WEIGHTS_FILE) for folder in (preset.parent / "clip", first / "words"))
    changed = {name for name in after if not torch.equal(before[name].half(), after[name].half())}
    parts = ("conv_head", "bn2", "classifier", "logit_scale")
    assert changed and all(any(part in name for part in parts) for name in changed)


def test_halfway_lies_between_two_models(first, preset, tmp_path) -> None:
    start = preset.parent / "clip"
    for _ in range(2):  # what a stopped run left is written anew
        folder = halfway(start, first / "words", tmp_path / "halfway")
    one, other, between = (load_file(of / WEIGHTS_FILE) for of in (start, first / "words", folder))
    for name, tensor in between.items():
        torch.testing.assert_close(tensor.float(), (one[name].float() + other[name].float()) / 2, rtol=2e-3, atol=2e-3)


def test_maps_show_the_tags_of_their_image_and_what_may_be_beside_them(first, halves, preset) -> None:
    photos = [photo for photo in own_maps.read_photos(halves.train) if photo.tags]
    artist = Artist(preset.parent / "clip", str(preset), photos)
    for number, photo in enumerate(photos):
        (path,) = (first / "run").glob(f"*/{number}.png")
        tags, companions = artist.labels(photo)
        assert tags == list(photo.tags)
        found = set(np.unique(np.asarray(Image.open(path)))) - {UNKNOWN}
        assert found <= {*range(len(tags) + len(companions))}


def test_what_was_drawn_is_not_drawn_again(first, halves, preset, tmp_path, monkeypatch) -> None:
    shutil.copytree(first / "run", tmp_path / "run")
    monkeypatch.setattr(Artist, "draw", None)
    assert _trained(halves, preset, tmp_path) == 36
    one, other = (load_file(folder / "words" / WEIGHTS_FILE) for folder in (first, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_model_draws_anew(first, halves, preset, tmp_path) -> None:
    shutil.copytree(first / "run", tmp_path / "run")
    (old,) = (tmp_path / "run").iterdir()
    shutil.copytree(preset.parent / "clip", tmp_path / "clip")
    state = load_file(tmp_path / "clip" / WEIGHTS_FILE)
    save_file(state | {"logit_scale": state["logit_scale"] + 1}, tmp_path / "clip" / WEIGHTS_FILE)
    assert train_places(halves, tmp_path / "clip", str(preset), tmp_path / "run", tmp_path / "words", CPU) == 36
    (new,) = (tmp_path / "run").iterdir()
    assert new.name != old.name and len(list(new.glob("*.png"))) == 36


def test_without_small_masks_the_words_draw_alone(halves, preset, tmp_path, monkeypatch) -> None:
    config = load_preset(str(preset)).emerdiff
    assert has_small_masks(config)
    assert not has_small_masks(replace(config, model="stable-diffusion-v1-5/stable-diffusion-v1-5"))
    assert not has_small_masks(replace(config, model=str(tmp_path / "gone")))
    monkeypatch.setattr(own_maps.EmerDiff, "from_preset", None)
    start = preset.parent / "clip"
    assert train_places(halves, start, str(preset), tmp_path / "run", tmp_path / "words", CPU, masks=False) == 36


def test_images_with_captions_alone_draw_nothing(halves, preset, tmp_path) -> None:
    captioned = Split(tmp_path / "train", halves.held, 2, 2, ())
    captioned.train.mkdir()
    (captioned.train / "captions.csv").write_text("path,tags,caption\na.png,,a cat\nb.png,,a dog\n")
    assert _trained(captioned, preset, tmp_path) == 0
    assert not (tmp_path / "words").exists()
