from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_emerdiff import UNETS, tiny_backbone

from emerdiff import attention
from emerdiff.attention import (
    attention_layers,
    attention_rows,
    first_outputs,
    offset_output,
    shared_attention,
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
    with first_outputs([layer.to_q]) as outputs:
        backbone.predict(latents(2), 1)
    hook.remove()
    assert outputs[layer.to_q].shape == (2, 16, 16)
    torch.testing.assert_close(outputs[layer.to_q], inputs[0] @ layer.to_q.weight.T)


def test_a_pass_ends_when_all_that_was_asked_for_is_there(backbone):
    unet, ran = backbone.unet, []
    before = traces(unet)
    asked = [unet.up_blocks[0], unet.down_blocks[1].resnets[0], unet.up_blocks[1].resnets[0]]
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in unet.named_modules()
        if name in ("up_blocks.1.resnets.0", "up_blocks.1.attentions.0", "up_blocks.1")
    ]
    with first_outputs(asked) as outputs:
        backbone.predict(latents(2), 1)
        raise AssertionError("the block ends with the pass")
    for hook in hooks:
        hook.remove()
    assert set(outputs) == set(asked) and ran == ["up_blocks.1.resnets.0"]
    assert traces(unet) == before


@pytest.mark.parametrize("layout", UNETS)
@pytest.mark.parametrize("numbers", [1, 100, 2**24])
def test_following_itself_changes_nothing(layout, numbers, monkeypatch):
    """However many rows of the softmax are computed at once."""
    monkeypatch.setattr(attention, "_SOFTMAX_NUMBERS", numbers)
    backbone = tiny_backbone(layout)
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = backbone.predict(latent, 1)
    with shared_attention(backbone.unet):
        for _ in range(2):  # as a leader, as a follower
            twice = backbone.predict(latent.expand(2, -1, -1, -1), 1)
            torch.testing.assert_close(twice, expected.expand(2, -1, -1, -1), rtol=1e-4, atol=1e-5)


def test_the_attention_is_that_of_the_first_item_of_the_first_pass(backbone):
    leader, follower = latents(1, seed=1), latents(1)
    own = backbone.predict(follower, 1)
    with shared_attention(backbone.unet):
        together = backbone.predict(torch.cat([leader, follower]), 1)
        later = backbone.predict(torch.cat([follower, leader]), 1)
    torch.testing.assert_close(later, together.flip(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[0, None], backbone.predict(leader, 1), rtol=1e-4, atol=1e-5)
    assert (together[1, None] - own).abs().max() > 1e-3
    with shared_attention(backbone.unet):  # another leader
        torch.testing.assert_close(backbone.predict(follower, 1), own, rtol=1e-4, atol=1e-5)


def test_queries_and_keys_of_followers_are_never_projected(backbone):
    sizes: dict[str, set[int]] = {"to_q": set(), "to_k": set()}
    hooks = [
        getattr(layer, part).register_forward_hook(lambda module, args, output, part=part: sizes[part].add(len(output)))
        for layer in attention_layers(backbone.unet).values()
        for part in sizes
    ]
    with shared_attention(backbone.unet):
        backbone.predict(latents(3), 1)
        assert sizes == {"to_q": {1}, "to_k": {1}}
        sizes["to_q"].clear()
        backbone.predict(latents(3), 1)
    for hook in hooks:
        hook.remove()
    assert sizes["to_q"] == set()


def test_rows_of_the_softmax_cover_it_and_add_up_to_one(monkeypatch):
    query, key = torch.randn(2, 3, 10, 4, generator=torch.Generator().manual_seed(0))
    ((_, whole),) = attention_rows(query, key, 0.5)
    torch.testing.assert_close(whole.sum(-1), torch.ones(3, 10))
    monkeypatch.setattr(attention, "_SOFTMAX_NUMBERS", 3 * 10 * 4)
    parts = list(attention_rows(query.half(), key.half(), 0.5))
    assert [(rows.start, rows.stop) for rows, _ in parts] == [(0, 4), (4, 8), (8, 10)]
    torch.testing.assert_close(torch.cat([weights for _, weights in parts], 1), whole, atol=1e-2, rtol=0)
    assert parts[0][1].dtype == torch.float32


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
    with shared_attention(unet), first_outputs([unet, layer]), offset_output(layer, torch.ones(1, 4, 4), LATENT_HW):
        assert traces(unet) != before
        backbone.predict(latents(1), 1)
    assert traces(unet) == before


def test_nothing_is_left_behind_by_an_exception(backbone):
    unet, layer = backbone.unet, backbone.layer(LAYER, "modulation_layer")
    before = traces(unet)
    uses = (
        first_outputs([layer.to_q]),
        shared_attention(unet),
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


def test_attention_that_is_more_than_q_k_v_is_not_shared():
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
    with pytest.raises(ValueError, match=r"down_blocks\.0\.attentions\.0 has more than"), shared_attention(unet):
        pass
    assert traces(unet)[0] == 0
