"""The overlap vote against a slow, obvious count."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion.step.overlap import mean_scores, rank_labels
from ground.label_maps import contingency
from ovseg.coarse import ScoreTile

MAPS = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.int32, shape, elements=st.integers(0, 3)), hnp.arrays(np.int32, shape, elements=st.integers(0, 4))
    )
)


@given(MAPS)
def test_contingency_equals_a_double_loop(maps):
    rows, columns = maps
    counted = np.zeros((4, 5), np.int64)
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            counted[rows[y, x], columns[y, x]] += 1
    np.testing.assert_array_equal(contingency(rows, columns, (4, 5)), counted)


def test_contingency_of_a_literal_map():
    masks = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]], np.int32)
    labels = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]], np.int32)
    assert contingency(masks, labels, (3, 2)).tolist() == [[3, 1], [1, 3], [2, 6]]


@given(MAPS, st.integers(0, 2**32 - 1))
def test_mean_scores_equal_means_of_masked_planes(maps, seed):
    mask_map, _ = maps
    planes = np.random.default_rng(seed).random((2, *mask_map.shape), np.float32)
    areas = np.bincount(mask_map.ravel(), minlength=4)
    wanted = np.random.default_rng(seed + 1).random((4, 2)) < 0.7
    height, width = mask_map.shape
    halves = [slice(0, height // 2), slice(height // 2, height)]
    tiles = [
        ScoreTile(rows, columns, lambda labels, at=(slice(None), rows, columns): planes[at][labels])
        for rows in halves
        for columns in (slice(0, 1), slice(1, width))
        if mask_map[rows, columns].size
    ]
    means = mean_scores(mask_map, tiles, areas, wanted)
    for mask in range(4):
        for label in range(2):
            expected = planes[label][mask_map == mask].mean(dtype=np.float64) if areas[mask] else 0
            expected = expected if wanted[mask, label] else 0
            assert np.isclose(means[mask, label], expected)


def test_ties_go_to_the_higher_score_then_to_the_lower_index():
    counts = np.array([[5, 5, 6], [5, 5, 2], [5, 5, 5]])
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.9], [0.3, 0.3, 0.3]])
    assert rank_labels(counts, scores).tolist() == [[2, 0, 1], [1, 0, 2], [0, 1, 2]]
