"""Whole folders from outside: poisoned, damaged, moved, finished, and with images that are gone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import emerseg
from test_cli_segment import assert_consistent, contents, gone, segment

from emerdiff import Masks
from fusion.formats.schema import INSTANCES, JOURNAL, RUN
from fusion.models.segmenter import Segmenter
from fusion.runs import folder as runs_folder
from fusion.runs.journal import Journal
from fusion.runs.relabel import relabelled
from fusion.runs.spec import RunSpec
from fusion.validate import validate
from ground.images import limit_pixels

OUTPUTS = ("semantic/a.png", "panoptic/a.png", "overlays/a.png", "masks/a.npz", "annotations/a.json")
GRID = ("--masks", "grid", "-q")


@pytest.fixture
def photos(tmp_path):
    """A folder of three images: a.png, b.png of 64 x 48 px, sub/a.png of the same stem."""
    folder = tmp_path / "project" / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "sub/a.png"):
        small = Image.fromarray(rng.integers(0, 255, (3, 4, 3), np.uint8))
        small.resize((64, 48), Image.Resampling.BICUBIC).save(folder / name)
    return folder


@pytest.fixture
def output(photos, tiny_preset):
    """The images segmented, on masks of a grid."""
    output = photos.parent / "out"
    assert segment(photos, output, tiny_preset, *GRID) == 0
    return output


def everything(folder):
    """All files of a folder, times in them included."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


# Poisoned


@pytest.mark.parametrize("name", ["../../../x", "/tmp/x", "..", "sub/x"])
@pytest.mark.parametrize("command", ["relabel", "segment"])
def test_names_in_a_folder_lead_nowhere_else(photos, output, tmp_path, tiny_preset, capsys, command, name):
    for file in (RUN, JOURNAL):
        text = (output / file).read_text()
        for space in ("", " "):
            text = text.replace(f'"name":{space}"b"', f'"name":{space}"{name}"')
        (output / file).write_text(text)
    victims = [tmp_path / f"x{suffix}" for suffix in (".png", ".json", ".npz")]
    for victim in victims:
        victim.write_text("mine")
    before = everything(output)
    if command == "relabel":
        assert emerseg("relabel", output, "--labels", "dog") == 2
        assert "run.json is not what `emerseg segment` writes, or damaged" in capsys.readouterr().err
        assert everything(output) == before
    else:
        assert segment(photos, output, tiny_preset, *GRID, "--min-area", "5", "--overwrite") == 0
        assert list(validate(output)) == []
    assert [victim.read_text() for victim in victims] == ["mine"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project", "x.json", "x.npz", "x.png"]


def test_two_images_of_one_name_in_run_json_do_not_share_outputs(output):
    run = json.loads((output / RUN).read_text())
    for image in run["images"]:
        image["name"] = "a"
    (output / RUN).write_text(json.dumps(run))
    assert emerseg("relabel", output, "--labels", "dog", "-q") == 0
    assert sorted(image["name"] for image in json.loads((output / RUN).read_text())["images"]) == ["a", "a-2", "b"]


@pytest.mark.parametrize("planted", ["semantic", "masks", JOURNAL, ".lock", RUN])
@pytest.mark.parametrize("command", ["relabel", "segment"])
def test_links_in_a_folder_are_not_followed(photos, output, tmp_path, tiny_preset, capsys, command, planted):
    if command == "segment" and planted == RUN:
        return  # it is replaced, not read
    victim = tmp_path / "victim"
    shutil.move(output / planted, victim)
    (output / planted).symlink_to(victim)
    before = everything(tmp_path)
    if command == "relabel":
        assert emerseg("relabel", output, "--labels", "dog") == 2
    else:
        assert segment(photos, output, tiny_preset, *GRID, "--min-area", "5", "--overwrite") == 2
    assert f"{planted} is a link" in capsys.readouterr().err
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["semantic/a.png", "masks/a.npz", "annotations/a.json", INSTANCES])
def test_what_is_laid_where_a_file_is_made_is_not_written_through(photos, output, tmp_path, tiny_preset, name):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (output / f"{name}.part").symlink_to(victim)
    (output / name).unlink()
    assert segment(photos, output, tiny_preset, *GRID) == 0
    assert victim.read_text() == "mine"
    assert list(validate(output)) == []


@pytest.mark.parametrize("label_map", [np.zeros((4000, 3000), np.int32), None])
def test_cached_masks_that_are_no_masks_are_made_again(photos, output, tiny_preset, label_map):
    path = output / "masks" / "a.npz"
    whole, metadata = path.read_bytes(), Masks.load_metadata(path)
    if label_map is None:
        shutil.copy(photos / "a.png", path)
    else:  # a large map in a small file, which says that it is of this very image
        Masks(label_map, np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)).save(path, **metadata)
    assert segment(photos, output, tiny_preset, *GRID) == 0
    assert path.read_bytes() == whole
    assert list(validate(output)) == []


