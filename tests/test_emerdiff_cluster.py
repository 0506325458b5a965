from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.measure import label as connected_parts
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff.attention import recorded
from emerdiff.cluster import cluster, low_resolution_masks, read_features, with_positions
from emerdiff.frame import to_frame


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
    backbone, config = tiny_backbone(), tiny_config(clustering=clustering, position_weight=0.5)
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    low_res, means = low_resolution_masks(backbone, clean, config, torch.Generator().manual_seed(0))
    assert low_res.shape == (4, 6) and low_res.dtype == np.int32
    assert means.shape == (3, 16) and means.dtype == np.float32  # of the queries alone, without positions
    queries = read_features(backbone, clean, config, torch.Generator().manual_seed(0)).reshape(4, 6, 16)
    np.testing.assert_allclose(means, [queries[low_res == index].mean(0) for index in range(3)], rtol=1e-5)


def test_features_are_averaged_over_draws():
    backbone = tiny_backbone()
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    one, two, both = tiny_config(), tiny_config(), tiny_config(feature_draws=2)
    generator = torch.Generator().manual_seed(0)
    singles = [read_features(backbone, clean, config, generator) for config in (one, two)]
    averaged = read_features(backbone, clean, both, torch.Generator().manual_seed(0))
    assert not np.array_equal(*singles)
    np.testing.assert_allclose(averaged, np.mean(singles, axis=0), rtol=1e-4, atol=1e-5)


def test_features_need_one_pass_that_ends_at_their_layer():
    backbone = tiny_backbone()
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    batches, after = [], []
    hooks = [
        backbone.unet.conv_in.register_forward_hook(lambda module, args, output: batches.append(len(output))),
        backbone.unet.up_blocks[1].register_forward_hook(lambda module, args, output: after.append(output)),
    ]
    one_batch = read_features(backbone, clean, tiny_config(feature_draws=5, batch_size=5), torch.Generator())
    assert batches == [5] and after == []
    batched = read_features(backbone, clean, tiny_config(feature_draws=5, batch_size=2), torch.Generator())
    assert batches == [5, 2, 2, 1]
    np.testing.assert_allclose(batched, one_batch, rtol=1e-4, atol=1e-5)
    for hook in hooks:
        hook.remove()


def test_features_come_from_the_configured_layer_and_timestep():
    backbone = tiny_backbone()
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    config = tiny_config(feature_layer=name, timestep_feature=500)  # off the schedule
    features = read_features(backbone, clean, config, torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    alpha = backbone.schedule.alphas_cumprod[500]
    with recorded(backbone.layer(name, "feature_layer").to_q) as queries:
        backbone.predict(alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, 500)
    np.testing.assert_allclose(features, queries[0][0].numpy(), rtol=1e-4, atol=1e-5)


def test_features_that_overflow_are_an_error():
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match="not finite in this dtype; try bfloat16 or float32"):
        read_features(backbone, torch.full((1, 4, 8, 8), float("inf")), tiny_config(), torch.Generator())
