"""`emerseg adapt` from end to end on tiny models: the report, a preset that works, and going on after a stop."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_adapt import save_images, save_start, save_user_folder

from fusion.cli import app
from fusion.models.presets import load_preset
from fusion.models.segmenter import Segmenter
from ovseg.fetch import WEIGHTS_FILE
from training import loop, own_maps, photo_clip
from training.adapt import masks as masks_of
from training.adapt import places, recipe
from training.adapt import words as words_of
from training.adapt.folder import read_collection
from training.adapt.recipe import adapt
from training.adapt.report import lines, markdown
from training.adapt.result import write_preset
from training.adapt.split import Split, split
from training.adapt.task import Task, planned
from training.adapt.words import _rank_captions, _rank_tags, merged
from training.hardware import CPU
from training.map_head import Recipe
from training.photos import Photo

pytestmark = pytest.mark.slow

SECTIONS = {"words": "ovseg", "masks": "emerdiff"}
WEIGHTS = ("weights/words/open_clip_model.safetensors", "weights/masks/unet/diffusion_pytorch_model.safetensors")


@pytest.fixture(autouse=True, scope="module")
def small_steps():
    """A few squares and images a step; every step takes 0.1 s of a clock that does not wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks_of, "BATCH", 2)
        patch.setattr(masks_of, "SQUARES", 72)
        patch.setattr(photo_clip, "BATCH", 4)
        patch.setattr(words_of, "LARGEST", 64)
        patch.setattr(places, "MAPS", 4)
        patch.setattr(places, "SIDE", 64)
        patch.setattr(places, "RECIPE", Recipe(steps=2, places=2, rare=0.5))
        patch.setattr(own_maps, "SURE", 0.0)  # noise is sure of nothing
        for module in (masks_of, words_of):
            patch.setattr(module, "CHECKPOINT_EVERY", 0.15)
        patch.setattr(loop, "time", SimpleNamespace(perf_counter=itertools.count(0.0, 0.1).__next__))
        names = [f"class {number}" for number in range(photo_clip.TEACHER_CLASSES)]
        patch.setattr(photo_clip, "class_names", lambda: names)
        patch.setattr(recipe, "choose_hardware", lambda device: CPU)  # in float32 everywhere
        patch.setattr(loop, "plot_log", lambda folder: None)
        yield


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    return save_user_folder(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_start(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def task(user, start, tmp_path_factory):
    """6 steps for the masks and 3 for the words."""
    return Task(user, tmp_path_factory.mktemp("out") / "adapted", start=str(start), minutes=0.87 / 60, device="cpu")


@pytest.fixture(scope="module")
def report(task):
    return adapt(task)


def test_the_report_says_what_was_done_and_measured(task, report):
    assert (report.train_images, report.held_out_images, report.tags, report.captions) == (36, 4, 4, 4)
    assert report.own_maps == 4 and "words 4 label maps that they drew themselves" in markdown(report)
    assert report.adapted == ("words", "masks") and report.said_by == "captions.csv"
    assert {part: row["step"] for part, row in report.training.items()} == {"words": 3, "masks": 6}
    for figures in (report.before, report.after):
        assert (figures["words"]["images"], figures["words"]["captions"]) == (4, 2)
        assert figures["words"]["tag_first_by_chance"] == pytest.approx((2 / 4 + 1 / 4) / 2)
        assert 0.5 < figures["masks"]["noise_mean"] < 3
        (labels,) = figures["labels"]
        assert labels["images"] == 2 and 0 < labels["label_miou"] < 1 and 0 < labels["bound_miou"] <= 1
        # Noise images: masks that take their best half cover half of the pixels rightly, at least.
        assert labels["bound_miou"] > 0.25
    assert report.before["masks"]["psnr"] == pytest.approx(report.after["masks"]["psnr"], abs=0.1)
    assert report.before["masks"]["noise"] != report.after["masks"]["noise"]
    assert json.loads((task.output / "report.json").read_text()) == json.loads(json.dumps(asdict(report)))
    shown = list(lines(report))
    assert [line.part for line in shown].count("words") == 5
    assert (task.output / "report.md").read_text() == markdown(report)
    assert "| masks | VAE, which is not adapted | 4 |" in markdown(report)
    preset = load_preset(task.start)
    for part, model in (("words", preset.ovseg.model), ("masks", preset.emerdiff.model)):
        assert f"Back to the {part} of `{task.start}`: `--set {SECTIONS[part]}.model={model}`" in markdown(report)


def test_the_output_is_a_preset_wherever_it_is_moved(task, report, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(task.output, moved, ignore=shutil.ignore_patterns("work"))
    preset = load_preset(moved / "preset.yaml")
    assert preset.emerdiff.model == f"{moved}/weights/masks"
    assert preset.ovseg.model == f"local-dir:{moved}/weights/words"
    assert preset.emerdiff.license.endswith("(nobody's) and of the images, see README.md")
    assert preset.emerdiff.clusters == 3
    segmenter = Segmenter.from_preset(str(moved / "preset.yaml"), device="cpu")
    result = segmenter.segment(Image.new("RGB", (70, 40)), ["road", "sky"])
    assert result.label_map.shape == (40, 70)
    card = (moved / "README.md").read_text()
    assert "nobody's" in card and "everybody's" in card and "36 images" in card


def test_only_what_is_adapted_is_changed(task, report, start):
    preset = load_preset(str(start))
    before = load_file(f"{preset.emerdiff.model}/vae/diffusion_pytorch_model.safetensors")
    after = load_file(task.output / "weights/masks/vae/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    words = preset.ovseg.model.removeprefix("local-dir:")
    old, new = (load_file(f"{folder}/open_clip_model.safetensors") for folder in (words, task.output / "weights/words"))
    assert all(torch.equal(old[name].half(), new[name]) for name in old if name.startswith("text."))


def test_a_stopped_run_goes_on_to_the_same_weights(task, report, tmp_path, monkeypatch):
    again = replace(task, output=tmp_path / "again")
    save = torch.save
    calls = itertools.count()

    def stop_after_two(*arguments):
        save(*arguments)
        if next(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.torch, "save", stop_after_two)
    for _ in range(2):  # once in the words, whose log lacks its line then, and once more to the end
        try:
            adapt(again)
        except KeyboardInterrupt:
            assert not (again.output / "report.json").exists()
    resumed = json.loads((again.output / "report.json").read_text())
    assert resumed["training"]["masks"]["step"] == 6
    for name in WEIGHTS:
        one, other = load_file(task.output / name), load_file(again.output / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert resumed["after"]["masks"] == report.after["masks"]
    assert resumed["after"]["words"] == report.after["words"]


def test_more_minutes_train_on(task, report, tmp_path):
    longer = replace(task, output=tmp_path / "longer", what="masks", minutes=0.25 / 60)
    first = adapt(longer)
    second = adapt(replace(longer, minutes=0.55 / 60))
    assert (first.training["masks"]["step"], second.training["masks"]["step"]) == (3, 6)
    assert "words" not in second.before and second.before == first.before
    assert load_preset(longer.output / "preset.yaml").ovseg == load_preset(task.start).ovseg


def test_an_output_of_other_images_is_not_touched(task, report, tmp_path):
    save_images(tmp_path, [f"{index:02}.png" for index in range(20)])
    with pytest.raises(ValueError, match="holds an adaptation of other images, tags, parts or another preset"):
        adapt(replace(task, folder=tmp_path))
    with pytest.raises(ValueError, match="holds an adaptation of other"):
        adapt(replace(task, what="words"))


def test_tags_are_ranked_by_the_places_they_win():
    tags, texts = ["cat", "dog", "sky"], torch.eye(3)
    sure = 100 * torch.tensor([[1.0, 0, 0]] * 6 + [[0, 0, 1.0]] * 4)  # six places of a cat, four of sky
    photo = Photo(None, "", ("sky", "cat"), "")
    first, found, loss, chance = _rank_tags([(photo, sure)], tags, texts)
    assert (first, found, chance) == (1, 1, pytest.approx(2 / 3)) and loss == pytest.approx(0, abs=1e-6)
    photo = replace(photo, tags=("sky",))
    first, found, loss, chance = _rank_tags([(photo, sure)], tags, texts)
    assert (first, found, chance) == (0, 0, pytest.approx(1 / 3)) and loss == pytest.approx(-np.log(0.4))


def test_captions_are_ranked_by_the_places_that_fit_them_best():
    captions = ["a", "b"]
    photo = Photo(None, "", (), "b")
    fits = torch.tensor([[3.0, 9.0], [3.0, -9.0]])
    first, loss = _rank_captions([(photo, fits)], captions, torch.eye(2))
    assert first == 1 and loss == pytest.approx(np.log1p(np.exp(-6)), rel=1e-3)
    assert _rank_captions([(replace(photo, caption="a"), fits)], captions, torch.eye(2))[0] == 0


def test_noise_is_measured_against_noise_of_variance_one(user, start, tmp_path, monkeypatch):
    from training.adapt.folder import read_collection
    from training.adapt.split import split

    halves: Split = split(read_collection(user, tmp_path), tmp_path)
    monkeypatch.setattr(
        masks_of, "_errors", lambda unet, backbone, prompt, clean, noise, *_: noise.square().mean((1, 2, 3))
    )
    figures = masks_of.measure_masks(halves, start.parent / "sd", CPU)
    assert figures.images == 4 and figures.noise_mean == pytest.approx(1, abs=0.05)


def test_the_command_line_says_what_is_wrong_in_one_line(user, start, tmp_path, capsys):
    for arguments, message in (
        (["adapt", str(tmp_path / "gone")], "no folder"),
        (["adapt", str(user), "--words", "--masks"], "--words and --masks given, expected one of"),
        (["adapt", str(user), "--minutes", "0"], "minutes is 0.0, expected a finite number above 0"),
        (
            ["adapt", str(user), "--start", "sd15", "--device", "cpu"],
            "cannot be adapted: expected a preset such as mini",
        ),
    ):
        assert app([*arguments, "--output", str(tmp_path / "out")], standalone_mode=False) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and error.count("\n") == 0


def test_the_command_line_adapts_and_shows_the_report(user, start, tmp_path, capsys, caplog):
    output = tmp_path / "out"
    arguments = ["adapt", str(user), "--masks", "--minutes", "0.005", "--start", str(start), "--device", "cpu"]
    assert not app([*arguments, "--output", str(output)], standalone_mode=False)
    shown = capsys.readouterr()
    assert "noise not predicted" in shown.out and f"--preset {output / 'preset.yaml'}" in shown.out.replace("\n", "")
    assert "masks learn for 0.0 minutes from 36 images" in caplog.text


def test_the_overlay_of_a_start_is_in_the_weights_and_no_more_in_the_preset(user, start, tmp_path):
    overlay, changed = tmp_path / "other.safetensors", tmp_path / "start.yaml"
    values = yaml.safe_load(start.read_text())
    folder = Path(values["ovseg"]["model"].removeprefix("local-dir:"))
    own = load_file(folder / WEIGHTS_FILE)
    save_file({"logit_scale": own["logit_scale"] + 1}, overlay)
    values["ovseg"]["overlay"] = str(overlay)
    changed.write_text(yaml.safe_dump(values))
    plan = planned(Task(user, tmp_path / "out", start=str(changed)), read_collection(user, tmp_path / "out"))
    whole = merged(plan.preset.ovseg, plan.words, tmp_path / "merged")
    state = load_file(whole / WEIGHTS_FILE)
    assert state.keys() == own.keys()
    torch.testing.assert_close(state["logit_scale"].float(), own["logit_scale"].float() + 1, rtol=1e-3, atol=1e-3)
    assert merged(plan.preset.ovseg, plan.words, whole) == whole  # made once
    assert merged(replace(plan.preset.ovseg, overlay=None), plan.words, tmp_path / "none") == plan.words
    path = write_preset(plan, split(plan.collection, tmp_path / "work"))
    assert "overlay" not in yaml.safe_load(path.read_text())["ovseg"]
    assert f"with {overlay}`, licence" in (tmp_path / "out/README.md").read_text()
