from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_backbones import BACKBONES, tiny
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff import EmerDiff
from emerdiff.cluster import one_hot
from emerdiff.merging import SelfAttention, merged_by_flow, self_attentions

ROW = np.int32([[0, 1, 2, 3]])


def random_attention(positions: int = 24, layers: int = 2, heads: int = 3, seed: int = 0) -> SelfAttention:
    """Whose positions look most at themselves."""
    queries, noise = torch.randn(2, layers, heads, positions, 5, generator=torch.Generator().manual_seed(seed))
    return SelfAttention(tuple(queries), tuple(queries + 0.3 * noise), (1.0,) * layers)


def random_map(clusters: int = 7, seed: int = 0) -> np.ndarray:
    """(4, 6), each cluster somewhere."""
    places = np.random.default_rng(seed).permutation(24)
    return (places % clusters).reshape(4, 6).astype(np.int32)


def strength(flow: np.ndarray, first: int, second: int) -> float:
    """By the definition."""
    both = flow[first, second] / flow[first, first] * flow[second, first] / flow[second, second]
    return float(both) ** 0.5


def test_flow_is_what_the_product_of_the_maps_says():
    attention, low_res = random_attention(), random_map()
    maps = [
        (query @ key.mT * scale).softmax(-1).mean(0)
        for query, key, scale in zip(attention.queries, attention.keys, attention.scales, strict=True)
    ]
    masks = one_hot(low_res).flatten(1)
    flow = attention.flow(one_hot(low_res))
    np.testing.assert_allclose(flow, masks @ maps[0] @ maps[1] @ masks.T, rtol=1e-5)
    np.testing.assert_allclose(flow.sum(axis=1), np.bincount(low_res.ravel()), rtol=1e-5)


def test_flows_of_clusters_that_become_one_add_up():
    attention, low_res = random_attention(), random_map()
    groups = np.array([0, 1, 0, 2, 1, 1, 2], np.int32)
    members = np.eye(3)[groups]
    together = attention.flow(one_hot(groups[low_res]))
    np.testing.assert_allclose(together, members.T @ attention.flow(one_hot(low_res)) @ members, rtol=1e-5)


def test_what_looks_at_itself_alone_is_never_merged():
    assert merged_by_flow(ROW, np.diag([1.0, 2, 3, 4]), 0.0).tolist() == ROW.tolist()


def test_two_that_attention_does_not_tell_apart_become_one():
    """All look evenly within their group, and a little beyond it."""
    shares = np.kron(np.eye(2), np.full((2, 2), 0.49)) + np.kron(1 - np.eye(2), np.full((2, 2), 0.01))
    for areas in ([1, 1, 1, 1], [1, 5, 2, 9]):
        of_group = np.repeat(np.add.reduceat(areas, [0, 2]), 2)
        flow = np.outer(areas, areas) * shares / of_group
        assert strength(flow, 0, 1) == pytest.approx(1)
        assert merged_by_flow(ROW, flow, 0.9).tolist() == [[0, 0, 1, 1]]
        assert merged_by_flow(ROW, flow, 0.01).tolist() == [[0, 0, 0, 0]]


def test_only_neighbours_are_merged():
    flow = np.diag([1.0] * 4) + 1e-3
    flow[0, 3] = flow[3, 0] = 0.9
    assert merged_by_flow(ROW, flow, 0.5).tolist() == ROW.tolist()
    assert merged_by_flow(np.int32([[0, 3], [1, 2]]), flow, 0.5).tolist() == [[0, 0], [1, 2]]


def test_the_strongest_first_and_none_stronger_is_left():
    low_res, attention = random_map(9), random_attention()
    for above in (0.95, 0.8, 0.6):
        found = merged_by_flow(low_res, attention.flow(one_hot(low_res)), above)
        flow = attention.flow(one_hot(found))
        pairs = {(min(a, b), max(a, b)) for a, b in zip(found[:, 1:].ravel(), found[:, :-1].ravel(), strict=True)}
        pairs |= {(min(a, b), max(a, b)) for a, b in zip(found[1:].ravel(), found[:-1].ravel(), strict=True)}
        assert all(strength(flow, first, second) <= above + 1e-6 for first, second in pairs if first != second)


def test_a_lower_threshold_goes_on_where_a_higher_one_stopped():
    low_res, attention = random_map(9), random_attention()
    flow, fine = attention.flow(one_hot(low_res)), low_res
    counts = []
    for above in (1.0, 0.9, 0.8, 0.6, 0.4, 0.0):
        coarse = merged_by_flow(low_res, flow, above)
        counts.append(int(coarse.max()) + 1)
        assert sorted(np.unique(coarse)) == list(range(counts[-1]))
        assert len(np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1).T) == fine.max() + 1
        fine = coarse
    assert counts == sorted(counts, reverse=True) and len(set(counts)) > 2 and counts[-1] == 1


def test_of_a_unet_all_transformers_of_the_block_take_part():
    backbone = tiny_backbone("sd1")
    names = {layer: name for name, layer in backbone.unet.named_modules()}
    found = [names[each] for each in self_attentions(backbone, "up_blocks.1.attentions.0.transformer_blocks.0.attn2")]
    assert found == [f"up_blocks.1.attentions.{index}.transformer_blocks.0.attn1" for index in range(3)]


@pytest.mark.parametrize("family", [family for family in BACKBONES if not family.startswith("flux")])
def test_every_family_merges_all_to_one_at_zero(family):
    backbone = tiny(family)
    layer = next(name for name, each in backbone.denoiser.named_modules() if hasattr(each, "to_q"))
    config = tiny_config(
        speed="instant", feature_layer=layer, modulation_layer=layer, merge_attention=0.0, timestep_modulate=21
    )
    segmenter = EmerDiff(backbone, config)
    assert segmenter.segment(picture()).num_masks == segmenter.naive(picture()).num_masks == 1
    assert len(self_attentions(backbone, layer)) >= 1


def test_clusters_that_are_merged_cost_no_passes():
    backbone, decoded = tiny_backbone(), []
    backbone.vae.decoder.register_forward_hook(lambda _, __, output: decoded.append(len(output)))
    for above, count in ((None, 4), (0.0, 1)):
        config = tiny_config(merge_attention=above, clusters=4, timestep_modulate=11)
        assert EmerDiff(backbone, config).segment(picture()).num_masks == count
        assert sum(decoded) == 2 * count
        decoded.clear()


def test_without_self_attention_it_is_refused():
    backbone = tiny_backbone()
    for layer in backbone.unet.modules():
        if hasattr(layer, "to_q"):
            layer.is_cross_attention = True
    with pytest.raises(ValueError, match=r"emerdiff\.merge_attention needs self-attention beside up_blocks\.1"):
        EmerDiff(backbone, tiny_config(merge_attention=0.5))
    EmerDiff(backbone, tiny_config())
