"""COCO-Stuff with its gaps and its groups, and COCO-Object from each kind of file that it can be made of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tiny_datasets import names_of, write_image, write_map, write_text

from fusion.evaluation.datasets import open_dataset

# Ids of COCO-Stuff less 1, as it publishes them: person, tv (72), toothbrush (90) | banner (92), wood (182), void.
RAW = [[0, 71, 89], [91, 181, 255]]
CONVERTED = [[0, 62, 79], [80, 170, 255]]
TRUTH = [[1, 63, 80], [81, 171, -1]]
NAME = "000000000139"


def write_coco(root, maps="annotations/val2017", images="images/val2017", suffix=".png", values=RAW, name=NAME):
    write_image(root / images / f"{name}.jpg")
    write_map(root / maps / f"{name}{suffix}", values)
    return str(root)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"maps": "stuffthingmaps/val2017", "images": "val2017"},
        {"suffix": "_labelTrainIds.png", "values": CONVERTED},
    ],
)
def test_coco_stuff_closes_the_gaps_of_its_ids(tmp_path, files):
    data = open_dataset("coco-stuff", write_coco(tmp_path, **files))
    sample = data.load(NAME)
    assert (data.names, data.background, data.instances) == ((NAME,), (), False)
    assert sample.truth.tolist() == TRUTH
    assert sample.regions.tolist() == [[0, 62, 79], [80, 170, -1]]
    assert [data.labels[index - 1].name for row in TRUTH for index in row if index > 0] == [
        *("person", "tv", "toothbrush", "banner", "wood")
    ]


def test_converted_label_maps_count_where_both_lie_side_by_side(tmp_path):
    write_coco(tmp_path)
    data = open_dataset("coco-stuff", write_coco(tmp_path, suffix="_labelTrainIds.png", values=[[1, 1, 1], [1, 1, 1]]))
    assert (data.names, data.load(NAME).truth.tolist()) == ((NAME,), [[2, 2, 2], [2, 2, 2]])


def test_a_class_that_nobody_labelled_is_an_error(tmp_path):
    data = open_dataset("coco-stuff", write_coco(tmp_path, values=[[11, 0, 0], [0, 0, 0]]))  # 12: street sign
    with pytest.raises(ValueError, match=r"139.png has the class 11, expected one of 0…10, 12…24, 26…27, 30…43, .*255"):
        data.load(NAME)


@pytest.mark.parametrize("files", [{}, {"suffix": "_labelTrainIds.png", "values": CONVERTED}])
def test_coco_stuff27_joins_classes_to_groups(tmp_path, files):
    data = open_dataset("coco-stuff27", write_coco(tmp_path, **files))
    assert data.load(NAME).truth.tolist() == [[10, 1, 5], [18, 25, -1]]
    first_words = [data.labels[index - 1].name for index in (10, 1, 5, 18, 25)]
    assert first_words == ["person", "electronic device", "household item", "textile", "mountain"]


def test_coco_stuff27_takes_the_curated_images_if_there_is_a_list(tmp_path):
    for name in ("a", "b", "c"):
        write_coco(tmp_path, name=name)
    assert open_dataset("coco-stuff27", str(tmp_path)).names == ("a", "b", "c")
    write_text(tmp_path / "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt", "c\na\n")
    assert open_dataset("coco-stuff27", str(tmp_path)).names == ("c", "a")
    assert open_dataset("coco-stuff", str(tmp_path)).names == ("a", "b", "c")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"suffix": "_labelTrainIds.png", "values": CONVERTED},
        {"suffix": "_instanceTrainIds.png", "values": [[1, 63, 80], [0, 0, 0]]},
    ],
)
def test_coco_object_has_things_over_a_background(tmp_path, files):
    data = open_dataset("coco-object", write_coco(tmp_path, **files))
    assert (len(data.labels), data.labels[79].name) == (80, "toothbrush")
    assert {"sky", "wall", "grass"} <= set(names_of(data.background))
    sample = data.load(NAME)
    assert sample.truth.tolist() == [[1, 63, 80], [0, 0, 0]]  # what is void is background, as the converter has it
    assert sample.regions.tolist() == [[0, 62, 79], [-1, -1, -1]]


def rle(mask, text=True):
    if text:
        encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    values = np.asarray(mask, np.uint8).ravel(order="F")
    changes = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *changes, values.size]).tolist()
    return {"size": list(np.shape(mask)), "counts": runs if values[0] == 0 else [0, *runs]}


def write_instances(root, annotations):
    for file in ("a.jpg", "b.jpg"):
        write_image(root / "val2017" / file, (3, 4))
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    text = json.dumps({"images": images, "annotations": annotations})
    write_text(root / "annotations/instances_val2017.json", text)
    return str(root)


def annotation(category_id, segmentation, image_id=7, iscrowd=0):
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "iscrowd": iscrowd,
    }


def test_coco_object_from_instances_draws_later_objects_over_earlier_ones_and_crowds_below(tmp_path):
    left = [[1, 1, 0, 0]] * 3
    middle = [[0, 1, 1, 0]] * 3
    upper = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    square = [[2.0, 1.0, 4.0, 1.0, 4.0, 3.0, 2.0, 3.0]]  # x y x y …: the lower right 2 × 2 pixels
    root = write_instances(
        tmp_path,
        [
            annotation(1, rle(left)),
            annotation(18, rle(middle, text=False)),
            annotation(90, rle(upper), iscrowd=1),
            annotation(72, square),
        ],
    )
    data = open_dataset("coco-object", root)
    assert data.names == ("a", "b")
    assert data.load("a").truth.tolist() == [[1, 17, 17, 80], [1, 17, 63, 63], [1, 17, 63, 63]]
    assert data.load("b").truth.tolist() == [[0] * 4] * 3
    assert [data.labels[index - 1].name for index in (17, 63, 80)] == ["dog", "tv", "toothbrush"]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([annotation(12, rle([[1]]))], r"is no file of COCO instances \(KeyError: 12\)"),
        ([{"image_id": 7}], "is no file of COCO instances"),
        (["x"], "is no file of COCO instances"),
        ([annotation(1, rle([[1, 1]]))], r"a.jpg cannot be drawn: RLE of size \(1, 2\), expected .* \(3, 4\)"),
        ([annotation(1, 5)], "a.jpg cannot be drawn"),
    ],
)
def test_damaged_instances_are_one_line_with_the_path(tmp_path, annotations, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_dataset("coco-object", write_instances(tmp_path, annotations)).load("a")
    assert "instances_val2017.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}'])
def test_what_is_no_coco_json_is_one_line_with_the_path(tmp_path, text):
    write_image(tmp_path / "val2017/a.jpg")
    write_text(tmp_path / "annotations/instances_val2017.json", text)
    with pytest.raises(ValueError, match=r"instances_val2017.json (is no JSON|has no list of)") as caught:
        open_dataset("coco-object", str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["coco-stuff", "coco-stuff27", "coco-object"])
def test_missing_label_maps_are_named(tmp_path, name):
    write_image(tmp_path / "images/val2017/a.jpg")
    with pytest.raises(FileNotFoundError, match=rf"^dataset {name}: no .*annotations.*expected as the root:\ncoco"):
        open_dataset(name, str(tmp_path))
    write_coco(tmp_path, name="b")
    with pytest.raises(FileNotFoundError, match=rf"^dataset {name}: no .*annotations/val2017/a.png; expected"):
        open_dataset(name, str(tmp_path))
