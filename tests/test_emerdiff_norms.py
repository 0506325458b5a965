"""Shared norms: one item's statistics for all; what is changed in one place then changes nothing elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from emerdiff.norms import shared_norms


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(4, 4)).eval()


@torch.no_grad()
def test_the_first_item_leads_and_is_normed_as_ever():
    layers, items = net(), torch.randn(3, 4, 8, 8)
    nn.init.uniform_(layers[0].weight)
    nn.init.uniform_(layers[0].bias)
    alone = layers(items[:1])
    with shared_norms(layers):
        first = layers(items[:1])
        later = layers(items)
    torch.testing.assert_close(first, alone)
    torch.testing.assert_close(later[:1], alone)
    assert (later[1:] - layers(items[1:])).abs().max() > 1e-2


@torch.no_grad()
def test_a_change_in_one_place_changes_nothing_far_from_it():
    layers, item = net(), torch.randn(1, 4, 8, 8)
    changed = item.clone()
    changed[..., 0] += 10
    far = slice(2, None)  # columns that no convolution brings it to
    own = layers(changed) - layers(item)
    with shared_norms(layers):
        shared = layers(torch.cat([item, changed]))
    assert own[..., far].abs().max() > 1e-2
    torch.testing.assert_close(shared[1, ..., far], shared[0, ..., far])
    assert (shared[1] - shared[0]).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("affine", [True, False])
def test_forwards_are_put_back_also_after_an_error(affine):
    layers, item = nn.Sequential(nn.GroupNorm(2, 4, affine=affine)), torch.randn(1, 4, 5)
    before = layers(item)
    with pytest.raises(RuntimeError, match="enough"), shared_norms(layers):
        torch.testing.assert_close(layers(item), before)
        raise RuntimeError("enough")
    assert "forward" not in layers[0].__dict__
