"""Shared passes: how masks are spread over them, and where what a mask reads from a shared pass is its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emerdiff.passes import mask_distances, pass_masks, passes_of, planes_of_masks, territories

ROW = np.repeat(np.arange(6, dtype=np.int32), 2)[None]  # six masks of two positions, side by side


def random_map(seed: int, clusters: int = 9) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(0, clusters, (8, 8)).astype(np.int32)
    labels[0, :clusters] = range(clusters) if clusters <= 8 else labels[0]
    return np.unique(labels, return_inverse=True)[1].reshape(8, 8).astype(np.int32)


@pytest.mark.parametrize("most", [0, 6, 7, 100])
def test_with_room_each_mask_has_its_own_pass(most):
    assert passes_of(ROW, most).tolist() == [0, 1, 2, 3, 4, 5]
    assert (territories(ROW, passes_of(ROW, most)) == 1).all()


@pytest.mark.parametrize("most", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_every_pass_is_used_and_none_beyond(most, seed):
    low_res = random_map(seed)
    passes = passes_of(low_res, most)
    assert sorted(set(passes)) == list(range(most)) and passes.dtype == np.int32
    assert np.array_equal(passes, passes_of(low_res, most))


def test_masks_that_share_a_pass_are_far_apart():
    passes = passes_of(ROW, 3)
    distances = mask_distances(ROW)
    for first in range(6):
        for second in range(first):
            if passes[first] == passes[second]:
                assert distances[first][second == ROW].min() >= 5  # three masks further
    assert len(set(passes_of(ROW, 2)[[0, 1]])) == 2  # neighbours never share while there is another pass


def test_distances_are_to_the_nearest_position():
    low_res = np.array([[0, 1, 1], [0, 1, 2]], np.int32)
    expected = [[[0, 1, 2], [0, 1, 2]], [[1, 0, 0], [1, 0, 1]], [[5**0.5, 2**0.5, 1], [2, 1, 0]]]
    np.testing.assert_allclose(mask_distances(low_res), expected, rtol=1e-5)


def test_the_masks_of_a_pass_together():
    low_res = np.array([[0, 1, 2, 3]], np.int32)
    masks = pass_masks(low_res, np.array([0, 1, 0, 1], np.int32))
    assert masks.tolist() == [[[1, 0, 1, 0]], [[0, 1, 0, 1]]]


@pytest.mark.parametrize("seed", range(3))
def test_territories_of_a_pass_cover_the_image_once_and_each_its_own_mask(seed):
    low_res = random_map(seed)
    passes = passes_of(low_res, 3)
    weights = territories(low_res, passes)
    for number in range(3):
        np.testing.assert_allclose(weights[passes == number].sum(0), 1, rtol=1e-6)
    for index in range(len(passes)):
        assert (weights[index][low_res == index] == 1).all()


def test_each_mask_reads_its_pass_near_itself():
    """If the answer to a mask ends before the next mask of its pass is as near, sharing changes nothing."""
    low_res = np.repeat(np.arange(4, dtype=np.int32), 4)[None]
    answers = torch.zeros(4, 1, 16)
    for index in range(4):
        answers[index, 0, max(4 * index - 1, 0) : 4 * index + 5] = index + 1.0  # reaches one position too far
    passes = np.array([0, 1, 0, 1], np.int32)
    shared = [answers[0] + answers[2], answers[1] + answers[3]]
    read = planes_of_masks(shared, low_res, passes)
    torch.testing.assert_close(torch.stack(read), answers)
    own = planes_of_masks(list(answers), low_res, np.arange(4, dtype=np.int32))
    torch.testing.assert_close(torch.stack(own), answers)
