"""`--background` and the thresholds from end to end: what becomes "other", with each source of masks that differs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from test_cli import emerseg
from test_cli_segment import assert_consistent, contents, photos
from tiny_fusion import save_preset

from ovseg.surroundings import SURROUNDINGS

__all__ = ["photos"]  # a fixture
GRID = ("--masks", "grid", "-q")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_preset(tmp_path_factory.mktemp("models"))


def segment(photos, output, preset, *options, labels="cat, lawn"):
    return emerseg("segment", photos, "--labels", labels, "--output", output, "--preset", preset, *options)


def run_of(output):
    return json.loads((output / "run.json").read_text())


def test_auto_is_the_list_of_the_run_whoever_wrote_it(photos, tmp_path, preset):
    listed, output = tmp_path / "listed", tmp_path / "out"
    wanted = [name for name in SURROUNDINGS if name != "grass"]
    assert segment(photos, output, preset, "--background", "auto, hand", *GRID) == 0
    assert [label["name"] for label in run_of(output)["background"]] == ["hand", *wanted]
    assert segment(photos, listed, preset, "--background", ", ".join(["hand", *wanted]), *GRID) == 0
    assert run_of(output)["config_hash"] == run_of(listed)["config_hash"]
    assert contents(output) == contents(listed)
    assert_consistent(output)
    assert emerseg("validate", output) == 0


def test_relabel_resolves_auto_for_its_own_labels(photos, tmp_path, preset):
    fresh, output = tmp_path / "fresh", tmp_path / "out"
    assert segment(photos, output, preset, *GRID) == 0
    assert emerseg("relabel", output, "--labels", "dog, sky", "--background", "auto", "-q") == 0
    assert segment(photos, fresh, preset, "--background", "auto", *GRID, labels="dog, sky") == 0
    assert contents(output) == contents(fresh)
    assert "sky" not in [label["name"] for label in run_of(output)["background"]]


@pytest.mark.parametrize("masks", ["grid", "none"])
def test_background_and_thresholds_hold_for_masks_and_for_clip_alone(photos, tmp_path, preset, masks):
    every, other, none = tmp_path / "every", tmp_path / "other", tmp_path / "none"
    image = photos / "a.png"
    options = ["--masks", masks, "-q"]
    assert segment(image, every, preset, *options) == 0
    assert np.asarray(Image.open(every / "semantic" / "a.png")).min() > 0
    assert segment(image, other, preset, "--background", "auto", *options) == 0
    assert np.asarray(Image.open(other / "semantic" / "a.png")).min() == 0
    assert emerseg("validate", other) == 0
    assert segment(image, none, preset, "--min-score", "1", *options) == 0
    assert not assert_consistent(none).anns


def test_labels_shows_what_auto_is(capsys):
    assert emerseg("labels", "cat, lawn", "--background", "auto, hand") == 0
    shown = capsys.readouterr().out
    assert "hand" in shown and "ceiling" in shown and "grass" not in shown


@pytest.mark.parametrize("masks", ["grid", "none"])
def test_absent_labels_are_in_the_record_of_an_image_and_in_no_other_file(photos, tmp_path, preset, masks):
    output = tmp_path / "out"
    absence = ["--set", "ovseg.absence=1000", "--masks", masks, "-q"]  # one label alone stays
    assert segment(photos, output, preset, *absence, "--background", "wall") == 0
    assert_consistent(output)
    assert emerseg("validate", output) == 0
    for path in (output / "annotations").iterdir():
        record = json.loads(path.read_text())
        found = {annotation["category_id"] for annotation in record["regions"]}
        assert len(record["absent"]) == 2 - len(found) and len(found) <= 1
