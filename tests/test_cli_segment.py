"""`emerseg segment`, `masks` and `eval` from end to end, on tiny random models of the real classes."""

from __future__ import annotations

import errno
import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from test_cli import emerseg
from tiny_fusion import save_preset

from emerdiff import Masks
from fusion.cli import console
from fusion.formats.panoptic import read_ids
from fusion.runs import jobs
from fusion.runs.batch import locked
from ground import files

SIZE_HW = (48, 64)
LABELS = "cat, grass, sky"


@pytest.fixture
def photos(tmp_path):
    """A folder of three images: a.png, b.jpg turned by EXIF, sub/a.png of the same stem."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, settings in (("a.png", {}), ("b.jpg", {"exif": exif}), ("sub/a.png", {})):
        pixels = cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC)
        Image.fromarray(pixels).save(folder / name, **settings)
    return folder


def segment(photos, output, preset, *options):
    return emerseg("segment", photos, "--labels", LABELS, "--output", output, "--preset", preset, *options)


def contents(folder):
    """All files but those that hold times."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes() for name, path in files.items() if name not in ("run.json", "journal.jsonl", ".lock")
    }


def assert_consistent(output):
    """All exports and run.json say the same, at the images' size; returns the COCO."""
    coco = COCO(str(output / "instances.json"))
    done = [image for image in json.loads((output / "run.json").read_text())["images"] if image["status"] == "done"]
    assert [image["file_name"] for image in coco.dataset["images"]] == [image["file_name"] for image in done]
    assert len(coco.anns) == len(coco.dataset["annotations"]) and min(coco.anns, default=1) >= 1
    results = json.loads((output / "results.json").read_text())
    kept = ("image_id", "category_id", "segmentation", "area", "bbox")
    assert results == [
        {key: annotation[key] for key in kept} | {"score": annotation["evidence"]["score"]}
        for annotation in coco.dataset["annotations"]
    ]
    panoptic = json.loads((output / "panoptic.json").read_text())
    assert (panoptic["images"], panoptic["categories"]) == (coco.dataset["images"], coco.dataset["categories"])
    for image, entry, segments in zip(coco.dataset["images"], done, panoptic["annotations"], strict=True):
        ids = read_ids(output / "panoptic" / segments["file_name"])
        assert (segments["image_id"], segments["file_name"]) == (image["id"], f"{entry['name']}.png")
        assert [s["id"] for s in segments["segments_info"]] == coco.getAnnIds(image["id"])
        semantic = np.array(Image.open(output / "semantic" / f"{entry['name']}.png"))
        overlay = Image.open(output / "overlays" / f"{entry['name']}.png")
        assert semantic.shape == (image["height"], image["width"]) == overlay.size[::-1]
        decoded = np.zeros_like(semantic)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation)
            assert annotation["area"] == mask.sum()
            np.testing.assert_array_equal(ids == annotation["id"], mask)
            decoded += mask * np.uint8(annotation["category_id"])
        np.testing.assert_array_equal(decoded, semantic)
    return coco


def test_a_folder_becomes_a_consistent_output_folder(photos, tmp_path, tiny_preset, capsys):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1] == "3 done, 0 finished before, 0 failed"
    coco = assert_consistent(output)
    assert [category["name"] for category in coco.dataset["categories"]] == ["cat", "grass", "sky"]
    sizes = [(image["file_name"], image["height"], image["width"]) for image in coco.dataset["images"]]
    assert sizes == [("a.png", 48, 64), ("b.jpg", 64, 48), ("sub/a.png", 48, 64)]
    assert sorted(path.name for path in (output / "masks").iterdir()) == ["a-2.npz", "a.npz", "b.npz"]
    run = json.loads((output / "run.json").read_text())
    assert (run["seed"], run["masks"]) == (0, "emerdiff")
    assert [label["name"] for label in run["labels"]] == ["cat", "grass", "sky"]
    assert all(image["seconds"] > 0 for image in run["images"])
    assert {"emerdiff", "ovseg"} == set(run["weights"])


@pytest.mark.parametrize("layout", ["sd1", "sd2"])
def test_layouts_of_stable_diffusion(photos, tmp_path, layout):
    preset = save_preset(tmp_path / "models", layout)
    assert segment(photos, tmp_path / "out", preset) == 0
    assert len(assert_consistent(tmp_path / "out").imgs) == 3


