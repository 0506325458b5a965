"""Cityscapes and COCO panoptic: which pixels belong to which object, and which of them are groups."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_datasets import names_of, write_image, write_map, write_text

from fusion.evaluation.datasets import open_dataset
from fusion.evaluation.datasets.coco_ids import PANOPTIC_IDS
from fusion.evaluation.datasets.panoptic import plain

NAME = "frankfurt_000000_000294"
LABEL_IDS = [[7, 24, 24, 26], [3, 33, 26, 26]]  # road, person, person, car | out of roi, bicycle, car, car
TRAIN_IDS = [[0, 11, 11, 13], [255, 18, 13, 13]]
# Two people; a group of cars, and a car of its own; a group of bicycles.
OBJECTS = [[7, 24000, 24001, 26], [3, 33, 26, 26002]]
TRUTH = [[1, 12, 12, 14], [-1, 19, 14, 14]]


def write_city(root, kind="labelIds", values=LABEL_IDS, objects=OBJECTS, name=NAME):
    city = name.split("_")[0]
    write_image(root / f"leftImg8bit/val/{city}/{name}_leftImg8bit.png", (2, 4))
    write_map(root / f"gtFine/val/{city}/{name}_gtFine_{kind}.png", values)
    if objects is not None:
        write_map(root / f"gtFine/val/{city}/{name}_gtFine_instanceIds.png", objects, np.uint16)
    return str(root)


@pytest.mark.parametrize("files", [{}, {"kind": "labelTrainIds", "values": TRAIN_IDS}])
def test_cityscapes_tells_objects_and_groups_apart(tmp_path, files):
    data = open_dataset("cityscapes", write_city(tmp_path, **files))
    assert (len(data.labels), data.names, data.instances) == (19, (NAME,), True)
    assert [data.labels[index - 1].name for index in (1, 12, 14, 19)] == ["road", "person", "car", "bicycle"]
    sample = data.load(NAME)
    assert sample.truth.tolist() == TRUTH
    assert sample.regions.tolist() == [[0, 3, 4, 1], [-1, 2, 1, 5]]
    assert sample.crowds == {1, 2}  # the cars and the bicycles; a road is no group


def test_cityscapes_without_objects_has_classes_as_regions(tmp_path):
    data = open_dataset("cityscapes", write_city(tmp_path, objects=None))
    sample = data.load(NAME)
    assert (data.instances, sample.crowds) == (False, frozenset())
    assert sample.regions.tolist() == [[0, 11, 11, 13], [-1, 18, 13, 13]]


def test_cityscapes_goes_through_its_cities_in_order(tmp_path):
    for name in ("munster_1", "frankfurt_2", "frankfurt_1", "lindau_3"):
        write_city(tmp_path, name=name)
    assert open_dataset("cityscapes", str(tmp_path)).names == ("frankfurt_1", "frankfurt_2", "lindau_3", "munster_1")


def test_what_cityscapes_lacks_is_named(tmp_path):
    write_city(tmp_path, name="ulm_1", objects=None)
    write_city(tmp_path, name="ulm_2")
    with pytest.raises(FileNotFoundError, match=r"^dataset cityscapes: no .*ulm_1_gtFine_instanceIds.png; .*\ncitysc"):
        open_dataset("cityscapes", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no folder leftImg8bit/val in"):
        open_dataset("cityscapes", str(tmp_path / "gtFine"))
    with pytest.raises(FileNotFoundError, match=r"root is '.*nowhere', and there is no such folder"):
        open_dataset("cityscapes", str(tmp_path / "nowhere"))
    write_image(tmp_path / "leftImg8bit/val/ulm/ulm_3_leftImg8bit.png")
    (tmp_path / "gtFine/val/ulm/ulm_1_gtFine_labelIds.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"ulm_1_gtFine_labelIds.png, .*ulm_3_gtFine_labelIds.png, .* and 1 more"
    ):
        open_dataset("cityscapes", str(tmp_path))


def test_a_label_id_beyond_those_of_cityscapes_is_an_error(tmp_path):
    data = open_dataset("cityscapes", write_city(tmp_path, values=[[34, 0, 0, 0]] * 2))
    with pytest.raises(ValueError, match=r"labelIds.png has the class 34, expected one of 0…33, 255"):
        data.load(NAME)


CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 187, "name": "sky-other-merged", "isthing": 0},
    {"id": 171, "name": "wall-brick", "isthing": 0},
]
# Ids are R + 256 G + 65536 B: 0, 5, 5 + 256 · 3, 65536 · 2.
PIXELS = [[(0, 0, 0), (5, 0, 0), (5, 3, 0)], [(0, 0, 2), (0, 0, 2), (5, 3, 0)]]
SEGMENTS = [
    {"id": 5, "category_id": 1, "iscrowd": 0},
    {"id": 5 + 256 * 3, "category_id": 1, "iscrowd": 1},
    {"id": 65536 * 2, "category_id": 187, "iscrowd": 0},
    {"id": 99, "category_id": 171, "iscrowd": 0},  # listed, and nowhere in the image
]


def write_panoptic(root, segments=SEGMENTS, categories=CATEGORIES, images="val2017", maps="annotations/"):
    write_image(root / images / "a.jpg")
    write_map(root / f"{maps}panoptic_val2017/a.png", PIXELS)
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    content = {"annotations": annotations, "categories": categories}
    write_text(root / "annotations/panoptic_val2017.json", json.dumps(content))
    return str(root)


@pytest.mark.parametrize("folders", [{}, {"images": "images/val2017", "maps": ""}])
def test_panoptic_segments_are_regions_and_crowds_are_told(tmp_path, folders):
    data = open_dataset("coco-panoptic", write_panoptic(tmp_path, **folders))
    assert (data.names, data.instances) == (("a",), True)
    assert [(label.name, label.stuff) for label in data.labels] == [
        *(("person", False), ("sky", True), ("brick wall", True))
    ]
    sample = data.load("a")
    assert sample.truth.tolist() == [[-1, 1, 1], [2, 2, 1]]
    assert sample.regions.tolist() == [[-1, 0, 1], [2, 2, 1]]
    assert sample.crowds == {1}


def test_the_133_categories_of_coco_have_our_labels(tmp_path):
    categories = [{"id": id_, "name": f"name-{id_}", "isthing": int(id_ < 92)} for id_ in PANOPTIC_IDS]
    data = open_dataset("coco-panoptic", write_panoptic(tmp_path, categories=categories))
    assert (len(data.labels), names_of(data.labels)[:2]) == (133, ["person", "bicycle"])
    assert data.labels[data.load("a").truth[1, 0] - 1].name == "sky"
    assert [label.stuff for label in data.labels] == [False] * 80 + [True] * 53


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sky-other-merged", "sky"),
        ("door-stuff", "door"),
        ("tree-merged", "tree"),
        ("wall-brick", "brick wall"),
        ("floor-other-merged", "floor"),
        ("floor-wood", "wood floor"),
        ("window-blind", "window blind"),
        ("teddy bear", "teddy bear"),
    ],
)
def test_names_of_coco_become_plain_words(name, expected):
    assert plain(name) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": SEGMENTS[1:]}, r"a.png has the segment 5, which annotations/panoptic_val2017.json does not list"),
        (
            {"segments": [{"id": 5, "category_id": 2}]},
            r"val2017.json is no file of COCO panoptic \(KeyError: 2",
        ),
        ({"segments": None}, r"panoptic_val2017.json is no file of COCO panoptic \(TypeError"),
        ({"categories": [{"id": 1}]}, r"panoptic_val2017.json is no file of COCO panoptic \(KeyError: 'name'"),
    ],
)
def test_panoptic_files_that_do_not_fit_are_one_line(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_dataset("coco-panoptic", write_panoptic(tmp_path, **change)).load("a")
    assert "\n" not in str(caught.value)


def test_panoptic_maps_of_indices_are_refused(tmp_path):
    root = write_panoptic(tmp_path)
    write_map(tmp_path / "annotations/panoptic_val2017/a.png", [[5, 5, 5]] * 2)
    with pytest.raises(ValueError, match=r"a.png is \(2, 3\), expected RGB whose ids are R \+ 256 G"):
        open_dataset("coco-panoptic", root).load("a")


def test_what_panoptic_lacks_is_named(tmp_path):
    write_panoptic(tmp_path)
    (tmp_path / "annotations/panoptic_val2017/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"^dataset coco-panoptic: no .*panoptic_val2017/a.png; .*\ncoco/"):
        open_dataset("coco-panoptic", str(tmp_path))
    (tmp_path / "annotations/panoptic_val2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*annotations/panoptic_val2017.json; expected"):
        open_dataset("coco-panoptic", str(tmp_path))