# Damaged


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), Path.unlink], ids=["emptied", "gone"])
def test_a_damaged_output_is_made_again(photos, output, tiny_preset, capsys, name, damage):
    before = contents(output)
    damage(output / name)
    capsys.readouterr()
    assert segment(photos, output, tiny_preset, "--masks", "grid") == 0
    assert "1 done, 2 finished before, 0 failed" in capsys.readouterr().err
    assert contents(output) == before


def test_a_damaged_output_whose_image_is_gone_is_named_and_the_rest_is_written(photos, output, tiny_preset, capsys):
    (output / "panoptic" / "a.png").write_bytes(b"")
    (output / "annotations" / "b.json").write_bytes(b"")
    shutil.copy(photos / "sub" / "a.png", photos / "c.png")
    capsys.readouterr()
    assert segment(photos / "c.png", output, tiny_preset, *GRID) == 1
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1 and "b.png: annotations/b.json cannot be read" in shown[0]
    assert [image["file_name"] for image in json.loads((output / INSTANCES).read_text())["images"]] == [
        "a.png",
        "sub/a.png",
        "c.png",
    ]
    assert {fault.path for fault in validate(output)} == {"panoptic/a.png"}
    assert segment(photos, output, tiny_preset, *GRID) == 0
    assert list(validate(output)) == []


# Images that are gone, other labels, other limits


def test_relabel_without_the_images_leaves_all_as_it_was(photos, output, capsys):
    shutil.move(photos, photos.with_name("elsewhere"))
    before = everything(output)
    capsys.readouterr()
    assert emerseg("relabel", output, "--labels", "dog, water", "-q") == 1
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3 and all("no image file" in line for line in shown)
    assert everything(output) == before


def test_relabel_without_one_image_keeps_its_files_and_does_the_others(photos, output):
    before = contents(output)
    (photos / "b.png").unlink()
    assert emerseg("relabel", output, "--labels", "dog, water", "-q") == 1
    after = contents(output)
    assert sorted(after) == sorted(before)
    of_b = [name for name in before if Path(name).stem == "b"]
    assert len(of_b) == 5 and all(after[name] == before[name] for name in of_b)
    assert [image["file_name"] for image in assert_consistent(output).dataset["images"]] == ["a.png", "sub/a.png"]
    assert list(validate(output)) == []


def test_masks_of_other_images_survive_a_subset_with_other_labels(photos, output, tiny_preset):
    masks = times(output / "masks")
    new = ["--labels", "dog, water", "--overwrite", *GRID, "--preset", tiny_preset]
    assert emerseg("segment", photos / "b.png", "--output", output, *new) == 0
    assert times(output / "masks") == masks
    assert list(validate(output)) == []
    assert emerseg("segment", photos, "--output", output, *new) == 0
    assert times(output / "masks") == masks
    assert list(validate(output)) == [] and len(assert_consistent(output).imgs) == 3


def test_a_lower_limit_in_a_later_run_changes_nothing_of_earlier_ones(photos, output, tiny_preset, capsys):
    before = everything(output)
    Image.new("RGB", (65, 48), (9, 99, 9)).save(photos / "c.png")
    assert segment(photos, output, tiny_preset, *GRID, "--max-megapixels", "0.001") == 1
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1 and "c.png: too large" in shown[0] and "--max-megapixels" in shown[0]
    limit_pixels()
    assert list(validate(output)) == []
    assert len(assert_consistent(output).imgs) == 3
    assert {path: data for path, data in everything(output).items() if path.parent != output} == {
        path: data for path, data in before.items() if path.parent != output
    }
    # run.json keeps what its images need, so that relabel reads them all.
    assert emerseg("relabel", output, "--labels", "dog", "-q") == 0
    assert len(assert_consistent(output).imgs) == 4


@pytest.mark.parametrize("limit", ["inf", "nan", "-1", "0", "1e400"])
@pytest.mark.parametrize("command", ["segment", "relabel", "validate"])
def test_a_limit_is_a_finite_number(photos, output, tiny_preset, capsys, command, limit):
    arguments = {
        "segment": [photos, "--labels", "cat", "--output", output, "--preset", tiny_preset, *GRID],
        "relabel": [output, "--labels", "cat"],
        "validate": [output],
    }
    capsys.readouterr()
    assert emerseg(command, *arguments[command], "--max-megapixels", limit) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "megapixels" in shown


def test_what_relabel_is_not_told_stays_as_it_was(photos, tmp_path, tiny_preset):
    output = tmp_path / "out"
    options = ["--background", "wall, floor", "--segmentation", "polygon", "--min-score", "0.1", "--seed", "3"]
    assert segment(photos, output, tiny_preset, *GRID, *options, "--max-megapixels", "200") == 0
    spec = relabelled(output, ["dog", "floor"])
    assert [label.name for label in spec.background] == ["wall"]  # what is asked for is no background any more
    assert (spec.segmentation, spec.seed, spec.max_megapixels) == ("polygon", 3, 200.0)
    assert spec.preset.fusion.min_score == 0.1
    assert relabelled(output, ["dog"], background=[]).background == ()


# Of another device


