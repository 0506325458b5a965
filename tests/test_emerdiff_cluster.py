from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label as connected_parts
from tiny_emerdiff import tiny_config

from emerdiff.cluster import cluster, low_resolution_masks, merged, one_hot, with_positions


def test_separate_groups_are_found():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    features = (rng.normal(size=(60, 4)) * 0.1 + 10 * truth[:, None]).astype(np.float32)
    assignment = cluster(features, 3)
    assert assignment.dtype == np.int32
    assert [len(set(assignment[truth == group])) for group in range(3)] == [1, 1, 1]
    assert sorted(set(assignment)) == [0, 1, 2]


def test_the_same_features_give_the_same_clusters():
    features = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    assert np.array_equal(cluster(features, 7), cluster(features, 7))


@pytest.mark.parametrize("grid", [(8, 8), (1, 64), (64, 1)])
def test_ward_merges_neighbours_alone(grid):
    features = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    assignment = cluster(features, 7, grid)
    assert np.array_equal(cluster(features, 7, grid), assignment)
    assert sorted(set(assignment)) == list(range(7))
    for index in range(7):
        assert connected_parts(assignment.reshape(grid) == index, connectivity=1).max() == 1


def test_ward_keeps_two_places_of_one_look_apart_where_kmeans_does_not():
    features = np.repeat(
        np.float32([[0], [9], [0.1]]), 4, axis=0
    )  # a row of three groups: the first and last are alike
    assert len(set(cluster(features, 2)[[0, 11]])) == 1
    assert len(set(cluster(features, 3, (1, 12))[[0, 5, 11]])) == 3
    assert len(set(cluster(with_positions(features, (1, 12), 3), 3)[[0, 5, 11]])) == 3  # nor do positions


def test_positions_weigh_against_features_of_any_scale():
    features = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    assert with_positions(features, (3, 4), 0.0) is features
    placed = with_positions(features, (3, 4), 2.0)
    assert placed.shape == (12, 5) and placed.dtype == np.float32
    np.testing.assert_allclose(placed[:, :3].var(axis=0).sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(placed[[0, 3, 8], 3:], [[0, 0], [0, 1.5], [1, 0]])
    np.testing.assert_allclose(with_positions(1000 * features, (3, 4), 2.0), placed, rtol=1e-5)
    same = with_positions(np.ones((12, 3), np.float32), (3, 4), 2.0)
    assert np.isfinite(same).all() and len(set(cluster(same, 2, (3, 4)))) == 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("grid", [None, (4, 4), (16, 1)])
def test_constant_features_are_one_cluster(grid):
    assert cluster(np.ones((16, 3), np.float32), 4, grid).tolist() == [0] * 16


@pytest.mark.parametrize("grid", [None, (2, 3)])
def test_as_many_clusters_as_positions(grid):
    assert sorted(cluster(np.arange(6, dtype=np.float32)[:, None], 6, grid)) == list(range(6))


def test_more_clusters_than_positions():
    with pytest.raises(ValueError, match=r"emerdiff\.clusters is 7, expected at most 6"):
        cluster(np.zeros((6, 2), np.float32), 7)


def test_one_position_is_one_cluster():
    assert cluster(np.zeros((1, 2), np.float32), 1, (1, 1)).tolist() == [0]


@pytest.mark.parametrize("clustering", ["kmeans", "ward"])
def test_masks_lie_on_the_layers_grid(clustering):
    config = tiny_config(clustering=clustering, position_weight=0.5)
    queries = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    low_res, means = low_resolution_masks(queries, (4, 6), config)
    assert low_res.shape == (4, 6) and low_res.dtype == np.int32
    assert means.shape == (3, 16) and means.dtype == np.float32  # of the queries alone, without positions
    placed = queries.reshape(4, 6, 16)
    np.testing.assert_allclose(means, [placed[low_res == index].mean(0) for index in range(3)], rtol=1e-5)


def test_one_hot():
    masks = one_hot(np.array([[0, 2], [1, 1]], np.int32))
    assert masks.tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 1]], [[0, 1], [0, 0]]]


def test_clusters_that_are_alike_become_one():
    features = np.float32([[9, 0], [9, 1], [0, 9], [0, 8], [-9, -9], [-9, -8.9]])
    assignment = np.arange(6, dtype=np.int32)
    assert merged(assignment, features, 1.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert merged(assignment, features, 0.98).tolist() == [0, 0, 1, 1, 2, 2]
    assert merged(assignment, features, 0.999).tolist() == [0, 1, 2, 2, 3, 3]
    assert merged(np.zeros(6, np.int32), features, 0.0).tolist() == [0] * 6
    assert merged(assignment, np.zeros_like(features), 0.5).tolist() == [0, 1, 2, 3, 4, 5]  # no direction, no cosine


def test_the_most_alike_are_merged_first_and_none_that_are_alike_are_left():
    rng = np.random.default_rng(0)
    features, assignment = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 12, 200).astype(np.int32)
    result = merged(assignment, features, 0.7)
    parts = sorted(set(result))
    assert parts == list(range(len(parts))) and 1 < len(parts) < 12
    assert all(len(set(result[assignment == index])) == 1 for index in range(12))  # none is split
    means = np.stack([features[result == index].mean(0) for index in parts])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert (means @ means.T)[~np.eye(len(parts), dtype=bool)].max() <= 0.7


def test_masks_of_merged_clusters_keep_their_mean_features():
    features = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    low_res, means = low_resolution_masks(features, (8, 8), tiny_config(clusters=9, merge=0.5))
    assert len(means) == low_res.max() + 1 < 9
    np.testing.assert_allclose(means[0], features[low_res.ravel() == 0].mean(0), rtol=1e-5)
