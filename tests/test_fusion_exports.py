"""Exports of one image: polygons and panoptic PNGs decode to the map that they were made of."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as rle_codec
from scipy.ndimage import binary_fill_holes
from skimage.measure import label as label_components
from test_fusion_coco import LABEL_MAPS, NAMES, segmentation_of

from fusion.formats.palette import label_colors
from fusion.formats.panoptic import MAX_ID, panoptic_png
from fusion.formats.polygons import outlines
from fusion.formats.semantic import semantic_png
from ovseg import Label

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def decode(polygons, height_width):
    """What pycocotools makes of polygons (H, W)."""
    codes = rle_codec.frPyObjects(polygons, *height_width)
    return rle_codec.decode(rle_codec.merge(codes)).astype(bool)


@given(MASKS.filter(np.any), st.integers(0, 3), st.integers(0, 3))
def test_polygons_decode_to_the_mask_with_its_holes_filled(mask, left, top):
    polygons, holes = outlines(mask, left, top)
    height, width = mask.shape
    filled = binary_fill_holes(mask, structure=np.ones((3, 3)))  # what reaches the outside by a corner is no hole
    decoded = decode(polygons, (height + top, width + left))
    np.testing.assert_array_equal(decoded[top:, left:], filled)
    assert decoded.sum() == filled.sum()
    assert (holes == 0) == (mask == filled).all()
    assert len(polygons) <= label_components(mask, connectivity=1).max()


def test_a_ring_of_literal_pixels():
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], bool)
    polygons, holes = outlines(ring)
    assert polygons == [[0, 0, 3, 0, 3, 3, 0, 3], [3, 3, 4, 3, 4, 4, 3, 4]]
    assert holes == 1


@given(LABEL_MAPS, st.booleans(), st.integers(1, 10_000))
def test_a_label_map_survives_panoptic_and_agrees_with_instances(label_map, stuff, first_id):
    labels = [Label(name, stuff=stuff) for name in NAMES]
    segmentation = segmentation_of(label_map, labels)
    entry, png = segmentation.to_panoptic(7, "a.png", first_id)
    coco = segmentation.to_coco(7, "a.jpg", first_id)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.mode, image.size) == ("RGB", label_map.shape[::-1])
        ids = np.asarray(image, np.int64) @ (1, 256, 65536)
    assert (entry["image_id"], entry["file_name"]) == (7, "a.png")
    decoded = np.zeros_like(label_map)
    for segment, annotation in zip(entry["segments_info"], coco["annotations"], strict=True):
        np.testing.assert_array_equal(ids == segment["id"], rle_codec.decode(annotation["segmentation"]))
        assert all(segment[key] == annotation[key] for key in segment)
        assert segment["area"] == (ids == segment["id"]).sum()
        decoded[ids == segment["id"]] = segment["category_id"]
    np.testing.assert_array_equal(decoded, label_map)
    with Image.open(io.BytesIO(semantic_png(segmentation.label_map, label_colors(labels)))) as image:
        np.testing.assert_array_equal(image, label_map)
    assert set(np.unique(ids)) - {0} == {segment["id"] for segment in entry["segments_info"]}


def test_ids_beyond_three_bytes_are_refused():
    id_map = np.ones((1, 1), np.int32)
    assert panoptic_png(id_map, MAX_ID)
    with pytest.raises(ValueError, match=f"{MAX_ID + 1} is over {MAX_ID}"):
        panoptic_png(id_map, MAX_ID + 1)
