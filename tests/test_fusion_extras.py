"""Exports beside COCO: each is the same partition in another form, resumes, and follows the folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from test_cli import emerseg
from test_cli_segment import contents, segment
from test_fusion_coco import LABEL_MAPS, segmentation_of
from test_fusion_merge import coco_of

from emerseg import RunSpec, run_folder
from fusion.formats import yolo
from fusion.formats.coco import regions
from fusion.formats.schema import ImageRecord
from fusion.runs.convert import convert
from fusion.runs.inputs import find_images
from fusion.validate import validate
from ground import files
from ground.files import replacing
from ovseg import Label

EVERY = "yolo,labelstudio,polygon,polygon-centers"
GRID = ("--masks", "grid", "-q")


@pytest.fixture
def photos(tmp_path):
    """Three images: photos/a.png, photos/b.jpg turned by EXIF, photos/sub/a.gif, whose suffix YOLO does not know."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, more in (("a.png", {}), ("b.jpg", {"exif": exif}), ("sub/a.gif", {})):
        pixels = cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(pixels).save(folder / name, **more)
    return folder


def record_of(label_map):
    """The record of a label map: cat and boat are things, grass and sky are stuff."""
    labels = [Label("cat"), Label("grass", stuff=True), Label("sky", stuff=True), Label("boat")]
    result = segmentation_of(label_map, labels)
    found, _ = regions(result)
    return ImageRecord(
        size_hw=list(label_map.shape),
        pixels="0" * 64,
        overlay_pixels="0" * 64,
        regions=found,
        polygons=None,
        thumbnail="",
        overlay="",
    ), labels


# Laws of YOLO's rows


@given(LABEL_MAPS)
def test_rows_drawn_again_are_the_label_map(label_map):
    record, _ = record_of(label_map)
    classes, twice = yolo.drawn(yolo.label_rows(record).decode(), label_map.shape)
    np.testing.assert_array_equal(classes, label_map)
    assert twice == 0


@settings(max_examples=20)
@given(arrays(np.int32, (23, 37), elements=st.integers(0, 1)), st.integers(1, 9))
def test_rows_are_exact_for_readers_that_round_and_that_cut_off(mask, times):
    large = np.kron(mask, np.ones((1, times), np.int32)).astype(np.int32)
    record, _ = record_of(large)
    for decimals in (lambda points: points, np.round):
        found = np.zeros(large.shape, np.uint8)
        for row in yolo.label_rows(record).decode().splitlines():
            points = np.array(row.split()[1:], np.float32).reshape(-1, 2) * large.shape[::-1]
            cv2.fillPoly(found, [decimals(points).astype(np.int32)], 1)
        np.testing.assert_array_equal(found, large > 0)


def test_a_row_per_piece_and_classes_from_0():
    label_map = np.zeros((9, 12), np.int32)
    label_map[1:4, 1:4] = 4  # a boat with a hole
    label_map[2, 2] = 0
    label_map[6:8, 1:3] = label_map[6, 6] = label_map[8, 11] = 3  # sky of three pieces
    record, _ = record_of(label_map)
    rows = [row.split() for row in yolo.label_rows(record).decode().splitlines()]
    assert [int(row[0]) for row in rows] == [2, 2, 2, 3]
    assert all(len(row) >= 7 and len(row) % 2 for row in rows)
    assert all(0 <= float(value) < 1 for row in rows for value in row[1:])
    np.testing.assert_allclose(np.array(rows[1][1:], float).reshape(-1, 2), [[6.499 / 12, 6.499 / 9]] * 3, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 0 0 1 0 1 1", "row 1 is no class"),
        ("0 0 0 1 1", "row 1 has 4 coordinates"),
        ("0 0 0 1 0 1 1\n\n", "row 2 is no class"),
        ("0 0 0 1 0 1 2", "not in 0..1"),
        ("-1 0 0 1 0 1 1", "a class below 0"),
        ("0 0 0 nan 0 1 1", "not in 0..1"),
    ],
)
def test_what_is_no_row_is_said(text, expected):
    with pytest.raises(ValueError, match=expected):
        yolo.drawn(text, (4, 4))


# Folders


