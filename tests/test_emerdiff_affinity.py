"""Affinity: rows add up to one, a slow product of whole maps gives the same, and chunks do not matter."""

from __future__ import annotations

import pytest
import torch
from tiny_emerdiff import tiny_backbone

from emerdiff import attention
from emerdiff.affinity import (
    SPREAD,
    THRESHOLD,
    WINDOW,
    AttentionAffinity,
    WindowAffinity,
    affinity_modules,
    affinity_of,
    window_affinity,
)
from emerdiff.attention import first_outputs


def attention_affinity(tokens_hw: tuple[int, int] = (4, 6), seed: int = 0) -> AttentionAffinity:
    """Two layers of three heads, sharp enough that the threshold cuts most."""
    count, generator = tokens_hw[0] * tokens_hw[1], torch.Generator().manual_seed(seed)
    queries, keys = (tuple(3 * torch.randn(2, 3, count, 5, generator=generator)) for _ in range(2))
    return AttentionAffinity(queries, keys, (0.4, 0.5), tokens_hw)


def whole_product(affinity: AttentionAffinity) -> torch.Tensor:
    """P as CLIPer's authors compute it: all maps in memory, product of layer upon layer, head upon head."""
    product = torch.eye(affinity.queries[0].shape[1])
    for query, key, scale in reversed(list(zip(affinity.queries, affinity.keys, affinity.scales, strict=True))):
        for head in range(len(query)):
            weights = (query[head] @ key[head].T * scale).softmax(-1)
            weights = weights / weights.amax(0, keepdim=True)
            weights = torch.where(weights < THRESHOLD, 0, weights)
            product = product @ (weights / weights.sum(1, keepdim=True))
    return product


def kinds() -> list[AttentionAffinity | WindowAffinity]:
    features = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    return [attention_affinity(), window_affinity(features)]


def test_it_is_the_product_of_all_maps():
    affinity = attention_affinity()
    masks = torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(1))
    expected = (whole_product(affinity) @ masks.flatten(1).T).T.reshape(5, 4, 6)
    torch.testing.assert_close(affinity.spread(masks), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("affinity", kinds(), ids=lambda affinity: type(affinity).__name__)
def test_each_row_adds_up_to_one_and_has_nothing_negative(affinity):
    rows = affinity.spread(torch.eye(24).reshape(24, 4, 6))  # of P: what each position takes from each
    assert rows.min() >= 0
    torch.testing.assert_close(rows.sum(0), torch.ones(4, 6))


@pytest.mark.parametrize("affinity", kinds(), ids=lambda affinity: type(affinity).__name__)
def test_shares_stay_shares_from_any_grid(affinity):
    masks = torch.zeros(3, 2, 3)
    masks[0, :, 0] = masks[1, 0, 1:] = masks[2, 1, 1:] = 1
    spread = affinity.spread(masks)
    assert spread.shape == (3, 4, 6) and spread.dtype == torch.float32
    torch.testing.assert_close(spread.sum(0), torch.ones(4, 6))


def test_a_row_of_which_the_threshold_leaves_nothing_keeps_its_own():
    attention_map = torch.eye(24)
    attention_map[0] = 1 / 24  # looks a little everywhere, and others look much more at each place
    attention_map[1, :2] = 0.5
    query = attention_map.clamp(min=1e-9).log()[None]
    affinity = AttentionAffinity((query,), (torch.eye(24)[None],), (1.0,), (4, 6))
    rows = affinity.spread(torch.eye(24).reshape(24, 4, 6)).flatten(1).T
    torch.testing.assert_close(rows[0], torch.eye(24)[0])
    torch.testing.assert_close(rows[1:], attention_map[1:])


@pytest.mark.parametrize("numbers", [1, 50, 24 * 24])
def test_chunks_do_not_matter(numbers, monkeypatch):
    affinity, masks = attention_affinity(), torch.rand(5, 4, 6, generator=torch.Generator().manual_seed(1))
    expected = affinity.spread(masks)
    monkeypatch.setattr(attention, "_SOFTMAX_NUMBERS", numbers)
    torch.testing.assert_close(affinity.spread(masks), expected, rtol=1e-5, atol=1e-6)


def test_no_whole_map_is_ever_in_memory(monkeypatch):
    monkeypatch.setattr(attention, "_SOFTMAX_NUMBERS", 2 * 24)
    sizes = []
    rows_of = attention.attention_rows

    def watched(*arguments):
        for rows, weights in rows_of(*arguments):
            sizes.append(weights.numel())
            yield rows, weights

    monkeypatch.setattr("emerdiff.affinity.attention_rows", watched)
    attention_affinity().spread(torch.rand(5, 4, 6))
    assert max(sizes) == 2 * 24


def test_a_window_takes_from_what_is_alike_and_near():
    features = torch.zeros(2, 9, 20)
    features[0, :, 10:] = 1  # two halves
    affinity = window_affinity(features)
    assert affinity.weights.shape == ((2 * WINDOW + 1) ** 2, 9, 20)
    mask = torch.zeros(1, 9, 20)
    mask[0, :, 9:] = 1  # reaches a column too far to the left
    spread = affinity.spread(mask)[0]
    assert spread[:, 10:].min() > 0.9 and spread[:, :9].max() < 0.3
    assert (spread[:, : 9 - WINDOW] == 0).all()


def test_a_windows_weights_are_those_of_the_formula():
    features = torch.randn(3, 12, 14, generator=torch.Generator().manual_seed(0))
    weights = window_affinity(features).weights
    variance = features.flatten(1).var(1, correction=0).sum()
    side = 2 * WINDOW + 1
    expected = torch.zeros(side, side)
    for row in range(side):
        for column in range(side):
            other = features[:, 6 + row - WINDOW, 5 + column - WINDOW]
            expected[row, column] = torch.exp(-(features[:, 6, 5] - other).square().sum() / (SPREAD * variance))
    expected = (255 * expected).round() / 255
    torch.testing.assert_close(weights[:, 6, 5].reshape(side, side), expected / expected.sum())
    torch.testing.assert_close(window_affinity(7 * features).weights, weights)


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (3, 2), (7, 5)])
def test_neighbours_weigh_each_other_alike(hw):
    affinity = window_affinity(0.3 * torch.randn(3, *hw, generator=torch.Generator().manual_seed(0)))
    count = hw[0] * hw[1]
    rows = affinity.spread(torch.eye(count).reshape(count, *hw)).flatten(1).T  # of P
    closeness = rows / rows.diag()[:, None]
    torch.testing.assert_close(closeness, closeness.T)
    torch.testing.assert_close(rows.sum(1), torch.ones(count))


