from __future__ import annotations

import numpy as np
import pytest
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff import EmerDiff
from emerdiff.cluster import low_resolution_masks
from emerdiff.ncut import cosine_affinity, normalised_cuts


def random_affinity(count: int = 24, seed: int = 0) -> np.ndarray:
    features = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    return cosine_affinity(features, 2.0, (1, count))


def ncut(affinity: np.ndarray, side: np.ndarray) -> float:
    """By the definition."""
    cut = affinity[side][:, ~side].sum()
    return cut / affinity[side].sum() + cut / affinity[~side].sum()


def test_a_block_diagonal_affinity_gives_its_blocks():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2, 3, 4], [1, 2, 5, 9, 7]))
    inside = rng.uniform(0.5, 1, (24, 24))
    affinity = (inside + inside.T) * (truth[:, None] == truth)
    found = normalised_cuts(affinity, 0.5, 24)
    assert len(np.unique(np.stack([found, truth]), axis=1).T) == 5  # each block is one piece
    # Equal blocks, whose eigenvectors are any mixture.
    assert normalised_cuts(np.kron(np.eye(6), np.ones((4, 4))), 0.5, 24).tolist() == np.repeat(range(6), 4).tolist()


def test_blocks_that_hardly_touch_are_the_pieces_too():
    affinity = np.kron(np.eye(3), np.ones((8, 8))) * 0.9 + 0.02
    assert normalised_cuts(affinity, 0.5, 24).tolist() == np.repeat([0, 1, 2], 8).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_threshold_cuts_the_pieces_of_a_smaller_one(seed):
    affinity = random_affinity(seed=seed)
    coarse = normalised_cuts(affinity, 0.0, 24)
    assert coarse.tolist() == [0] * 24
    for threshold in (0.3, 0.6, 0.8, 0.9, 1.0, 2.0):
        fine = normalised_cuts(affinity, threshold, 24)
        assert len(np.unique(np.stack([fine, coarse]), axis=1).T) == fine.max() + 1 >= coarse.max() + 1
        coarse = fine
    assert fine.max() > 0


def test_the_first_cut_is_as_cheap_as_its_cost_says():
    affinity = random_affinity()
    side = normalised_cuts(affinity, 2.0, 2) == 0
    cost = ncut(affinity, side)
    assert normalised_cuts(affinity, cost * 1.001, 2).max() == 1
    assert normalised_cuts(affinity, cost * 0.999, 2).max() == 0


def test_the_cut_of_few_positions_is_the_cheapest_of_all():
    """Two groups with noise: no other way to part them costs less."""
    rng = np.random.default_rng(1)
    noise = rng.uniform(0, 0.2, (9, 9))
    affinity = np.kron(np.eye(3), np.ones((3, 3))) + noise + noise.T
    affinity[:6, :6] += 1
    found = normalised_cuts(affinity, 2.0, 2) == 0
    sides = [np.array([bits >> place & 1 for place in range(9)], bool) for bits in range(1, 2**9 - 1)]
    assert ncut(affinity, found) == pytest.approx(min(ncut(affinity, side) for side in sides))


def test_at_most_so_many_pieces_numbered_by_their_first_positions():
    affinity = random_affinity()
    for most in (1, 2, 5, 24):
        found = normalised_cuts(affinity, 2.0, most)
        assert found.dtype == np.int32 and found.max() < most
        assert list(dict.fromkeys(found.tolist())) == list(range(found.max() + 1))
    assert np.array_equal(normalised_cuts(affinity, 2.0, 5), normalised_cuts(affinity, 2.0, 5))


def test_affinity_is_the_power_of_cosines_between_least_and_largest():
    features = np.float32([[2, 0], [0, 3], [-1, 0], [5, 5]])
    halves = (1 + np.array([[1, 0, -1, 0.5**0.5], [0, 1, 0, 0.5**0.5], [-1, 0, 1, -(0.5**0.5)], [0] * 4])) / 2
    halves[3, :3], halves[3, 3] = halves[:3, 3], 1
    np.testing.assert_allclose(cosine_affinity(features, 10.0, (2, 2)), halves**10, atol=1e-6)
    np.testing.assert_allclose(cosine_affinity(features, 1.0, (1, 4))[0, 3], halves[0, 3], atol=1e-6)
    near = cosine_affinity(features, 1.0, (1, 4), position_weight=2.0) / halves.clip(1e-9)
    np.testing.assert_allclose(near[0, 3], np.exp(-4 * 0.75**2), rtol=1e-5)
    np.testing.assert_allclose(near[1, 2], np.exp(-4 * 0.25**2), rtol=1e-5)


@pytest.mark.parametrize("features", [np.ones((16, 3)), np.zeros((16, 3)), 3 * np.arange(1, 17)[:, None] * np.ones(3)])
def test_features_of_one_direction_are_one_cluster(features):
    config = tiny_config(clustering="ncut", ncut_threshold=2.0, clusters=9)
    low_res, means = low_resolution_masks(features.astype(np.float32), (4, 4), config)
    assert low_res.tolist() == [[0] * 4] * 4 and means.shape == (1, 3)


def test_one_position():
    assert normalised_cuts(np.ones((1, 1)), 2.0, 5).tolist() == [0]


@pytest.mark.parametrize("layout", ["mini", "sd1", "sd2"])
@pytest.mark.parametrize("speed", ["exact", "fast", "instant"])
def test_every_layout_and_speed_takes_what_the_image_asks_for(layout, speed):
    config = tiny_config(
        clustering="ncut",
        ncut_threshold=1.0,
        clusters=6,
        speed=speed,
        image_size=128,
        feature_layer="down_blocks.1.attentions.0.transformer_blocks.0.attn1",
    )
    masks = EmerDiff(tiny_backbone(layout), config).segment(picture(96, 96))
    assert masks.label_map.shape == (96, 96) and 1 <= masks.num_masks == masks.low_res.max() + 1 <= 6