@pytest.mark.parametrize("masks", ["naive", "slic", "grid", "none"])
def test_every_source_of_masks(photos, tmp_path, tiny_preset, masks):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, "--masks", masks, "-q") == 0
    assert_consistent(output)
    assert (output / "masks").exists() == (masks != "none")


def test_diffusion_weights_are_not_needed_by_masks_without_diffusion(photos, tmp_path, tiny_preset, capsys):
    gone = ["--set", f"emerdiff.model={tmp_path}/gone"]
    assert segment(photos, tmp_path / "out", tiny_preset, "--masks", "slic", *gone) == 0
    assert segment(photos, tmp_path / "other", tiny_preset, "--masks", "naive", *gone) == 2
    assert "gone" in capsys.readouterr().err


def test_options_reach_the_result(photos, tmp_path, tiny_preset):
    output = tmp_path / "out"
    options = ["--clusters", "2", "--fuse", "embedding", "--clip", "clip", "--min-area", "5", "--seed", "3"]
    assert segment(photos / "a.png", output, tiny_preset, *options, "--set", "emerdiff.strength=5") == 0
    config = json.loads((output / "run.json").read_text())["config"]
    assert (config["emerdiff"]["clusters"], config["emerdiff"]["strength"]) == (2, 5.0)
    assert config["ovseg"]["dense"] == "clip"
    assert (config["fusion"]["fuse"], config["fusion"]["min_area"]) == ("embedding", 5)
    assert Masks.load(output / "masks" / "a.npz").num_masks <= 2


def test_thresholds_and_background_make_other_and_the_image_is_still_listed(photos, tmp_path, tiny_preset):
    output = tmp_path / "out"
    assert segment(photos / "a.png", output, tiny_preset, "--min-score", "1") == 0
    coco = assert_consistent(output)
    assert (len(coco.imgs), len(coco.anns)) == (1, 0)
    other = tmp_path / "other"
    assert segment(photos / "a.png", other, tiny_preset, "--background", "wall, floor") == 0
    assert [category["name"] for category in assert_consistent(other).dataset["categories"]] == ["cat", "grass", "sky"]


def test_a_bad_image_is_reported_and_the_rest_goes_on(photos, tmp_path, tiny_preset, capsys):
    (photos / "aa.jpg").write_text("no image")
    whole = (photos / "b.jpg").read_bytes()
    (photos / "ab.jpg").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, "--masks", "grid", "-q") == 1
    assert len(assert_consistent(output).imgs) == 3
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in shown] == [str(photos / "aa.jpg"), str(photos / "ab.jpg")]
    (photos / "ab.jpg").write_bytes(whole)
    (photos / "aa.jpg").unlink()
    assert segment(photos, output, tiny_preset, "--masks", "grid", "-q") == 0
    assert len(assert_consistent(output).imgs) == 4


def test_a_resumed_run_equals_an_uninterrupted_one(photos, tmp_path, tiny_preset, capsys):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert segment(photos, whole, tiny_preset) == 0
    assert sorted(assert_consistent(whole).anns) == list(range(1, len(assert_consistent(whole).anns) + 1))
    assert segment(photos, resumed, tiny_preset, "--limit", "1") == 0
    assert len(assert_consistent(resumed).imgs) == 1
    assert segment(photos, resumed, tiny_preset) == 0
    assert "2 done, 1 finished before" in capsys.readouterr().err
    assert contents(resumed) == contents(whole)


def test_a_killed_run_resumes_from_its_journal_and_its_masks(photos, tmp_path, tiny_preset):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert segment(photos, whole, tiny_preset) == 0
    assert segment(photos, killed, tiny_preset) == 0
    for name in ("instances.json", "run.json", "semantic/a-2.png"):
        (killed / name).unlink()
    journal = killed / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7])
    (killed / "masks" / "a-2.npz").write_bytes(b"half a file")
    assert segment(photos, killed, tiny_preset) == 0
    assert contents(killed) == contents(whole)
    assert_consistent(killed)


