"""A pass that begins in mid-UNet equals the whole pass, wherever it begins, and leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from test_emerdiff_attention import latents, traces
from tiny_emerdiff import UNETS, tiny_backbone

from emerdiff.attention import attention_layers, offset_output, shared_attention
from emerdiff.prefix import recorded_prefix, resumed_after

LAYER = "up_blocks.1.attentions.2.transformer_blocks.0.attn2"
LAYERS = [(layout, name) for layout in UNETS for name in list(attention_layers(tiny_backbone(layout).unet))[1::3]]


def size_hw(layout: str) -> tuple[int, int]:
    return (8, 16) if layout == "mini" else (16, 24)  # of the latent


@pytest.mark.parametrize(("layout", "name"), LAYERS)
def test_the_tail_equals_the_whole_pass(layout, name):
    backbone, hw = tiny_backbone(layout), size_hw(layout)
    layer = backbone.layer(name, "modulation_layer")
    latent = torch.randn(1, 4, *hw, generator=torch.Generator().manual_seed(0))
    offsets = torch.randn(3, hw[0] // 2, hw[1] // 2, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        with offset_output(layer, offsets, hw):
            expected = backbone.predict(latent.expand(3, -1, -1, -1), 21)
        with recorded_prefix(backbone.unet, layer) as prefix:
            plain = backbone.predict(latent, 21)
        with resumed_after(prefix, offsets, hw):
            tails = backbone.predict(torch.full((3, 4, *hw), float("nan")), 21)  # the latents are not looked at
    assert (expected - plain).abs().max() > 1e-4
    torch.testing.assert_close(tails, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", UNETS)
def test_the_tail_equals_the_whole_pass_with_shared_attention(layout):
    backbone, hw = tiny_backbone(layout), size_hw(layout)
    layer = backbone.layer(LAYER, "modulation_layer")
    latent = torch.randn(1, 4, *hw, generator=torch.Generator().manual_seed(0))
    offsets = torch.randn(3, hw[0] // 2, hw[1] // 2, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        with shared_attention(backbone.unet):
            backbone.predict(latent, 21)
            with offset_output(layer, offsets, hw):
                expected = backbone.predict(latent.expand(3, -1, -1, -1), 21)
        with shared_attention(backbone.unet):
            with recorded_prefix(backbone.unet, layer) as prefix:
                backbone.predict(latent, 21)
            with resumed_after(prefix, offsets, hw):
                tails = backbone.predict(latent.expand(3, -1, -1, -1), 21)
    torch.testing.assert_close(tails, expected, rtol=1e-5, atol=1e-5)


def test_nothing_before_the_layer_is_computed_again():
    unet = (backbone := tiny_backbone("sd1")).unet
    with recorded_prefix(unet, unet.get_submodule(LAYER)) as prefix:
        backbone.predict(torch.randn(1, 4, 16, 16), 21)
    # Their own forwards are replaced, whose parts are what a hook can see.
    inner = {
        f"{name}.{part}": module
        for name in names(unet, prefix)
        for part, module in unet.get_submodule(name).named_modules()
        if part
    }
    seen: list[str] = []
    hooks = [module.register_forward_hook(lambda *_, name=name: seen.append(name)) for name, module in inner.items()]
    with resumed_after(prefix, torch.zeros(2, 4, 4), (16, 16)):
        backbone.predict(torch.randn(2, 4, 16, 16), 21)
    for hook in hooks:
        hook.remove()
    assert seen == []
    assert names(unet, prefix) == {
        "time_embedding", "conv_in", "mid_block", "up_blocks.0", *(f"down_blocks.{i}" for i in range(4)),
        *(f"up_blocks.1.{part}" for part in ("resnets.0", "attentions.0", "resnets.1", "attentions.1", "resnets.2")),
        *(f"up_blocks.1.attentions.2.{part}" for part in ("norm", "proj_in")),
        *(f"up_blocks.1.attentions.2.transformer_blocks.0.{part}" for part in ("norm1", "attn1", "norm2", "attn2")),
    }  # fmt: skip


def test_each_item_is_its_own():
    backbone = tiny_backbone()
    layer = backbone.layer(LAYER, "modulation_layer")
    offsets = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), shared_attention(backbone.unet):
        with recorded_prefix(backbone.unet, layer) as prefix:
            backbone.predict(latents(1), 21)
        with resumed_after(prefix, offsets, (8, 8)):
            together = backbone.predict(latents(5), 21)
        for index in (0, 3):
            with resumed_after(prefix, offsets[index, None], (8, 8)):
                alone = backbone.predict(latents(1), 21)
            torch.testing.assert_close(alone, together[index, None], rtol=1e-5, atol=1e-5)


def test_a_module_that_runs_before_and_after_is_computed():
    backbone = tiny_backbone()
    unet, layer = backbone.unet, backbone.layer(LAYER, "modulation_layer")
    unet.conv_act = unet.time_embedding.act = torch.nn.SiLU()  # one module at two places, as some versions have it
    with recorded_prefix(unet, layer) as prefix:
        expected = backbone.predict(latents(1), 21)
    assert unet.conv_act not in prefix.outputs
    with resumed_after(prefix, torch.zeros(1, 4, 4), (8, 8)):
        torch.testing.assert_close(backbone.predict(latents(1), 21), expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_left_behind():
    backbone = tiny_backbone()
    unet, layer = backbone.unet, backbone.layer(LAYER, "modulation_layer")
    before, forwards = traces(unet), own_forwards(unet)
    with recorded_prefix(unet, layer) as prefix:
        backbone.predict(latents(1), 21)
    with resumed_after(prefix, torch.zeros(1, 4, 4), (8, 8)):
        assert len(own_forwards(unet)) == len(prefix.outputs)
        backbone.predict(latents(1), 21)
    with pytest.raises(RuntimeError, match="channels"), recorded_prefix(unet, layer):
        backbone.predict(torch.zeros(1, 7, 8, 8), 1)
    with pytest.raises(ValueError, match="tokens, expected"), resumed_after(prefix, torch.zeros(1, 4, 4), (9, 9)):
        backbone.predict(latents(1), 21)
    assert traces(unet) == before and own_forwards(unet) == forwards == {}


def test_a_forward_that_another_tool_replaced_comes_back():
    backbone = tiny_backbone()
    unet, layer = backbone.unet, backbone.layer(LAYER, "modulation_layer")
    theirs = unet.conv_in.forward
    unet.conv_in.forward = theirs
    with recorded_prefix(unet, layer) as prefix:
        backbone.predict(latents(1), 21)
    with resumed_after(prefix, torch.zeros(1, 4, 4), (8, 8)):
        assert unet.conv_in.forward is not theirs
    assert unet.conv_in.forward is theirs


def names(unet, prefix) -> set[str]:
    return {name for name, module in unet.named_modules() if module in prefix.outputs}


def own_forwards(unet) -> dict[str, object]:
    return {name: module.forward for name, module in unet.named_modules() if "forward" in vars(module)}
