"""What is read of the UNet: the mean over noises, in one pass a timestep that ends where nothing more is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff.affinity import affinity_of
from emerdiff.attention import first_outputs
from emerdiff.backbone import Backbone
from emerdiff.frame import to_frame
from emerdiff.observe import Observation, observe


def look(backbone: Backbone, *, seed: int = 0, with_affinity: bool = False, **changes: object) -> Observation:
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return observe(backbone, clean, tiny_config(**changes), generator, with_affinity=with_affinity)


@contextmanager
def watched(backbone: Backbone) -> Iterator[list[tuple[str, int]]]:
    """The UNet's blocks as they finish, and their batch."""
    seen: list[tuple[str, int]] = []

    def note(name: str):
        return lambda module, args, output: seen.append((name, len(output)))

    names = ("conv_in", "up_blocks.0", "up_blocks.1", "up_blocks.2")
    hooks = [backbone.unet.get_submodule(name).register_forward_hook(note(name)) for name in names]
    yield seen
    for hook in hooks:
        hook.remove()


def test_features_are_the_layers_queries_at_the_configured_timestep():
    backbone = tiny_backbone()
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    seen = look(backbone, feature_layer=name, timestep_feature=500)  # off the schedule
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    alpha = backbone.schedule.alphas_cumprod[500]
    queries_of = backbone.layer(name, "feature_layer").to_q
    with first_outputs([queries_of]) as outputs:
        backbone.predict(alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, 500)
    np.testing.assert_allclose(seen.features, outputs[queries_of][0].numpy(), rtol=1e-4, atol=1e-5)
    assert seen.grid_hw == (4, 6) and seen.affinity is None


def test_features_are_averaged_over_draws():
    backbone = tiny_backbone()
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    generator = torch.Generator().manual_seed(0)
    singles = [observe(backbone, clean, tiny_config(), generator, with_affinity=False).features for _ in range(3)]
    averaged = look(backbone, feature_draws=3).features
    assert not np.array_equal(singles[0], singles[1])
    np.testing.assert_allclose(averaged, np.mean(singles, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("with_affinity", [False, True])
def test_draws_are_one_batch_unless_memory_is_small(with_affinity):
    backbone = tiny_backbone()
    with watched(backbone) as seen:
        one_batch = look(backbone, feature_draws=5, batch_size=5, with_affinity=with_affinity)
        sizes = [size for name, size in seen if name == "conv_in"]
        assert sizes == [5] * (1 + with_affinity)
        seen.clear()
        batched = look(backbone, feature_draws=5, batch_size=2, with_affinity=with_affinity)
        assert [size for name, size in seen if name == "conv_in"] == [2, 2, 1] * (1 + with_affinity)
    np.testing.assert_allclose(batched.features, one_batch.features, rtol=1e-4, atol=1e-5)


def test_a_pass_ends_where_nothing_more_is_looked_at():
    backbone = tiny_backbone()
    with watched(backbone) as seen:
        look(backbone)
    assert [name for name, _ in seen] == ["conv_in", "up_blocks.0"]  # the feature layer is in up_blocks.1
    with watched(backbone) as seen:
        look(backbone, with_affinity=True, timestep_feature=21, timestep_affinity=21)
    assert [name for name, _ in seen] == ["conv_in", "up_blocks.0", "up_blocks.1"]  # one pass for both
    with watched(backbone) as seen:
        look(backbone, with_affinity=True, timestep_feature=21, timestep_affinity=101)
    assert [name for name, _ in seen] == ["conv_in", "up_blocks.0"] * 2 + ["up_blocks.1"]


def test_one_pass_for_both_sees_what_two_would():
    backbone = tiny_backbone()
    together = look(backbone, with_affinity=True, timestep_feature=21, timestep_affinity=21)
    np.testing.assert_array_equal(together.features, look(backbone, timestep_feature=21).features)
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    alpha = backbone.schedule.alphas_cumprod[21]
    block = backbone.unet.up_blocks[1]
    with first_outputs([block]) as outputs:
        backbone.predict(alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, 21)
    expected = affinity_of(backbone, [outputs[block][0]], (8, 12))
    torch.testing.assert_close(together.affinity.weights, expected.weights, rtol=1e-3, atol=1e-5)


def test_features_that_overflow_are_an_error():
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match="not finite in this dtype; try bfloat16 or float32"):
        clean = torch.full((1, 4, 8, 8), float("inf"))
        observe(backbone, clean, tiny_config(), torch.Generator(), with_affinity=False)
