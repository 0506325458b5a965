"""Metrics on maps small enough to count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, jaccard_score

from fusion.evaluation.metrics import (
    boundaries,
    boundary_f,
    class_counts,
    majority_regions,
    mean_iou,
    pixel_accuracy,
)

PAIRS = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(*(hnp.arrays(np.int32, shape, elements=st.integers(0, 3)) for _ in range(2)))
)


@given(PAIRS)
def test_iou_and_accuracy_are_those_of_scikit_learn(pair):
    truth, predicted = pair
    counts = class_counts(truth, predicted, 4)
    present = np.unique(truth).tolist()
    expected = jaccard_score(truth.ravel(), predicted.ravel(), labels=present, average="macro")
    assert mean_iou(counts) == pytest.approx(expected)
    assert pixel_accuracy(counts) == pytest.approx(accuracy_score(truth.ravel(), predicted.ravel()))


def test_classes_that_are_only_predicted_have_no_term():
    truth, predicted = np.array([[0, 0, 1, 1]], np.int32), np.array([[0, 0, 1, 2]], np.int32)
    assert mean_iou(class_counts(truth, predicted, 3)) == pytest.approx((1 + 0.5) / 2)
    assert math.isnan(mean_iou(np.zeros((3, 3))))


def test_majority_regions_is_the_best_labelling_of_the_masks():
    masks = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [3, 3, 3, 3]], np.int32)
    regions = np.array([[5, 5, 2, 2], [5, 2, 2, 2], [1, 1, 4, 4]], np.int32)
    assert majority_regions(masks, regions).tolist() == [[2, 2, 2, 2], [2, 2, 2, 2], [1, 1, 1, 1]]


@given(PAIRS)
def test_no_labelling_of_the_masks_gets_more_pixels_right(pair):
    masks, regions = pair
    best = (majority_regions(masks, regions) == regions).sum()
    expected = sum(np.bincount(regions[masks == mask]).max() for mask in np.unique(masks))
    assert best == expected


def test_boundaries_are_one_pixel_wide():
    label_map = np.zeros((4, 5), np.int32)
    label_map[:, 3:] = 1
    assert boundaries(label_map).tolist() == [[False, False, True, False, False]] * 4


def test_boundary_f_counts_pixels_within_the_tolerance():
    def split_at(x):
        label_map = np.zeros((10, 40), np.int32)
        label_map[:, x:] = 1
        return label_map

    assert boundary_f(split_at(20), split_at(20), 0) == 1
    assert boundary_f(split_at(20), split_at(22), 2) == 1
    assert boundary_f(split_at(20), split_at(23), 2) == 0
    twice = split_at(20)
    twice[:, 35:] = 2  # a border that is not there: precision 1/2, recall 1
    assert boundary_f(split_at(20), twice, 2) == pytest.approx(2 / 3)


def test_boundary_f_without_borders():
    flat, split = np.zeros((3, 3), np.int32), np.eye(3, dtype=np.int32)
    assert boundary_f(flat, flat, 2) == 1
    assert boundary_f(flat, split, 2) == boundary_f(split, flat, 2) == 0


def test_unknown_pixels_count_nowhere():
    truth = np.array([[0, 0, -1, 1], [0, 0, -1, 1]], np.int32)
    predicted = np.array([[0, 1, 0, 1], [0, 0, 1, 1]], np.int32)
    assert class_counts(truth, predicted, 2).tolist() == [[3, 4, 3], [2, 2, 3]]
    masks = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.int32)
    regions = np.array([[-1, -1, -1, 2], [-1, 1, 1, 0]], np.int32)
    assert majority_regions(masks, regions).tolist() == [[2] * 4, [1] * 4]
    assert not boundaries(truth, truth >= 0).any()  # what is unknown lies between the two
    assert boundaries(predicted, truth >= 0).sum() == 2


@given(PAIRS)
def test_borders_are_the_same_without_and_with_all_known(pair):
    truth, predicted = pair
    assert (boundaries(truth) == boundaries(truth, np.ones(truth.shape, bool))).all()
    unknown = np.full(truth.shape, -1, np.int32)
    assert boundary_f(unknown, predicted, 2) == 1