def test_masks_of_another_device_serve_relabel_and_its_results_are_another_run(
    photos, output, tiny_preset, monkeypatch, capsys
):
    shutil.rmtree(output)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("fusion.runs.spec.resolved", lambda device, dtype: {"device": "cuda", "dtype": "float16"})
        assert segment(photos, output, tiny_preset, *GRID) == 0
    assert json.loads((output / RUN).read_bytes())["ran"] == {"device": "cuda", "dtype": "float16"}
    before = times(output / "masks")

    assert segment(photos, output, tiny_preset, *GRID) == 2
    assert "of cuda in float16, now cpu in float32: choose another --output" in capsys.readouterr().err

    monkeypatch.setattr("fusion.models.segmenter.Segmenter.make_masks", lambda *_: pytest.fail("masks are made again"))
    assert emerseg("relabel", output, "--labels", "dog, cat", "--device", "cpu", "-q") == 0
    assert times(output / "masks") == before
    run = RunSpec.read(output)
    assert (run.ran["device"], run.hash) == ("cpu", Journal.open(output).config_hash)


# Moved


@pytest.mark.parametrize("moved", ["project", "out"])
def test_a_project_or_a_folder_that_was_moved_goes_on(photos, output, tmp_path, tiny_preset, capsys, moved):
    before = contents(output)
    if moved == "project":
        photos.parent.rename(tmp_path / "renamed")
        photos, output = tmp_path / "renamed" / "photos", tmp_path / "renamed" / "out"
    else:
        (tmp_path / "far" / "away").mkdir(parents=True)
        output = Path(shutil.move(output, tmp_path / "far" / "away" / "out2"))
    capsys.readouterr()
    assert segment(photos, output, tiny_preset, "--masks", "grid") == 0
    assert "0 done, 3 finished before, 0 failed" in capsys.readouterr().err
    assert contents(output) == before
    assert list(validate(output)) == []
    assert emerseg("relabel", output, "--labels", "dog, water", "-q") == 0
    assert len(assert_consistent(output).imgs) == 3


def test_a_folder_that_was_moved_is_relabelled_where_it_is(photos, output, tmp_path):
    fresh = output.with_name("fresh")
    shutil.copytree(output, fresh)
    assert emerseg("relabel", fresh, "--labels", "dog, water", "-q") == 0
    moved = Path(shutil.move(output, tmp_path / "moved"))
    assert emerseg("relabel", moved, "--labels", "dog, water", "-q") == 0
    assert contents(moved) == contents(fresh)


def test_a_folder_that_was_moved_is_relabelled_even_if_a_kill_kept_run_json_as_it_was(photos, output, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = Path(shutil.move(output, tmp_path / "far" / "away" / "out"))
    Journal.open(moved)  # notes where the folder is now
    assert emerseg("relabel", moved, "--labels", "dog, water", "-q") == 0
    assert len(assert_consistent(moved).imgs) == 3


# Finished


def test_a_run_with_nothing_to_do_loads_no_model_and_writes_nothing(photos, output, tiny_preset, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise AssertionError("a model is loaded")

    assert emerseg("relabel", output, "--labels", "cat, grass, sky", "-q") == 0  # the labels that it has
    before = times(output)
    monkeypatch.setattr(Segmenter, "from_preset", refuse)
    monkeypatch.setattr(runs_folder, "load_clip", refuse)
    capsys.readouterr()
    assert segment(photos, output, tiny_preset, "--masks", "grid") == 0
    assert "0 done, 3 finished before, 0 failed" in capsys.readouterr().err
    assert emerseg("relabel", output, "--labels", "cat, grass, sky", "-q") == 0
    assert times(output) == before
    with pytest.raises(AssertionError):
        emerseg("relabel", output, "--labels", "dog", "-q")


def test_masks_with_nothing_to_do_load_no_model(photos, tmp_path, tiny_preset):
    arguments = ["masks", photos, "--output", tmp_path / "out", "--preset", tiny_preset, "-q"]
    assert emerseg(*arguments) == 0
    before = times(tmp_path / "out")
    with gone(tmp_path, tiny_preset):
        assert emerseg(*arguments) == 0
    assert times(tmp_path / "out") == before


# Inputs


def test_outputs_under_another_name_or_through_a_link_are_no_inputs(photos, output, tiny_preset):
    output.rename(photos / "results of yesterday")
    (photos / "linked").symlink_to(photos / "results of yesterday")
    (photos / "linked.png").symlink_to(photos / "results of yesterday" / "overlays" / "a.png")
    for name in ("new", "newer"):
        assert segment(photos, photos / name, tiny_preset, *GRID) == 0
        assert len(assert_consistent(photos / name).imgs) == 3
    (photos.parent / "alias").symlink_to(photos / "new")
    assert segment(photos, photos.parent / "alias", tiny_preset, *GRID) == 0
    assert len(assert_consistent(photos / "new").imgs) == 3
    assert segment(os.path.relpath(photos), photos / "new", tiny_preset, *GRID) == 0
    assert len(assert_consistent(photos / "new").imgs) == 3