def test_a_folder_has_what_yolo_s_tools_look_for(photos, tiny_preset, tmp_path):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", "yolo") == 0
    assert list(validate(output)) == []
    data = yaml.safe_load((output / "yolo/data.yaml").read_text(encoding="utf-8"))
    assert data == {"train": "images", "val": "images", "names": {0: "cat", 1: "grass", 2: "sky"}}
    images = sorted((output / "yolo/images").iterdir())
    assert [path.name for path in images] == ["a-2.png", "a.png", "b.jpg"]
    assert [os.path.realpath(path) for path in images[1:]] == [
        os.path.realpath(photos / name) for name in ("a.png", "b.jpg")
    ]
    assert not os.path.isabs(os.readlink(images[1])) and not images[0].is_symlink()
    assert Image.open(images[0]).size == (64, 48)
    for path in images:
        label = (output / "yolo/labels" / path.name).with_suffix(".txt")
        semantic = np.array(Image.open(output / "semantic" / f"{path.stem}.png"))
        np.testing.assert_array_equal(yolo.drawn(label.read_text(), semantic.shape)[0], semantic)
    # Together with the images it may be moved
    shutil.move(tmp_path / "photos", tmp_path / "there" / "photos")
    shutil.move(output, tmp_path / "there" / "out")
    assert (tmp_path / "there/out/yolo/images/a.png").exists()


@pytest.mark.parametrize("style", ["rle", "polygon-centers"])
def test_converted_is_exported(photos, tiny_preset, tmp_path, style, capsys):
    """`--export`, `convert` afterwards and a run that goes on give the same bytes; no model is needed for `convert`."""
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    more = (*GRID, "--segmentation", style)
    assert segment(photos, one, tiny_preset, *more, "--export", EVERY) == 0
    assert segment(photos, two, tiny_preset, *more) == 0
    before = contents(two)
    assert emerseg("convert", two, "--to", EVERY) == 0
    assert f"{two / 'yolo/data.yaml'}, {two / 'labelstudio.json'}" in capsys.readouterr().out
    assert contents(two) == contents(one)
    assert {name: data for name, data in contents(two).items() if name in before} == before
    assert segment(photos, three, tiny_preset, *more, "--limit", "1", "--export", "yolo") == 0
    assert segment(photos, three, tiny_preset, *more, "--export", EVERY.replace("yolo,", "")) == 0
    assert contents(three) == contents(one)
    assert list(validate(one)) == list(validate(two)) == list(validate(three)) == []


def test_polygons_are_the_masks_for_pycocotools(photos, tiny_preset, tmp_path):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", "polygon") == 0
    rle, polygons = coco_of(output / "instances.json"), coco_of(output / "instances-polygon.json")
    assert rle.anns.keys() == polygons.anns.keys() and rle.anns
    for number in rle.anns:
        np.testing.assert_array_equal(rle.annToMask(rle.anns[number]), polygons.annToMask(polygons.anns[number]))
        assert isinstance(polygons.anns[number]["segmentation"], list)


def test_exports_follow_the_folder(photos, tiny_preset, tmp_path):
    """Other labels, without a word about exports: they are made anew, and say what the folder says."""
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", EVERY) == 0
    assert emerseg("relabel", output, "--labels", "dog, tree", "-q") == 0
    assert list(validate(output)) == []
    assert yaml.safe_load((output / "yolo/data.yaml").read_text())["names"] == {0: "dog", 1: "tree"}
    assert json.loads((output / "run.json").read_text())["exports"] == EVERY.split(",")
    fresh = tmp_path / "fresh"
    run_folder(RunSpec(tiny_preset, ["dog", "tree"], masks="grid", exports=EVERY.split(",")), photos, fresh)
    assert contents(fresh) == contents(output)


@pytest.mark.parametrize("lost", ["yolo/labels/a.txt", "yolo/images/b.jpg", "labelstudio/a.json", "polygon/b.json"])
def test_what_was_deleted_or_damaged_is_named_and_made_again(photos, tiny_preset, tmp_path, lost):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", EVERY) == 0
    before = contents(output)
    (output / lost).unlink()
    assert len(list(validate(output))) == 1
    assert segment(photos, output, tiny_preset, *GRID) == 0
    assert contents(output) == before and list(validate(output)) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("yolo/data.yaml", "cat", "dog", "yolo/data.yaml: says"),
        ("yolo/labels/a.txt", "0.0", "0.1", "px differ, as they are drawn"),
        ("labelstudio.json", '"rle":[0', '"rle":[1', "labels and masks"),
        ("instances-polygon.json", '"area": ', '"area": 1', "annotations, against instances.json"),
        ("instances-polygon-centers.json", "[[0.25", "[[1.25", "its polygons are not its mask"),
    ],
)
def test_what_differs_is_named(photos, tiny_preset, tmp_path, path, old, new, expected):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", EVERY) == 0
    text = (output / path).read_text()
    assert old in text
    (output / path).write_text(text.replace(old, new, 1))
    faults = [f"{fault.path}: {fault.message}" for fault in validate(output)]
    assert faults and any(expected in fault for fault in faults), faults


