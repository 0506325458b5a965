"""The largest of several planes, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ground.planes import largest_plane

VALUES = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf])


@given(st.tuples(*[st.integers(1, 5)] * 3).flatmap(lambda shape: arrays(np.float32, shape, elements=VALUES)))
def test_it_is_the_argmax_whose_ties_go_to_the_first(planes):
    label_map = largest_plane(iter(planes))
    assert label_map.dtype == np.int32
    np.testing.assert_array_equal(label_map, planes.argmax(axis=0))


def test_the_planes_stay_as_they_are():
    planes = np.array([[[1.0, 0.0]], [[0.0, 2.0]]], np.float32)
    before = planes.copy()
    assert largest_plane(planes).tolist() == [[0, 1]]
    np.testing.assert_array_equal(planes, before)


def test_planes_are_taken_one_at_a_time():
    alive = 0

    def counted():
        nonlocal alive
        for index in range(4):
            alive += 1
            yield np.full((2, 2), index, np.float32)

    label_map = largest_plane(counted())
    assert (alive, label_map.tolist()) == (4, [[3, 3], [3, 3]])


def test_different_sizes_are_an_error():
    with pytest.raises(ValueError):
        largest_plane([np.zeros((2, 2), np.float32), np.zeros((3, 3), np.float32)])