def test_what_is_no_closeness_is_refused():
    shapes = [(torch.float32, (40, 3, 3)), (torch.uint8, (41, 3, 3)), (torch.uint8, (40, 3))]
    for dtype, shape in shapes:
        with pytest.raises(ValueError, match=r"closeness is torch\..*, expected torch\.uint8 \(40, H, W\)"):
            WindowAffinity(torch.zeros(shape, dtype=dtype))


def test_features_that_are_all_alike_give_plain_means():
    weights = window_affinity(torch.ones(3, 5, 5)).weights
    assert torch.isfinite(weights).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(5, 5))
    assert (weights[:, 0, 0] > 0).sum() == (WINDOW + 1) ** 2  # in a corner, what is inside


@pytest.mark.parametrize(
    ("layout", "source", "kind"),
    [
        ("mini", None, WindowAffinity),
        ("sd1", None, AttentionAffinity),
        ("sd2", "attention", AttentionAffinity),
        ("sd1", "features", WindowAffinity),
    ],
)
def test_what_a_unet_has_decides_unless_the_config_does(layout, source, kind):
    backbone, hw = tiny_backbone(layout), (16, 24)
    modules = affinity_modules(backbone, source)
    with first_outputs(modules) as outputs:
        backbone.predict(torch.randn(1, 4, *hw, generator=torch.Generator().manual_seed(0)), 101)
    affinity = affinity_of(backbone, [outputs[module][0] for module in modules], hw, source)
    assert isinstance(affinity, kind)
    rows = affinity.spread(torch.rand(2, 4, 6))
    assert rows.shape == (2, *hw) and torch.isfinite(rows).all()


def test_attention_that_a_unet_has_not_is_one_line():
    with pytest.raises(ValueError, match=r"emerdiff\.affinity is 'attention', expected 'features'"):
        affinity_modules(tiny_backbone("mini"), "attention")


def test_the_attention_is_that_of_the_unet():
    """Its softmax is what the layer's own pass multiplies its values with."""
    unet = (backbone := tiny_backbone("sd1")).unet
    layer = unet.get_submodule("up_blocks.3.attentions.0.transformer_blocks.0.attn1")
    modules = [*affinity_modules(backbone)[:2], layer.to_v, layer.to_out[0]]
    with first_outputs(modules) as outputs:
        backbone.predict(torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)), 101)
    queries, keys, values, output = (outputs[module][0] for module in modules)
    (query,), (key,) = ((each.unflatten(1, (layer.heads, -1)).transpose(0, 1),) for each in (queries, keys))
    assert layer.to_q is modules[0] and layer.to_k is modules[1]
    ((_, weights),) = attention.attention_rows(query, key, layer.scale)
    mixed = (weights @ values.unflatten(1, (layer.heads, -1)).transpose(0, 1)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.to_out[0](mixed), output, rtol=1e-4, atol=1e-5)
