"""The measures of label maps against slow computations that share nothing with them, on 20 random maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from random_regions import disturbed, rectangles
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import accuracy_score, jaccard_score

from fusion.evaluation.metrics import (
    boundary_f,
    class_counts,
    class_iou,
    frequency_weighted_iou,
    mean_iou,
    pixel_accuracy,
)

NUM_CLASSES = 6


@pytest.fixture(params=range(20))
def maps(request):
    """(truth with UNKNOWN pixels, prediction), of 6 classes, not all of which occur."""
    rng = np.random.default_rng(request.param)
    regions = rectangles(rng, (30, 36), 6)
    classes = rng.integers(0, NUM_CLASSES - 1, 9)
    truth, predicted = classes[regions], (classes + (rng.random(9) < 0.2))[disturbed(rng, regions, 2)]
    truth[rectangles(rng, truth.shape, 2) > 0] = -1
    return truth.astype(np.int32), predicted.astype(np.int32)


def test_shares_of_pixels(maps):
    truth, predicted = maps
    counts = class_counts(truth, predicted, NUM_CLASSES)
    pairs = [(t, p) for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True) if t != -1]
    ious, weighted = [], 0.0
    for number, iou in enumerate(class_iou(counts)):
        true = {i for i, (t, _) in enumerate(pairs) if t == number}
        found = {i for i, (_, p) in enumerate(pairs) if p == number}
        if not true:
            assert math.isnan(iou)
            continue
        ious.append(len(true & found) / len(true | found))
        weighted += len(true) / len(pairs) * ious[-1]
        assert iou == pytest.approx(ious[-1], abs=1e-6)
    assert mean_iou(counts) == pytest.approx(sum(ious) / len(ious), abs=1e-6)
    assert frequency_weighted_iou(counts) == pytest.approx(weighted, abs=1e-6)
    assert pixel_accuracy(counts) == pytest.approx(sum(t == p for t, p in pairs) / len(pairs), abs=1e-6)


def test_shares_of_pixels_are_those_of_scikit_learn(maps):
    truth, predicted = maps
    counts = class_counts(truth, predicted, NUM_CLASSES)
    known = truth != -1
    classes, areas = np.unique(truth[known], return_counts=True)
    per_class = jaccard_score(truth[known], predicted[known], labels=classes, average=None)
    np.testing.assert_allclose(class_iou(counts)[classes], per_class, rtol=0, atol=1e-6)
    assert mean_iou(counts) == pytest.approx(per_class.mean(), abs=1e-6)
    assert frequency_weighted_iou(counts) == pytest.approx(np.average(per_class, weights=areas), abs=1e-6)
    assert pixel_accuracy(counts) == pytest.approx(accuracy_score(truth[known], predicted[known]), abs=1e-6)


@pytest.mark.parametrize("tolerance", [2, 5])
def test_boundary_f(maps, tolerance):
    truth, predicted = maps
    edges = [literal_edges(label_map, truth) for label_map in (truth, predicted)]
    near = [share_near(edges[1], edges[0], tolerance), share_near(edges[0], edges[1], tolerance)]
    expected = 2 * near[0] * near[1] / sum(near) if sum(near) else 0.0
    assert boundary_f(truth, predicted, tolerance) == pytest.approx(expected, abs=1e-6)
    # Another way to the distances.
    maps_of_edges = [np.zeros(truth.shape, bool) for _ in edges]
    for edge, where in zip(edges, maps_of_edges, strict=True):
        where[tuple(np.array(edge).T)] = True
    true, found = maps_of_edges
    precision, recall = (
        (distance_transform_edt(~to)[of] <= tolerance).mean() for of, to in ((found, true), (true, found))
    )
    assert expected == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-6)


def literal_edges(label_map, truth):
    """[(row, column)] of the known pixels whose right or lower neighbour is known and has another label."""
    height, width = label_map.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if any(
            v < height and u < width and -1 not in (truth[y, x], truth[v, u]) and label_map[y, x] != label_map[v, u]
            for v, u in ((y, x + 1), (y + 1, x))
        )
    ]


def share_near(of, to, tolerance):
    """The share of the pixels `of` that have one of `to` at `tolerance` px at most."""
    return sum(any((y - v) ** 2 + (x - u) ** 2 <= tolerance**2 for v, u in to) for y, x in of) / len(of)


def test_many_counts_at_once():
    counts = np.random.default_rng(0).integers(0, 3, (2, 3, 4, 1)) + np.array([0, 1, 2])
    for figure in (class_iou, mean_iou, frequency_weighted_iou, pixel_accuracy):
        together = figure(counts)
        for place in np.ndindex(2, 3):
            np.testing.assert_array_equal(together[place], figure(counts[place]))


def test_without_a_true_pixel_there_is_no_iou():
    nothing = np.zeros((3, 3))
    assert np.isnan(class_iou(nothing)).all()
    assert math.isnan(frequency_weighted_iou(nothing))
    only_found = np.array([[2, 4, 2], [0, 0, 2]])
    np.testing.assert_array_equal(class_iou(only_found), [0.5, np.nan])
    assert frequency_weighted_iou(only_found) == mean_iou(only_found) == 0.5