def test_an_interrupt_ends_with_130_and_valid_files(photos, tmp_path, tiny_preset, monkeypatch, capsys):
    shown = []

    def interrupted(entry):
        shown.append(entry.name)
        if len(shown) == 2:
            raise KeyboardInterrupt
        return entry.name

    monkeypatch.setattr(console, "_line", interrupted)
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, "--masks", "grid") == 130
    assert "interrupted" in capsys.readouterr().err
    assert len(assert_consistent(output).imgs) == 3  # the last was in hand


@pytest.mark.parametrize("style", ["polygon", "polygon-centers"])
def test_polygons_on_request_are_the_same_regions(photos, tmp_path, tiny_preset, style):
    ring = np.full((48, 64, 3), 255, np.uint8)
    ring[8:40, 16:48] = 0
    Image.fromarray(ring).save(photos / "a.png")
    rle, polygon = tmp_path / "rle", tmp_path / "polygon"
    options = ["--masks", "slic", "--clusters", "2", "-q"]
    assert segment(photos / "a.png", rle, tiny_preset, *options) == 0
    assert segment(photos / "a.png", polygon, tiny_preset, *options, "--segmentation", style) == 0
    assert emerseg("validate", polygon) == 0
    exact, outlined = COCO(str(rle / "instances.json")), COCO(str(polygon / "instances.json"))
    assert (polygon / "panoptic" / "a.png").read_bytes() == (rle / "panoptic" / "a.png").read_bytes()
    assert (polygon / "results.json").read_bytes() == (rle / "results.json").read_bytes()
    for number, annotation in outlined.anns.items():
        assert isinstance(annotation["segmentation"], list) and annotation["area"] == exact.anns[number]["area"]
        if style == "polygon":
            np.testing.assert_array_equal(outlined.annToMask(annotation), exact.annToMask(exact.anns[number]))


def test_relabel_equals_a_new_run_and_needs_no_diffusion_model(photos, tmp_path, tiny_preset, capsys):
    fresh, output = tmp_path / "fresh", tmp_path / "out"
    assert segment(photos, output, tiny_preset, "--min-area", "3") == 0
    masks = {path: path.stat().st_mtime_ns for path in (output / "masks").iterdir()}
    new = ["--labels", "dog, water", "--min-area", "5", "--background", "wall"]
    assert emerseg("segment", photos, "--output", fresh, "--preset", tiny_preset, *new) == 0
    with gone(tmp_path, tiny_preset):
        assert emerseg("relabel", output, *new) == 0
        assert {path: path.stat().st_mtime_ns for path in (output / "masks").iterdir()} == masks
        assert contents(output) == contents(fresh)
        assert_consistent(output)
        (output / "masks" / "b.npz").unlink()
        capsys.readouterr()
        assert emerseg("relabel", output, "--labels", "dog") == 1
        assert "b.jpg: no masks 'emerdiff' of this image are cached" in capsys.readouterr().err
    assert emerseg("relabel", photos, "--labels", "dog") == 2
    assert "no run.json" in capsys.readouterr().err
    assert emerseg("relabel", output, "--labels", "dog", "--set", "emerdiff.clusters=2") == 2
    assert "would need new masks" in capsys.readouterr().err


def test_relabel_equals_a_new_run_where_the_diffusion_model_refines_labels(photos, tmp_path, tiny_preset):
    fresh, output = tmp_path / "fresh", tmp_path / "out"
    guided = ["ovseg.refine=affinity", "emerdiff.affinity=features", "ovseg.scope=masks", "ovseg.dense=naclip"]
    options = [argument for override in guided for argument in ("--set", override)]
    assert segment(photos, output, tiny_preset, *options) == 0
    new = ["--labels", "dog, water"]
    assert emerseg("segment", photos, "--output", fresh, "--preset", tiny_preset, *new, *options) == 0
    with gone(tmp_path, tiny_preset):  # what it said of the image lies beside its masks
        assert emerseg("relabel", output, *new) == 0
    assert contents(output) == contents(fresh)
    assert_consistent(output)


@contextmanager
def gone(tmp_path, preset):
    """The UNet of a preset cannot be loaded for a while."""
    weights = preset.parent / "sd" / "unet"
    config = (weights / "config.json").read_text()
    (weights / "config.json").write_text("{}")
    try:
        yield
    finally:
        (weights / "config.json").write_text(config)


