"""Connected components and the absorption of crumbs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion.step.components import absorb_small
from ground.label_maps import connected_components

MAPS = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.integers(0, 3)
)


def test_corners_connect_and_every_value_has_components():
    components, labels = connected_components(np.array([[1, 0, 0], [0, 1, 0], [2, 0, 1]], np.int32))
    assert components.tolist() == [[0, 1, 1], [1, 0, 1], [2, 1, 0]]
    assert labels.tolist() == [1, 0, 2]


@given(MAPS, st.integers(0, 12))
def test_nothing_small_is_left_and_no_label_is_invented(label_map, min_area):
    cleaned = absorb_small(label_map, min_area)
    components, _ = connected_components(cleaned)
    areas = np.bincount(components.ravel())
    assert len(areas) == 1 or areas.min() >= min_area
    assert set(np.unique(cleaned)) <= set(np.unique(label_map))
    np.testing.assert_array_equal(absorb_small(label_map, min_area), cleaned)


@given(MAPS, st.integers(0, 12))
def test_every_region_keeps_a_pixel_that_had_its_label(label_map, min_area):
    cleaned = absorb_small(label_map, min_area)
    components, labels = connected_components(cleaned)
    for component, label in enumerate(labels):
        assert (label_map[components == component] == label).any()


@pytest.mark.parametrize("min_area", [0, 1])
def test_no_threshold_changes_nothing(min_area):
    label_map = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.testing.assert_array_equal(absorb_small(label_map, min_area), label_map)


def test_a_crumb_takes_the_label_with_the_longest_border():
    label_map = np.array([[1, 1, 2, 2], [1, 3, 2, 2], [2, 2, 2, 2]], np.int32)  # the 3 has two sides with 1, two with 2
    assert absorb_small(label_map, 2)[1, 1] == 1
    label_map[0, 1] = 2  # now one with 1, three with 2
    assert absorb_small(label_map, 2)[1, 1] == 2


def test_borders_count_by_label_not_by_component():
    label_map = np.array([[1, 1, 3, 3, 3], [1, 1, 5, 2, 3], [2, 2, 2, 2, 3], [2, 2, 2, 2, 3]], np.int32)
    label_map[1, 3] = 3  # around the 5: 3 above, 3 right, 2 below, 1 left
    assert absorb_small(label_map, 2)[1, 2] == 3


def test_crumbs_grow_together_before_they_vanish():
    label_map = np.array([[1, 1, 2, 1, 9, 9, 9, 9]], np.int32)  # the 2 goes first; with it the 1s become one of 4 px
    assert absorb_small(label_map, 4).tolist() == [[1, 1, 1, 1, 9, 9, 9, 9]]


def test_other_absorbs_and_is_absorbed():
    assert absorb_small(np.array([[0, 0, 1, 0]], np.int32), 2).tolist() == [[0, 0, 0, 0]]
    assert absorb_small(np.array([[1, 1, 0, 1]], np.int32), 2).tolist() == [[1, 1, 1, 1]]