@pytest.mark.parametrize("stop_at", [1, 2, 5])
def test_a_conversion_that_was_killed_goes_on_to_the_same_bytes(photos, tiny_preset, tmp_path, monkeypatch, stop_at):
    whole, output = tmp_path / "whole", tmp_path / "out"
    assert segment(photos, whole, tiny_preset, *GRID, "--export", EVERY) == 0
    assert segment(photos, output, tiny_preset, *GRID) == 0
    real, calls = replacing, []

    def killed(path):
        calls.append(path)
        if len(calls) > stop_at:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(files, "replacing", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(output, EVERY.split(","))
    monkeypatch.setattr(files, "replacing", real)
    assert list(validate(output)) == []
    convert(output, EVERY.split(","))
    assert contents(output) == contents(whole) and list(validate(output)) == []


def test_where_there_can_be_no_links_images_are_copied(photos, tiny_preset, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", "yolo") == 0
    copy = output / "yolo/images/b.jpg"
    assert not copy.is_symlink() and copy.read_bytes() == (photos / "b.jpg").read_bytes()
    assert list(validate(output)) == []


def test_copies_follow_their_images(photos, tiny_preset, tmp_path):
    """yolo/images holds a PNG of a GIF: of the one that is there now."""
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", "yolo") == 0
    Image.new("RGB", (64, 48), (0, 0, 255)).save(photos / "sub/a.gif")
    assert segment(photos, output, tiny_preset, *GRID) == 0
    assert Image.open(output / "yolo/images/a-2.png").getpixel((5, 5)) == (0, 0, 255)


def test_a_data_set_of_somebody_else_stays(photos, tiny_preset, tmp_path, capsys):
    theirs = tmp_path / "out/yolo/data.yaml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("train: images\n")
    assert segment(photos, tmp_path / "out", tiny_preset, *GRID, "--export", "yolo") == 2
    assert f"{theirs} is not of a run of ours" in capsys.readouterr().err
    assert theirs.read_text() == "train: images\n" and not (tmp_path / "out/instances.json").exists()


@pytest.mark.parametrize("more", [(), ("--export", "yolo")])
def test_inputs_in_a_folder_called_like_ours_stay(tiny_preset, tmp_path, more):
    image, other = tmp_path / "out/yolo/images/a.png", tmp_path / "out/yolo/labels/b.txt"
    for path in (image, other):
        path.parent.mkdir(parents=True)
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(image)
    other.write_text("theirs")
    (tmp_path / "b.png").write_text("no image")
    before = image.read_bytes()
    for _ in range(2):
        assert emerseg(
            *("segment", image, tmp_path / "b.png", "--labels", "cat, sky", "--output", tmp_path / "out"),
            *("--preset", tiny_preset, *GRID, *more),
        )
    assert image.read_bytes() == before and other.read_text() == "theirs"
    assert (tmp_path / "out/semantic/a.png").exists()


def test_nothing_is_written_through_a_link(photos, tiny_preset, tmp_path, capsys):
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (output / "yolo").symlink_to(elsewhere)
    assert segment(photos, output, tiny_preset, *GRID, "--export", "yolo") == 2
    assert "is a link" in capsys.readouterr().err and not list(elsewhere.iterdir())


def test_images_of_exports_are_no_inputs(photos, tiny_preset, tmp_path):
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", "yolo") == 0
    found = find_images([tmp_path])
    assert found == sorted(path for path in photos.rglob("*.*"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["convert", "OUT", "--to", "cocoa"], "'cocoa' given, expected one of yolo, labelstudio"),
        (["convert", "OUT", "--to", "yolo,yolo"], "names something twice"),
        (["convert", "OUT"], "--to"),
        (["convert", "gone", "--to", "yolo"], "no run.json in gone"),
        (["segment", "PHOTOS", "--labels", "a", "--output", "x", "--export", "b"], "'b' given, expected one of yolo"),
    ],
)
def test_wrong_use_is_one_line(photos, tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert emerseg(*[str(photos) if argument == "PHOTOS" else argument for argument in arguments]) == 2
    shown = capsys.readouterr().err
    assert expected in shown and len(shown.splitlines()) == 1


def test_masks_without_labels_are_no_exports(photos, tiny_preset, tmp_path):
    output = tmp_path / "out"
    run_folder(RunSpec(tiny_preset, masks="grid"), photos, output)
    with pytest.raises(ValueError, match="holds masks without labels"):
        convert(output, ["yolo"])
    with pytest.raises(ValueError, match="there are no labels for them"):
        RunSpec(tiny_preset, masks="grid", exports=["yolo"])
    with pytest.raises(ValueError, match="export is 'coco', expected one of yolo, labelstudio, parquet"):
        RunSpec(tiny_preset, ["a"], exports=["coco"])
