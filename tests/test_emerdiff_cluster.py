from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff.attention import recorded_queries
from emerdiff.cluster import cluster, low_resolution_masks, read_features
from emerdiff.frame import to_frame


def test_separate_groups_are_found():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    features = (rng.normal(size=(60, 4)) * 0.1 + 10 * truth[:, None]).astype(np.float32)
    assignment, means = cluster(features, 3)
    assert assignment.dtype == np.int32 and means.dtype == np.float32
    assert [len(set(assignment[truth == group])) for group in range(3)] == [1, 1, 1]
    assert sorted(set(assignment)) == [0, 1, 2]
    for index in range(3):
        np.testing.assert_allclose(means[index], features[assignment == index].mean(0), rtol=1e-6)


def test_the_same_features_give_the_same_clusters():
    features = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    first, again = cluster(features, 7), cluster(features, 7)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])


@pytest.mark.filterwarnings("error")
def test_constant_features_are_one_cluster():
    assignment, means = cluster(np.ones((16, 3), np.float32), 4)
    assert assignment.tolist() == [0] * 16
    assert np.array_equal(means, np.ones((1, 3)))


def test_as_many_clusters_as_positions():
    assignment, means = cluster(np.arange(6, dtype=np.float32)[:, None], 6)
    assert sorted(assignment) == list(range(6))
    np.testing.assert_array_equal(means[assignment, 0], np.arange(6))


def test_more_clusters_than_positions():
    with pytest.raises(ValueError, match=r"emerdiff\.clusters: 7 given, at most 6 expected"):
        cluster(np.zeros((6, 2), np.float32), 7)


def test_masks_lie_on_the_layers_grid():
    backbone, config = tiny_backbone(), tiny_config()
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    low_res, means = low_resolution_masks(backbone, clean, config, torch.Generator().manual_seed(0))
    assert low_res.shape == (4, 6) and low_res.dtype == np.int32
    assert means.shape == (3, 16)


def test_features_are_averaged_over_draws():
    backbone = tiny_backbone()
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    one, two, both = tiny_config(), tiny_config(), tiny_config(feature_draws=2)
    generator = torch.Generator().manual_seed(0)
    singles = [read_features(backbone, clean, config, generator) for config in (one, two)]
    averaged = read_features(backbone, clean, both, torch.Generator().manual_seed(0))
    assert not np.array_equal(*singles)
    np.testing.assert_allclose(averaged, np.mean(singles, axis=0), rtol=1e-4, atol=1e-6)


def test_features_come_from_the_configured_layer_and_timestep():
    backbone = tiny_backbone()
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    config = tiny_config(feature_layer=name, timestep_feature=500)  # off the schedule
    features = read_features(backbone, clean, config, torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    alpha = backbone.schedule.alphas_cumprod[500]
    with recorded_queries(backbone.layer(name, "feature_layer")) as queries:
        backbone.predict(alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, 500)
    np.testing.assert_allclose(features, queries[0][0].numpy(), rtol=1e-4, atol=1e-5)


def test_features_that_overflow_are_an_error():
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match="not finite in this dtype; try bfloat16 or float32"):
        read_features(backbone, torch.full((1, 4, 8, 8), float("inf")), tiny_config(), torch.Generator())