def test_labels_for_the_masks_of_the_masks_command(photos, tmp_path, tiny_preset):
    fresh, output = tmp_path / "fresh", tmp_path / "out"
    assert emerseg("masks", photos, "--output", output, "--preset", tiny_preset) == 0
    assert emerseg("relabel", output, "--labels", LABELS) == 0
    assert segment(photos, fresh, tiny_preset) == 0
    assert contents(output) == contents(fresh)


def test_one_process_a_folder(photos, tmp_path, tiny_preset, capsys):
    with locked(tmp_path / "out"):
        assert segment(photos, tmp_path / "out", tiny_preset, "--masks", "grid") == 2
    assert "another process is writing to" in capsys.readouterr().err
    assert segment(photos, tmp_path / "out", tiny_preset, "--masks", "grid") == 0


def test_ctrl_c_finishes_the_image_in_hand(photos, tmp_path, tiny_preset, monkeypatch, capsys):
    find_masks = jobs.find_masks

    def find_and_press(path, *arguments):
        if path.stem == "a":
            signal.raise_signal(signal.SIGINT)
        return find_masks(path, *arguments)

    monkeypatch.setattr(jobs, "find_masks", find_and_press)
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, "--masks", "grid") == 130
    assert "interrupted: 1 done, 0 finished before, 0 failed of 3" in capsys.readouterr().err
    assert len(assert_consistent(output).imgs) == 1
    run = json.loads((output / "run.json").read_text())
    assert [image["status"] for image in run["images"]] == ["done", "pending", "pending"]


@pytest.mark.parametrize("last", [False, True], ids=["an_image", "the_report"])
def test_a_full_disk_is_one_clear_error_and_what_was_there_stays(
    photos, tmp_path, tiny_preset, monkeypatch, capsys, last
):
    output, whole = tmp_path / "out", tmp_path / "whole"
    assert segment(photos, whole, tiny_preset, "--masks", "grid") == 0
    assert segment(photos, output, tiny_preset, "--masks", "grid", "--limit", "1") == 0
    before = contents(output)
    capsys.readouterr()
    with monkeypatch.context() as patch:

        def replace_or_fill_up(source, target):
            if not last or Path(target).name == "report.html":
                raise OSError(errno.ENOSPC, "No space left on device")
            os.rename(source, target)

        patch.setattr(files.os, "replace", replace_or_fill_up)
        assert segment(photos, output, tiny_preset, "--masks", "grid", "-q") == 1
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1 and "no space left for" in shown[0]
    after = contents(output)
    assert last or {name: after[name] for name in before} == before
    assert not [name for name in after if name.endswith(".part")]
    assert segment(photos, output, tiny_preset, "--masks", "grid") == 0
    assert contents(output) == contents(whole)


def test_another_configuration_needs_overwrite_and_reuses_the_masks(photos, tmp_path, tiny_preset, capsys):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset) == 0
    masks = {path: path.stat().st_mtime_ns for path in (output / "masks").iterdir()}
    capsys.readouterr()
    assert segment(photos, output, tiny_preset, "--min-area", "9") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert segment(photos, output, tiny_preset, "--min-area", "9", "--overwrite") == 0
    assert {path: path.stat().st_mtime_ns for path in (output / "masks").iterdir()} == masks
    assert segment(photos, output, tiny_preset, "--seed", "1", "--overwrite") == 0
    assert {path: path.stat().st_mtime_ns for path in (output / "masks").iterdir()} != masks
    assert_consistent(output)


def test_outputs_inside_the_input_folder_are_not_segmented(photos, tmp_path, tiny_preset):
    output = photos / "results"
    for _ in range(2):
        assert segment(photos, output, tiny_preset, "--masks", "grid") == 0
        assert len(assert_consistent(output).imgs) == 3


