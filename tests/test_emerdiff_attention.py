from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_emerdiff import tiny_backbone

from emerdiff import attention
from emerdiff.attention import (
    attention_layers,
    injected_attention,
    offset_output,
    recorded_attention,
    recorded_queries,
    token_grid,
)

LAYER = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
LATENT_HW = (8, 8)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 4, *LATENT_HW, generator=torch.Generator().manual_seed(seed))


def traces(unet: torch.nn.Module) -> tuple[int, list[object]]:
    """What hooks and processors there are: the number of hooks, and every layer's processor."""
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules())
    return hooks, [layer.processor for layer in attention_layers(unet).values()]


def test_queries_are_the_layers_projections_before_heads_are_split(backbone):
    layer = backbone.layer(LAYER, "feature_layer")
    inputs = []
    hook = layer.to_q.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with recorded_queries(layer) as queries:
        backbone.predict(latents(2), 1)
    hook.remove()
    assert [query.shape for query in queries] == [(2, 16, 16)]
    torch.testing.assert_close(queries[0], inputs[0] @ layer.to_q.weight.T)


def test_a_record_holds_self_attentions_and_cross_attentions(backbone):
    with recorded_attention(backbone.unet) as record:
        backbone.predict(latents(1), 1)
    layers = attention_layers(backbone.unet)
    assert set(record.queries) == set(record.keys) == {name for name in layers if name.endswith("attn1")}
    assert set(record.outputs) == {name for name in layers if name.endswith("attn2")}


@pytest.mark.parametrize("shared_tokens", [0, 1024])
def test_injecting_its_own_attention_changes_nothing(backbone, shared_tokens, monkeypatch):
    monkeypatch.setattr(attention, "_SHARED_SOFTMAX_TOKENS", shared_tokens)
    with recorded_attention(backbone.unet) as record:
        expected = backbone.predict(latents(1), 1)
    with injected_attention(backbone.unet, record):
        twice = backbone.predict(latents(1).expand(2, -1, -1, -1), 1)
    torch.testing.assert_close(twice, expected.expand(2, -1, -1, -1), rtol=1e-4, atol=1e-5)


def test_the_injected_attention_is_that_of_the_other_latent(backbone):
    with recorded_attention(backbone.unet) as record:
        backbone.predict(latents(1, seed=1), 1)
    own = backbone.predict(latents(1), 1)
    with injected_attention(backbone.unet, record):
        injected = backbone.predict(latents(1), 1)
    assert (own - injected).abs().max() > 1e-3


def test_an_offset_is_one_scalar_per_position(backbone):
    layer = backbone.layer(LAYER, "modulation_layer")
    offsets = torch.arange(32.0).reshape(2, 4, 4)
    outputs = []
    hook = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    with offset_output(layer, offsets, LATENT_HW):  # its hook runs after the one above
        after = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
        backbone.predict(latents(2), 1)
        after.remove()
    hook.remove()
    change = outputs[1] - outputs[0]
    torch.testing.assert_close(change, offsets.reshape(2, 16, 1).expand(2, 16, 16), rtol=0, atol=1e-5)


def test_an_offset_of_another_grid_is_resized(backbone):
    layer = backbone.layer("mid_block.attentions.0.transformer_blocks.0.attn2", "modulation_layer")
    offsets = torch.tensor([[1.0, 1, 3, 3], [1, 1, 3, 3], [5, 5, 7, 7], [5, 5, 7, 7]])[None]
    plain = layer(torch.zeros(1, 4, 32), backbone.empty_prompt)
    with offset_output(layer, offsets, LATENT_HW):
        change = layer(torch.zeros(1, 4, 32), backbone.empty_prompt) - plain
    torch.testing.assert_close(change[0, :, 0], torch.tensor([1.0, 3, 5, 7]))


def test_nothing_is_left_behind(backbone):
    unet, layer = backbone.unet, backbone.layer(LAYER, "modulation_layer")
    before = traces(unet)
    with recorded_attention(unet) as record, recorded_queries(layer):
        backbone.predict(latents(1), 1)
    with injected_attention(unet, record), offset_output(layer, torch.ones(1, 4, 4), LATENT_HW):
        assert traces(unet) != before
        backbone.predict(latents(1), 1)
    assert traces(unet) == before


def test_nothing_is_left_behind_by_an_exception(backbone):
    unet, layer = backbone.unet, backbone.layer(LAYER, "modulation_layer")
    before = traces(unet)
    with recorded_attention(unet) as record:
        backbone.predict(latents(1), 1)
    uses = (
        recorded_queries(layer),
        recorded_attention(unet),
        injected_attention(unet, record),
        offset_output(layer, torch.ones(1, 4, 4), LATENT_HW),
    )
    for use in uses:
        with pytest.raises(RuntimeError, match="channels"), use:
            backbone.predict(torch.zeros(1, 7, *LATENT_HW), 1)  # fails inside the UNet
        assert traces(unet) == before


@pytest.mark.parametrize(
    ("latent_hw", "tokens", "grid"),
    [((64, 64), 256, (16, 16)), ((56, 72), 63, (7, 9)), ((8, 512), 64, (1, 64)), ((64, 64), 4096, (64, 64))],
)
def test_token_grid(latent_hw, tokens, grid):
    assert token_grid(latent_hw, tokens) == grid


def test_token_grid_that_does_not_fit():
    with pytest.raises(ValueError, match="a layer has 77 tokens, expected the latent's 64x64 or a halving of it"):
        token_grid((64, 64), 77)


def test_attention_that_is_more_than_q_k_v_is_not_recorded():
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("AttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "AttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    with pytest.raises(ValueError, match=r"down_blocks\.0\.attentions\.0 has more than"), recorded_attention(unet):
        pass
    assert traces(unet)[0] == 0
