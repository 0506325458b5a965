"""Logits at the image's resolution: tile by tile with what matters is the same as everything everywhere."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovseg import resolve
from ovseg.resolve import best_labels, interpolation, log_sum_exp, tiles, upsampled

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))
SPREADS = st.sampled_from([0.0, 1.0, 30.0, 3000.0])


def small_tiles(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(resolve, "TILE", 17)
    patch.setattr(resolve, "TOGETHER", 3)


def random_logits(seed: int, shape: tuple[int, ...], spread: float) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


def test_weights_are_linear_between_the_centres_of_patches_and_constant_outside() -> None:
    assert interpolation(2, 8)[:, 1].tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    np.testing.assert_array_equal(interpolation(5, 5), np.eye(5))
    assert interpolation(1, 3).tolist() == [[1], [1], [1]]
    np.testing.assert_allclose(interpolation(9, 4).sum(axis=1), 1)


@given(st.integers(0, 2**31), SHAPES, SIZES, SPREADS)
def test_tiles_equal_the_plain_formula(
    seed: int, shape: tuple[int, int, int], size_hw: tuple[int, int], spread: float
) -> None:
    logits = random_logits(seed, shape, spread)
    planes = F.interpolate(torch.from_numpy(logits).double()[None], size=size_hw, mode="bilinear")[0]
    near = {"atol": 1e-5 + 1e-6 * spread, "rtol": 1e-6}
    with pytest.MonkeyPatch.context() as patch:
        small_tiles(patch)
        np.testing.assert_allclose(np.stack(list(upsampled(logits, size_hw))), planes, **near)
        np.testing.assert_allclose(log_sum_exp(logits, size_hw), planes.logsumexp(0), **near)
        chosen = planes.gather(0, torch.from_numpy(best_labels(logits, size_hw)).long()[None])[0]
        np.testing.assert_allclose(chosen, planes.max(dim=0).values, **near)
        for tile in tiles(shape[1:], size_hw):
            labels = np.arange(shape[0])[::2]
            np.testing.assert_allclose(
                tile.resolve(logits, labels), planes[labels][:, tile.rows, tile.columns], err_msg=str(tile), **near
            )


@given(SHAPES, SIZES)
def test_of_equal_labels_the_first_wins(shape: tuple[int, int, int], size_hw: tuple[int, int]) -> None:
    logits = random_logits(0, shape, 10)
    twice = np.concatenate([logits, logits])
    np.testing.assert_array_equal(best_labels(twice, size_hw), best_labels(logits, size_hw))


def test_labels_that_are_nowhere_near_the_best_are_left_out() -> None:
    logits = np.zeros((4, 2, 2), np.float32)
    logits[1] = 10
    logits[3, 0, 0] = 25
    (tile,) = tiles((2, 2), (8, 8))
    assert tile.contenders(logits, 0).tolist() == [1, 3]
    assert tile.contenders(logits, 9).tolist() == [1, 3]
    assert tile.contenders(logits, 11).tolist() == [0, 1, 2, 3]


@given(st.integers(0, 2**31), st.permutations(range(12)))
def test_permuted_labels_permute_the_map(seed: int, order: list[int]) -> None:
    logits = random_logits(seed, (12, 5, 7), 4)
    permuted = best_labels(logits[order], (40, 50))
    np.testing.assert_array_equal(np.array(order)[permuted], best_labels(logits, (40, 50)))


@given(st.integers(0, 2**31), st.floats(-50, 50))
def test_an_irrelevant_label_changes_no_ranking_of_the_others(seed: int, height: float) -> None:
    logits = random_logits(seed, (9, 4, 6), 4)
    more = np.concatenate([logits, np.full((1, 4, 6), height, np.float32)])
    before, after = best_labels(logits, (40, 50)), best_labels(more, (40, 50))
    np.testing.assert_array_equal(after[after < 9], before[after < 9])


def test_a_thousand_labels_equal_the_same_labels_in_batches() -> None:
    logits = random_logits(0, (1000, 4, 6), 4)
    size_hw = (30, 44)
    whole = best_labels(logits, size_hw)
    groups = [best_labels(part, size_hw) for part in np.split(logits, 8)]
    planes = np.stack(list(upsampled(logits, size_hw)))
    winners = np.stack([group + 125 * number for number, group in enumerate(groups)])  # 8 x H x W
    of_batches = np.take_along_axis(winners, np.take_along_axis(planes, winners, 0).argmax(0)[None], 0)[0]
    assert (of_batches == whole).mean() > 0.999  # a pixel may lie on a border to the last bit
    norms = np.stack([log_sum_exp(part, size_hw) for part in np.split(logits, 8)])
    np.testing.assert_allclose(np.logaddexp.reduce(norms, axis=0), log_sum_exp(logits, size_hw), atol=1e-4)


def test_memory_does_not_grow_with_the_number_of_labels() -> None:
    logits = random_logits(0, (500, 3, 4), 1)
    tracemalloc.start()
    try:
        best_labels(logits, (256, 384))
        log_sum_exp(logits, (256, 384))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 4 * 256 * 384  # of 500 planes