def test_masks_alone(photos, tmp_path, tiny_preset):
    output = tmp_path / "out"
    arguments = ["masks", photos, "--output", output, "--preset", tiny_preset]
    assert emerseg(*arguments) == 0
    masks = Masks.load(output / "masks" / "b.npz")
    assert masks.label_map.shape == (64, 48)
    assert Image.open(output / "overlays" / "b.png").size == (48, 64)
    assert not (output / "instances.json").exists()
    assert segment(photos, output, tiny_preset) == 2
    before = (output / "masks" / "b.npz").stat().st_mtime_ns
    assert segment(photos, output, tiny_preset, "--overwrite") == 0
    assert (output / "masks" / "b.npz").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("size", "masks"), [((40, 30), "emerdiff"), ((1, 1), "none"), ((900, 2), "none"), ((4000, 3000), "none")]
)
def test_very_small_long_and_large_images(tmp_path, tiny_preset, size, masks):
    path = tmp_path / "photo.png"
    Image.linear_gradient("L").resize(size).convert("RGB").save(path, compress_level=1)
    assert segment(path, tmp_path / "out", tiny_preset, "--masks", masks) == 0
    assert Image.open(tmp_path / "out" / "overlays" / "photo.png").size == size
    coco = COCO(str(tmp_path / "out" / "instances.json"))
    assert sum(annotation["area"] for annotation in coco.anns.values()) == size[0] * size[1]


def test_eval_writes_a_row_per_combination(tmp_path, tiny_preset, capsys):
    pytest.importorskip("toyworld")
    path = tmp_path / "table.json"
    arguments = ["eval", "--dataset", "toy", "--root", "1000000:1000009", "--limit", "2", "--preset", tiny_preset]
    choices = ["--masks", "none,naive,emerdiff,slic,grid", "--clip", "maskclip,clip", "--protocol", "open,bound"]
    assert emerseg(*arguments, *choices, "--json", path) == 0
    table = json.loads(path.read_text())
    assert (table["dataset"], table["images"], len(table["config_hash"])) == ("toy", 2, 64)
    keys = [(row["protocol"], row["masks"], row["clip"]) for row in table["rows"]]
    sources = ("none", "naive", "emerdiff", "slic", "grid")
    assert keys[:10] == [("open", source, clip) for source in sources for clip in ("maskclip", "clip")]
    assert keys[10:] == [("bound", "none", "maskclip"), ("bound", "none", "clip")] + [
        ("bound", source, None) for source in sources[1:]
    ]
    for row in table["rows"]:
        measured = {key for key, value in row.items() if value is not None}
        always = {"protocol", "masks", "pixel_accuracy", "boundary_f2", "boundary_f5", "seconds_per_image"}
        assert always | {"miou" if row["protocol"] == "open" else "bound_miou"} <= measured
        assert ("miou" in measured) != ("bound_miou" in measured)
        assert row["speed"] == ("exact" if row["masks"] == "emerdiff" else None)
    assert "[2/2]" in capsys.readouterr().err


def test_eval_keeps_scores_in_its_folder_and_goes_on_from_them(tmp_path, tiny_preset, capsys):
    output = tmp_path / "eval"
    arguments = ["eval", "--dataset", "toy", "--root", "1000000:1000009", "--preset", tiny_preset, "--output", output]
    choices = ["--masks", "none,naive", "--protocol", "open,bound,modified"]
    assert emerseg(*arguments, *choices, "--limit", "2", "--shuffle-seed", "3") == 0
    written = {path.name for path in output.iterdir()}
    assert {"plan.json", "images", "table.json", "table.md"} <= written
    kept = {path.name: path.stat().st_mtime_ns for path in (output / "images").iterdir()}
    assert len(kept) == 2
    first = json.loads((output / "table.json").read_text())
    assert emerseg(*arguments, *choices, "--limit", "2", "--shuffle-seed", "3") == 0
    assert json.loads((output / "table.json").read_text()) == first
    assert {path.name: path.stat().st_mtime_ns for path in (output / "images").iterdir()} == kept
    assert emerseg(*arguments, *choices, "--limit", "3", "--shuffle-seed", "3") == 0  # one more, and those two
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in (output / "images").iterdir()}.items()
    assert "Protocol `modified`" in (output / "table.md").read_text()
    capsys.readouterr()
    assert emerseg(*arguments, "--masks", "naive", "--protocol", "bound") == 2
    assert "holds another evaluation, which differs in rows" in capsys.readouterr().err


def test_the_help_names_every_data_set():
    from fusion.cli import evaluate
    from fusion.evaluation import datasets

    assert set(evaluate.DATASETS) == set(datasets.DATASETS)


