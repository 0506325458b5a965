"""Label files of the data sets: as many labels as classes, in the order of the official indices, each name once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fusion.evaluation.datasets import names
from fusion.evaluation.datasets.coco_ids import GROUPS, IDS, PANOPTIC_IDS
from fusion.evaluation.datasets.names import background_of, labels_of
from ovseg.stuff import USUAL_STUFF

FOLDER = Path(names.__file__).parent
# Files, how many labels of things and of stuff, and the official classes of some indices from 0.
LISTS = {
    "voc20": (["voc20"], 20, 0, {0: "aeroplane", 1: "bicycle", 14: "person", 17: "sofa", 18: "train", 19: "tv"}),
    "context59": (["context59"], 41, 18, {0: "aeroplane", 1: "bag", 29: "ground", 36: "person", 58: "wood"}),
    "coco-object": (["coco-things"], 80, 0, {0: "person", 1: "bicycle", 62: "tv", 78: "hair drier", 79: "toothbrush"}),
    "coco-stuff": (
        ["coco-things", "coco-stuff"],
        80,
        91,
        {0: "person", 79: "toothbrush", 80: "banner", 112: "grass", 146: "skyscraper", 147: "snow", 170: "wood"},
    ),
    "coco-stuff27": (["coco-stuff27"], 12, 15, {1: "oven", 7: "animal", 9: "person", 12: "ceiling", 26: "water"}),
    "ade20k": (
        ["ade20k"],
        100,
        50,
        {0: "wall", 1: "building", 2: "sky", 50: "refrigerator", 100: "poster", 129: "dishwasher", 149: "flag"},
    ),
    "cityscapes": (["cityscapes"], 8, 11, {0: "road", 7: "traffic sign", 10: "sky", 11: "person", 18: "bicycle"}),
    "coco-panoptic": (
        ["coco-things", "coco-panoptic"],
        80,
        53,
        {0: "person", 79: "toothbrush", 80: "banner", 114: "window blind", 116: "tree", 132: "rug"},
    ),
}
BACKGROUNDS = {"background-voc": "voc20", "background-context": "context59", "background-coco": "coco-things"}


def texts(labels):
    return [text.casefold() for label in labels for text in (label.name, *label.synonyms)]


@pytest.mark.parametrize("name", LISTS)
def test_labels_are_the_classes_in_their_order(name):
    files, things, stuff, known = LISTS[name]
    labels = labels_of(*files)
    assert [sum(not label.stuff for label in labels), sum(label.stuff for label in labels)] == [things, stuff]
    for index, text in known.items():
        assert text in texts(labels[index : index + 1])


@pytest.mark.parametrize("name", LISTS)
def test_no_text_means_two_classes(name):
    assert [text for text, count in Counter(texts(labels_of(*LISTS[name][0]))).items() if count > 1] == []


@pytest.mark.parametrize("file", BACKGROUNDS)
def test_background_labels_mean_no_class(file):
    labels = labels_of(BACKGROUNDS[file])
    background = background_of(file, labels)
    assert len(background) >= 20
    assert max(Counter(texts((*labels, *background))).values()) == 1


@pytest.mark.parametrize("file", sorted({*(file for files, *_ in LISTS.values() for file in files), *BACKGROUNDS}))
def test_what_usually_is_stuff_is_marked_as_what_it_is_here(file):
    """Otherwise a note would be logged for every user."""
    lines = (FOLDER / f"{file}.txt").read_text(encoding="utf-8").split("\n")
    unmarked = [line.split(",")[0] for line in lines if not line.endswith("]")]
    assert not {*unmarked} & USUAL_STUFF


def test_the_ids_of_coco_have_gaps():
    assert (len(IDS), IDS[0], IDS[79], IDS[80], IDS[-1]) == (171, 1, 90, 92, 182)
    assert (len(PANOPTIC_IDS), PANOPTIC_IDS[-1], sorted(PANOPTIC_IDS)) == (133, 200, list(PANOPTIC_IDS))
    of_91 = dict(zip(IDS, labels_of("coco-things", "coco-stuff"), strict=True))
    of_53 = dict(zip(PANOPTIC_IDS, labels_of("coco-things", "coco-panoptic"), strict=True))
    for id_ in (1, 92, 95, 118, 145, 181):  # ids that both have mean the same
        assert of_91[id_].name == of_53[id_].name


def test_the_groups_of_coco_stuff_hold_each_class_once():
    assert sorted(id_ for group in GROUPS for id_ in group) == list(IDS)
    assert [max(group) < 92 for group in GROUPS] == [True] * 12 + [False] * 15
    assert [len(group) for group in GROUPS] == [
        *(6, 5, 10, 6, 7, 7, 5, 10, 5, 1, 10, 8),
        *(2, 6, 4, 11, 4, 11, 7, 2, 6, 11, 9, 2, 6, 5, 5),
    ]
    labels = dict(zip(IDS, labels_of("coco-things", "coco-stuff"), strict=True))
    groups = dict(zip((label.name for label in labels_of("coco-stuff27")), GROUPS, strict=True))
    for group, member in (("animal", "zebra"), ("ground", "snow"), ("plant", "tree"), ("sky", "clouds")):
        assert member in {labels[id_].name for id_ in groups[group]}
