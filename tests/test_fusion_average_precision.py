"""AP added up image by image is that of one COCOeval over all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_regions import disturbed, rectangles

from fusion.evaluation.average_precision import ImageMatches, Instances, average_precision, match_image

THINGS = (1, 2, 4)
NAN = {"ap": math.nan, "ap50": math.nan, "ap75": math.nan}


def random_image(seed, num_true=9, num_found=12):
    """(true regions, their labels, crowds, found masks (P, H, W), their labels, scores with ties)."""
    rng = np.random.default_rng(seed)
    regions = rectangles(rng, (int(rng.integers(20, 40)), int(rng.integers(20, 40))), num_true)
    labels = rng.integers(0, 6, num_true + 1)
    crowds = frozenset(np.flatnonzero(rng.random(num_true + 1) < 0.2).tolist())
    maps = [disturbed(rng, regions, 3) for _ in range(2)]  # two of them, so that masks overlap
    drawn = [(found, int(i)) for found in maps for i in np.unique(found)][:num_found]
    masks = np.array([found == i for found, i in drawn]).reshape(-1, *regions.shape)
    guesses = np.append(labels, rng.integers(1, 6, 3))
    found_labels = np.array([guesses[i] for _, i in drawn], int)
    regions[rectangles(rng, regions.shape, 1) > 0] = -1
    return regions, labels, crowds, masks, found_labels, rng.integers(1, 6, len(drawn)) / 5


def encode(mask):
    return rle_codec.encode(np.asfortranarray(mask, np.uint8))


def matches_of(image):
    regions, labels, crowds, masks, found_labels, scores = image
    return match_image(regions, labels, crowds, Instances(tuple(map(encode, masks)), found_labels, scores), THINGS)


def whole(images):
    """AP, AP50 and AP75 of one COCOeval with its own settings over all images; its -1 as NaN."""
    truth, found = [], []
    for number, (regions, labels, crowds, masks, found_labels, scores) in enumerate(images, start=1):
        for region, label in enumerate(labels):
            if (regions == region).any():
                made = {"segmentation": encode(regions == region), "area": int((regions == region).sum())}
                truth.append({**made, "image_id": number, "category_id": int(label), "iscrowd": int(region in crowds)})
        for mask, label, score in zip(masks, found_labels, scores, strict=True):
            made = {"segmentation": encode(mask), "area": int(mask.sum()), "score": float(score), "iscrowd": 0}
            found.append({**made, "image_id": number, "category_id": int(label)})
    documents = []
    for made in (truth, found):
        document = COCO()
        document.dataset = {
            "images": [
                {"id": number, "height": image[0].shape[0], "width": image[0].shape[1]}
                for number, image in enumerate(images, start=1)
            ],
            "annotations": [{"id": i, **one} for i, one in enumerate(made, start=1)],
            "categories": [{"id": label} for label in THINGS],
        }
        document.createIndex()
        documents.append(document)
    evaluation = COCOeval(*documents, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {
        name: value if value > -1 else math.nan
        for name, value in zip(("ap", "ap50", "ap75"), evaluation.stats[:3].tolist(), strict=True)
    }


IMAGES = [
    *(random_image(seed) for seed in range(6)),
    random_image(6, num_found=0),
    random_image(7, num_true=0),
    random_image(8, num_true=0, num_found=0),
    *(random_image(seed) for seed in range(9, 12)),
]


def test_image_by_image_is_the_whole():
    expected = whole(IMAGES)
    assert 0.05 < expected["ap"] < expected["ap50"] < 0.95, "the images try too little"
    assert average_precision([matches_of(image) for image in IMAGES], THINGS) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_weights_repeat_images(seed):
    weights = np.random.default_rng(seed).multinomial(len(IMAGES), np.full(len(IMAGES), 1 / len(IMAGES)))
    repeated = [image for image, weight in zip(IMAGES, weights, strict=True) for _ in range(weight)]
    found = average_precision([matches_of(image) for image in IMAGES], THINGS, weights)
    assert found == pytest.approx(whole(repeated), abs=1e-12)


def test_more_instances_than_coco_looks_at():
    regions = np.kron(np.arange(144).reshape(12, 12), np.ones((2, 2), int)).astype(np.int32)
    masks = np.array([regions == i for i in range(144)])
    scores = np.random.default_rng(0).random(144)
    image = regions, np.ones(144, int), frozenset(), masks, np.ones(144, int), scores
    found = average_precision([matches_of(image)], THINGS)
    assert found == pytest.approx(whole([image]), abs=1e-12)
    assert found["ap"] == pytest.approx(70 / 101)  # recall ends at 100 of 144


@pytest.mark.parametrize("images", [[], IMAGES[8:9], IMAGES[6:7], IMAGES[7:8]])
def test_nothing_found_and_nothing_there(images):
    found = average_precision([matches_of(image) for image in images], THINGS)
    assert found == pytest.approx(whole(images) if images else NAN, abs=1e-12, nan_ok=True)


def test_without_a_true_thing_there_is_no_ap():
    regions, mask = np.zeros((4, 4), np.int32), np.ones((1, 4, 4), bool)
    crowd = matches_of((regions, np.array([1]), frozenset([0]), mask, np.array([1]), np.array([0.5])))
    stuff = matches_of((regions, np.array([3]), frozenset(), mask, np.array([1]), np.array([0.5])))
    there = matches_of((regions, np.array([1]), frozenset(), mask, np.array([1]), np.array([0.5])))
    assert average_precision([crowd, stuff], THINGS) == pytest.approx(NAN, nan_ok=True)
    assert average_precision([crowd, there], THINGS) == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1})
    assert average_precision([crowd, there], THINGS, np.array([1, 0])) == pytest.approx(NAN, nan_ok=True)
    assert average_precision([there], [2, 4]) == pytest.approx(NAN, nan_ok=True)


def test_matches_survive_a_file(tmp_path):
    matches = [matches_of(image) for image in IMAGES]
    read = []
    for number, one in enumerate(matches):
        np.savez(tmp_path / f"{number}.npz", other=1, **one.to_arrays())
        with np.load(tmp_path / f"{number}.npz") as arrays:
            read.append(ImageMatches.from_arrays(arrays))
    assert average_precision(read, THINGS) == average_precision(matches, THINGS)


def test_what_does_not_fit_is_named():
    matches = matches_of(IMAGES[0])
    arrays = matches.to_arrays()
    with pytest.raises(ValueError, match="lack scores, expected labels, scores, matched"):
        ImageMatches.from_arrays({name: array for name, array in arrays.items() if name != "scores"})
    with pytest.raises(ValueError, match="expected one length D throughout"):
        ImageMatches.from_arrays({**arrays, "scores": arrays["scores"][1:]})
    with pytest.raises(ValueError, match="there are 2 weights, expected one for each of 1 images"):
        average_precision([matches], THINGS, np.array([1, 1]))


def test_nothing_is_printed(capsys):
    average_precision([matches_of(IMAGES[0])], THINGS)
    assert capsys.readouterr().out == ""