def test_every_speed_on_the_command_line(photos, tmp_path, tiny_preset):
    hashes = set()
    for speed in ("exact", "fast", "instant"):
        output = tmp_path / speed
        assert segment(photos / "a.png", output, tiny_preset, "--speed", speed) == 0
        run = json.loads((output / "run.json").read_text())
        assert run["config"]["emerdiff"]["speed"] == speed
        hashes.add(run["config_hash"])
        assert_consistent(output)
    assert len(hashes) == 3
    table = tmp_path / "table.json"
    arguments = ["eval", "--dataset", "toy", "--root", "1000000:1000001", "--preset", tiny_preset, "--json", table]
    assert emerseg(*arguments, "--masks", "emerdiff", "--speed", "exact,instant", "--protocol", "bound") == 0
    assert [row["speed"] for row in json.loads(table.read_text())["rows"]] == ["exact", "instant"]


def test_eval_of_bounds_alone_needs_no_clip(tmp_path, tiny_preset):
    arguments = ["eval", "--dataset", "toy", "--root", "1000000:1000001", "--preset", tiny_preset]
    choices = ["--masks", "grid", "--protocol", "bound", "--set", f"ovseg.model=local-dir:{tmp_path}/gone"]
    assert emerseg(*arguments, *choices) == 0


def test_images_of_12_bits_are_read_as_such_on_request_and_by_relabel_too(tmp_path, tiny_preset, caplog):
    bright = cv2.resize(np.random.default_rng(0).integers(0, 255, (4, 6), np.uint8), SIZE_HW[::-1])
    for folder, image in (("8", bright), ("12", bright.astype(np.uint16) * 16)):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "a.png")
    outputs = {name: tmp_path / f"out {name}" for name in ("8", "12")}
    assert segment(tmp_path / "8", outputs["8"], tiny_preset, "--masks", "grid") == 0
    assert segment(tmp_path / "12", outputs["12"], tiny_preset, "--masks", "grid", "--bits", "12") == 0
    assert "--bits 12" not in caplog.text
    for labels in (None, "dog, sea"):
        if labels:
            assert all(emerseg("relabel", output, "--labels", labels) == 0 for output in outputs.values())
        overlays = [np.asarray(Image.open(output / "overlays/a.png"), int) for output in outputs.values()]
        assert abs(overlays[0] - overlays[1]).max() <= 2
    assert segment(tmp_path / "12", tmp_path / "dark", tiny_preset, "--masks", "grid") == 0
    assert "if they hold 12 bits, say --bits 12" in caplog.text


def test_a_missing_image_of_a_list_fails_and_the_rest_is_done(photos, tmp_path, tiny_preset, capsys):
    names = tmp_path / "names.txt"
    names.write_text(f"{photos}/a.png\n{photos}/gone.png\n{photos}/b.jpg\n")
    output = tmp_path / "out"
    arguments = ("--labels", LABELS, "--output", output, "--preset", tiny_preset, "--masks", "grid", "-q")
    assert emerseg("segment", names, *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"failed: {photos}/gone.png: ") and "no image file" in line
    assert len(assert_consistent(output).imgs) == 2
    (photos / "gone.png").write_bytes((photos / "a.png").read_bytes())
    assert emerseg("segment", names, *arguments) == 0
    assert len(assert_consistent(output).imgs) == 3


def test_names_of_any_signs_reach_the_terminal_as_escapes(photos, tmp_path, tiny_preset, capsys):
    (photos / "a.png").rename(photos / "a\x1b[31m\nb.png")
    (photos / "c\x1b[0m.png").write_text("no image")
    arguments = ("--output", tmp_path / "out", "--preset", tiny_preset, "--masks", "grid")
    assert emerseg("segment", photos, "--labels", LABELS, *arguments) == 1
    shown = capsys.readouterr().err
    assert "\x1b" not in shown and len(shown.splitlines()) == 5
    assert r"a\x1b[31m\nb: " in shown and r"c\x1b[0m.png: not an image" in shown
    assert emerseg("validate", tmp_path / "out") == 0
    (tmp_path / "out" / "overlays" / "a\x1b[31m\nb.png").unlink()
    assert emerseg("validate", tmp_path / "out") == 1
    assert "\x1b" not in (shown := capsys.readouterr().out) and r"a\x1b[31m b" in shown
