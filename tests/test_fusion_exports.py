"""Exports of one image: polygons and panoptic PNGs decode to the map that they were made of."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as rle_codec
from skimage.measure import label as label_components
from test_fusion_coco import LABEL_MAPS, NAMES, segmentation_of

from fusion.formats.palette import label_colors
from fusion.formats.panoptic import MAX_ID, panoptic_png
from fusion.formats.polygons import center_polygons, side_polygons
from fusion.formats.semantic import semantic_png
from ovseg import Label

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def as_squares(polygons, size_hw):
    """What pycocotools makes of polygons (H, W): pixels are squares."""
    codes = rle_codec.frPyObjects(polygons, *size_hw)
    return rle_codec.decode(rle_codec.merge(codes)).astype(bool)


def as_points(polygons, size_hw, index_of):
    """What OpenCV makes of them: pixels are points, with the index that `index_of` makes of a coordinate."""
    mask = np.zeros(size_hw, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [index_of(np.reshape(polygon, (-1, 2))).astype(np.int32)], 1)
    return mask.astype(bool)


def areas(polygons):
    """The area within each polygon, px²."""
    xs_ys = [np.reshape(polygon, (-1, 2)).T for polygon in polygons]
    return [abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2 for x, y in xs_ys]


@given(MASKS.filter(np.any), st.integers(0, 3), st.integers(0, 3))
def test_polygons_along_the_sides_are_the_mask_for_those_who_take_pixels_for_squares(mask, left, top):
    polygons = side_polygons(mask, left, top)
    padded = np.pad(mask, ((top, 1), (left, 1)))
    np.testing.assert_array_equal(as_squares(polygons, padded.shape), padded)
    assert len(polygons) == label_components(mask, connectivity=2).max()
    assert all(len(polygon) >= 8 and all(isinstance(value, int) for value in polygon) for polygon in polygons)
    assert sum(areas(polygons)) == mask.sum()


@pytest.mark.parametrize("index_of", [np.round, np.trunc])
@given(mask=MASKS.filter(np.any), left=st.integers(0, 3), top=st.integers(0, 3))
def test_polygons_through_the_centers_are_the_mask_for_those_who_take_pixels_for_points(mask, left, top, index_of):
    polygons = center_polygons(mask, left, top)
    padded = np.pad(mask, ((top, 1), (left, 1)))
    np.testing.assert_array_equal(as_points(polygons, padded.shape, index_of), padded)
    assert len(polygons) == label_components(mask, connectivity=2).max()
    assert all(len(polygon) >= 6 for polygon in polygons)


@pytest.mark.parametrize("polygons_of", [side_polygons, center_polygons])
def test_the_largest_piece_is_the_first(polygons_of):
    pieces = np.zeros((9, 9), bool)
    pieces[0, 8] = pieces[2:7, 1:6] = pieces[8, 0:3] = True
    pieces[3, 3] = False  # a hole
    first, *others = polygons_of(pieces)
    assert (min(first[::2]) // 1, min(first[1::2]) // 1) == (1, 2)
    assert len(others) == 2


def test_a_ring_of_literal_pixels():
    ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], bool)
    # Clockwise, with a way down to the hole and back, and around the pixel that touches the ring at its corner.
    hole = [1, 0, 1, 2, 2, 2, 2, 1, 1, 1, 1, 0]
    assert side_polygons(ring) == [[0, 0, *hole, 3, 0, 3, 3, 4, 3, 4, 4, 3, 4, 3, 3, 0, 3]]
    assert center_polygons(np.ones((1, 1), bool)) == [[0.25, 0.25] * 3]
    assert center_polygons(np.ones((2, 3), bool)) == [[0.25, 0.25, 2.25, 0.25, 2.25, 1.25, 0.25, 1.25]]


def test_holes_below_holes_and_holes_within_a_piece_in_a_hole():
    mask = np.ones((40, 7), bool)
    mask[1:39:2, 2:5] = False  # nineteen holes on top of each other
    nested = np.zeros((15, 15), bool)
    for ring in range(0, 8, 2):
        nested[ring : 15 - ring, ring : 15 - ring] = True
        nested[ring + 1 : 14 - ring, ring + 1 : 14 - ring] = False
    for shape, pieces in ((mask, 1), (nested, 4)):
        assert len(side_polygons(shape)) == len(center_polygons(shape)) == pieces
        np.testing.assert_array_equal(as_squares(side_polygons(shape), shape.shape), shape)
        np.testing.assert_array_equal(as_points(center_polygons(shape), shape.shape, np.round), shape)


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
