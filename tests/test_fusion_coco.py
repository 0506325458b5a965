"""COCO laws: any label map survives the way there and back, and every number follows from the decoded mask."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from scipy.ndimage import find_objects
from tiny_fusion import coarse_of, masks_of

from fusion import FusionConfig, Segmentation, fuse
from fusion.formats.coco import encode_region
from ovseg import Label

NAMES = ("cat", "grass", "sky", "boat")
LABEL_MAPS = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, len(NAMES))
)


def segmentation_of(label_map: np.ndarray, labels: Sequence[str | Label] = NAMES) -> Segmentation:
    """One mask per label; "nothing" is the background label that becomes 0."""
    names = ("nothing", *labels)
    masks = masks_of(label_map, num_masks=len(names))
    return fuse(masks, coarse_of(label_map, labels=names, background=("nothing",)))


@given(LABEL_MAPS, st.booleans())
def test_label_map_to_coco_and_back(label_map, stuff):
    labels = [Label(name, stuff=stuff) for name in NAMES]
    document = segmentation_of(label_map, labels).to_coco()
    decoded = np.zeros_like(label_map)
    for annotation in document["annotations"]:
        mask = rle_codec.decode(annotation["segmentation"]).astype(bool)
        assert mask.shape == label_map.shape
        assert annotation["area"] == mask.sum()
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert annotation["bbox"] == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert not decoded[mask].any(), "a pixel belongs to two annotations"
        decoded[mask] = annotation["category_id"]
    np.testing.assert_array_equal(decoded, label_map)
    assert [annotation["id"] for annotation in document["annotations"]] == list(
        range(1, len(document["annotations"]) + 1)
    )
    if stuff:
        assert len(document["annotations"]) == len(np.unique(label_map[label_map > 0]))


@given(LABEL_MAPS)
def test_region_codes_are_those_of_pycocotools(regions):
    for region, box in enumerate(find_objects(regions + 1)):
        if box is not None:
            expected = rle_codec.encode(np.asfortranarray(regions == region, np.uint8))
            assert encode_region(regions, region, box) == expected, regions


def test_an_annotation_per_component_of_a_thing_and_per_label_of_stuff():
    label_map = np.array([[1, 0, 2, 0], [1, 0, 0, 2], [0, 0, 0, 0], [1, 1, 0, 2]], np.int32)
    labels = [Label("cat"), Label("grass", stuff=True), Label("sky"), Label("boat")]
    document = segmentation_of(label_map, labels).to_coco()
    found = [(a["category_id"], a["area"], a["bbox"], a["iscrowd"]) for a in document["annotations"]]
    assert found == [(1, 2, [0, 0, 1, 2], 0), (1, 2, [0, 3, 2, 1], 0), (2, 3, [2, 0, 2, 4], 0)]


def test_stuff_stays_stuff_from_the_labels_to_the_document():
    label_map = np.array([[1, 2, 1]], np.int32)
    labels = [Label("grass", stuff=True), Label("cat")]
    result = segmentation_of(label_map, labels)
    assert result.labels == tuple(labels)
    document = result.to_coco()
    assert [(a["category_id"], a["area"]) for a in document["annotations"]] == [(1, 2), (2, 1)]
    assert [category["isthing"] for category in document["categories"]] == [0, 1]


def test_corners_connect_and_holes_stay_holes():
    label_map = np.array([[1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]], np.int32)
    (annotation,) = segmentation_of(label_map).to_coco()["annotations"]
    assert annotation["area"] == 9
    np.testing.assert_array_equal(rle_codec.decode(annotation["segmentation"]), label_map)


def test_the_document_around_the_annotations():
    label_map = np.ones((2, 3), np.int32)
    labels = [Label("cat"), Label("grass", stuff=True, color=(1, 2, 3)), Label("sky"), Label("boat")]
    document = segmentation_of(label_map, labels).to_coco(7, "photos/a.jpg", 100)
    assert sorted(document) == ["annotations", "categories", "images", "info", "licenses"]
    assert document["images"] == [{"id": 7, "file_name": "photos/a.jpg", "height": 2, "width": 3}]
    assert [(a["id"], a["image_id"]) for a in document["annotations"]] == [(100, 7)]
    assert [(c["id"], c["name"], c["supercategory"], c["isthing"]) for c in document["categories"]] == [
        (1, "cat", "thing", 1),
        (2, "grass", "stuff", 0),
        (3, "sky", "thing", 1),
        (4, "boat", "thing", 1),
    ]
    assert document["categories"][1]["color"] == [1, 2, 3]


def test_an_annotation_is_no_prediction():
    """Evaluators take what has a score for one: it stands in the evidence alone."""
    (annotation,) = segmentation_of(np.ones((2, 2), np.int32)).to_coco()["annotations"]
    assert sorted(annotation) == [
        "area",
        "bbox",
        "category_id",
        "evidence",
        "id",
        "image_id",
        "iscrowd",
        "segmentation",
    ]
    assert sorted(annotation["evidence"]) == ["margin", "mask_ids", "runner_up", "score", "share"]


def test_nothing_found_is_a_valid_document():
    document = segmentation_of(np.zeros((2, 3), np.int32)).to_coco()
    assert document["annotations"] == []
    assert len(document["images"]) == 1


def test_evidence_comes_from_the_masks_in_the_region():
    masks = masks_of([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 1, 1]])
    coarse = coarse_of([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1], [1, 1, 0, 2]])
    result = fuse(masks, coarse)
    cat, grass = result.to_coco()["annotations"]
    evidence = cat["evidence"]
    assert (evidence["mask_ids"], cat["area"], evidence["runner_up"]) == ([0, 1], 12, "grass")
    assert evidence["share"] == pytest.approx((4 * 1.0 + 8 * 0.75) / 12, abs=5e-5)
    assert evidence["margin"] == pytest.approx((4 * 1.0 + 8 * 0.625) / 12, abs=5e-5)
    assert evidence["score"] == pytest.approx(result.score_map[result.label_map == 1].mean(), abs=5e-5)
    evidence = grass["evidence"]
    assert (evidence["mask_ids"], evidence["share"], evidence["runner_up"]) == ([2], 1.0, None)


def test_masks_of_absorbed_crumbs_are_no_evidence():
    label_map = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    result = fuse(masks_of(label_map), coarse_of(label_map), FusionConfig(min_area=2))
    (cat,) = result.to_coco()["annotations"]
    assert (cat["area"], cat["evidence"]["mask_ids"]) == (9, [0])


def test_pycocotools_loads_the_document(tmp_path):
    path = tmp_path / "instances.json"
    label_map = np.array([[1, 2], [0, 1]], np.int32)
    path.write_text(json.dumps(segmentation_of(label_map).to_coco(file_name="ä.png")))
    coco = COCO(str(path))
    total = sum(coco.annToMask(annotation) * annotation["category_id"] for annotation in coco.anns.values())
    np.testing.assert_array_equal(total, label_map)
