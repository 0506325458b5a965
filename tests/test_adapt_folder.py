"""What `emerseg adapt` reads of a user's folder, what it refuses, and which tenth it holds out."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from tiny_adapt import save_images, save_start, save_user_folder

from fusion.evaluation.datasets import open_dataset
from ground.presets import read_preset
from training.adapt.folder import MIN_IMAGES, as_tags, check_words, read_collection
from training.adapt.labels import label_roots
from training.adapt.split import LARGEST, held_paths, split
from training.adapt.start import masks_start, words_start
from training.adapt.task import Task, planned
from training.photos import read_photos


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    return save_user_folder(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_start(tmp_path_factory.mktemp("start"))


def collection_of(folder):
    return read_collection(folder, folder / "out")


@pytest.mark.parametrize(
    ("line", "tags"),
    [
        ("dog; green grass", ["dog", "green grass"]),
        ("dog, green grass", ["dog", "green grass"]),
        ("golden retriever", ["golden retriever"]),
        ("a dog", []),
        ("Dogs run.", []),
        ("a dog, and the grass", []),
        ("two dogs that run on grass, blue sky", []),
    ],
)
def test_a_line_beside_an_image_is_tags_or_a_caption(line, tags):
    assert as_tags(line) == tags


def test_texts_beside_images_are_read(tmp_path):
    save_images(tmp_path, [f"{index:02}.png" for index in range(20)])
    (tmp_path / "00.txt").write_text("dog, grass\nA dog runs on grass.\n")
    (tmp_path / "01.txt").write_text("\n")
    found = collection_of(tmp_path)
    assert found.said_by == "text files" and len(found.photos) == 20
    assert (found.photos[0].tags, found.photos[0].caption) == (("dog", "grass"), "A dog runs on grass.")
    assert all(not photo.tags and not photo.caption for photo in found.photos[1:])
    with pytest.raises(ValueError, match=r"1 images of .* have tags or a caption, expected at least 20 for words"):
        check_words(found)


def test_folders_are_classes_where_all_of_them_have_a_name_of_one(tmp_path):
    save_images(tmp_path, [f"{name}/{index:02}.png" for name in ("garbage_truck", "dog") for index in range(10)])
    found = collection_of(tmp_path)
    assert found.said_by == "names of folders" and found.tags == ["dog", "garbage truck"]
    check_words(found)
    save_images(tmp_path, ["2024/a.png"])
    found = collection_of(tmp_path)
    assert found.said_by == "nothing" and found.tags == []
    with pytest.raises(ValueError, match=r"nothing says what the images of .* show"):
        check_words(found)


def test_images_alone_train_masks_and_nothing_else(tmp_path, start):
    save_images(tmp_path, [f"{index:02}.png" for index in range(20)])
    plan = planned(Task(tmp_path, tmp_path / "out", start=str(start), minutes=6), collection_of(tmp_path))
    assert plan.words is None and plan.minutes == {"masks": 6} and plan.parts == "masks"
    with pytest.raises(ValueError, match="nothing says what"):
        planned(Task(tmp_path, tmp_path / "out", what="both", start=str(start)), collection_of(tmp_path))


def test_minutes_are_a_third_for_words(user, start, tmp_path):
    for what, minutes in (
        (None, {"words": 3, "masks": 6}),
        ("both", {"words": 3, "masks": 6}),
        ("words", {"words": 9}),
        ("masks", {"masks": 9}),
    ):
        plan = planned(Task(user, tmp_path, what=what, start=str(start), minutes=9), collection_of(user))
        assert plan.minutes == pytest.approx(minutes)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,text\n00.png,x\n", "has the columns file, text, expected path, tags, caption"),
        ("path,tags,caption\n", "has the columns -, expected path, tags, caption"),
        ("path,tags,caption\n00.png\ngone.png,dog,\n", r"names .*gone.png: no such file"),
        ("path,tags,caption\n00.png,dog,\n00.png,cat,\n", r"names .*00.png twice, expected a line for each image"),
        ("path,tags,caption\n00.png,dog,\n", f"has 1 images, expected at least {MIN_IMAGES}"),
        ("path,tags,caption\n" + "".join(f"{i:02}.png,1;2,\n" for i in range(20)), r"the tag '1' of .* names nothing"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(table, message, tmp_path):
    save_images(tmp_path, [f"{index:02}.png" for index in range(20)])
    (tmp_path / "captions.csv").write_text(table)
    with pytest.raises(ValueError, match=message) as caught:
        collection_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_images_and_one_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no images in"):
        collection_of(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        collection_of(tmp_path / "gone")


def test_tags_that_are_the_same_everywhere_teach_no_words(tmp_path):
    save_images(tmp_path, [f"{index:02}.png" for index in range(20)])
    (tmp_path / "captions.csv").write_text("path,tags,caption\n" + "".join(f"{i:02}.png,dog,\n" for i in range(20)))
    with pytest.raises(ValueError, match=r"are said to show the same \(dog\): words need two kinds"):
        check_words(collection_of(tmp_path))


def test_what_cannot_be_adapted_is_refused(start, user, tmp_path):
    for preset, what, message in (
        ("sd15", "words", "words of .* cannot be adapted: expected a preset such as mini.*--masks leaves"),
        ("sd15", "masks", "masks of .* cannot be adapted: expected a preset such as mini.*--words leaves"),
        ("sd99", "masks", "expected one of .*mini, mini-research, "),
    ):
        with pytest.raises(ValueError, match=message):
            planned(Task(user, tmp_path, what=what, start=preset), collection_of(user))
    plan = planned(Task(user, tmp_path, start=str(start)), collection_of(user))
    assert (words_start(plan.preset.ovseg), masks_start(plan.preset.emerdiff)) == (plan.words, plan.masks)


def test_a_unet_too_large_for_a_laptop_is_refused(user, start, tmp_path, monkeypatch):
    monkeypatch.setattr("training.adapt.start.MAX_UNET_MB", 0.01)
    with pytest.raises(ValueError, match=r"the UNet of .* MB, expected at most 0.01 to adapt its masks"):
        planned(Task(user, tmp_path, start=str(start)), collection_of(user))


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_minutes_are_a_number_above_zero(minutes, tmp_path):
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        Task(tmp_path, tmp_path, minutes=minutes)


def test_the_tenth_is_that_of_eval_where_there_are_label_maps(user):
    held = held_paths(collection_of(user))
    streets = sorted(path.stem for path in held if path.parent.name == "streets")
    pets = sorted(path.stem for path in held if path.parent.name == "pets")
    assert streets == ["00", "10"] and pets == ["00", "10"]
    (root,) = label_roots(user)
    assert list(open_dataset("pictures", f"{root}:0::10").names) == streets


def test_copies_hold_what_is_said_and_are_made_once(user, tmp_path):
    halves = split(collection_of(user), tmp_path)
    assert (halves.train_count, halves.held_count, halves.unreadable) == (36, 4, ())
    train, held = read_photos(halves.train), read_photos(halves.held)
    assert (len(train), len(held)) == (36, 4)
    assert {photo.source for photo in train} == {"images/pets", "images/streets"}
    assert not {photo.path.name for photo in train if photo.source == "images/pets"} & {"00.png.jpg", "10.png.jpg"}
    assert next(photo for photo in held if photo.source == "images/streets").tags == ("road", "sky")
    stamps = {photo.path: photo.path.stat().st_mtime_ns for photo in train}
    assert split(collection_of(user), tmp_path) == halves
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_copies_are_upright_and_no_larger_than_needed_and_damaged_images_are_named(tmp_path):
    folder = tmp_path / "user"
    save_images(folder, [f"{index:02}.jpg" for index in range(20)])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(np.zeros((500, 1000, 3), np.uint8)).save(folder / "01.jpg", exif=exif)
    (folder / "02.jpg").write_bytes(b"no image")
    halves = split(collection_of(folder), tmp_path / "work")
    assert (halves.train_count, halves.held_count) == (17, 2)
    assert len(halves.unreadable) == 1 and "02.jpg: not an image" in halves.unreadable[0]
    with Image.open(tmp_path / "work/train/01.jpg.jpg") as copy:
        assert copy.size == (LARGEST, 2 * LARGEST)
    with (tmp_path / "work/train/captions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 17


def test_models_beside_a_preset_move_with_it(tmp_path):
    path = tmp_path / "preset.yaml"
    path.write_text(
        "emerdiff: {model: ./weights/masks, decoder: ../tiny}\novseg: {model: 'local-dir:./weights/words'}\n"
        "fusion: {}\n"
    )
    read = read_preset(path)
    assert read["emerdiff"] == {"model": f"{tmp_path}/weights/masks", "decoder": "../tiny"}
    assert read["ovseg"] == {"model": f"local-dir:{tmp_path}/weights/words"}
