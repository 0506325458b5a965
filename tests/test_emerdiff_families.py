"""Laws of the method on a tiny random model of every family of backbones: the same for all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference_emerdiff import prediction, reference_differences
from test_emerdiff_attention import traces
from tiny_backbones import BACKBONES, LAYERS, tiny
from tiny_emerdiff import picture, tiny_config

from emerdiff import EmerDiff
from emerdiff.attention import attention_layers, first_outputs, offset_output, shared_attention
from emerdiff.cluster import one_hot
from emerdiff.difference import difference_planes
from emerdiff.frame import to_frame
from emerdiff.modulate import modulated_ends, modulated_pairs
from emerdiff.prefix import recorded_prefix, resumed_after
from emerdiff.speed import Speed

TIMESTEPS = [21, 11, 1]
LOW_RES = np.repeat(np.array([[0, 0, 1, 1, 2, 2]], np.int32), 4, axis=0)


def config_of(family: str, **changes):
    feature, modulation = LAYERS[family]
    return tiny_config(**{"feature_layer": feature, "modulation_layer": modulation, "difference_blur": 0, **changes})


def frame_of(family: str) -> tuple[int, int]:
    return (64, 64) if family == "dit" else (64, 96)


@pytest.mark.parametrize("family", BACKBONES)
@pytest.mark.parametrize(("modulate", "inject"), [("once", True), ("onward", True), ("onward", False)])
def test_exact_equals_the_reference(family, modulate, inject):
    backbone, frame_hw = tiny(family), frame_of(family)
    config = config_of(family, modulate=modulate, inject_attention=inject, strength=3)
    clean = backbone.encode(to_frame(picture(*frame_hw), frame_hw))
    generator = torch.Generator().manual_seed(0)
    torch.randn(clean.shape, generator=generator)  # the features'
    pairs = modulated_pairs(backbone, clean, TIMESTEPS, one_hot(LOW_RES), config, generator)
    planes = torch.stack(list(difference_planes(backbone, *pairs, config)))
    expected = reference_differences(backbone, clean, torch.from_numpy(LOW_RES), TIMESTEPS, config, seed=0)
    assert expected.amax(dim=(1, 2)).min() > 1e-3  # every mask changes something
    if family == "vq":  # where a latent lies half-way between two words of the codebook, rounding decides
        assert ((planes - expected).abs() < 1e-4).float().mean() > 0.95
    else:
        torch.testing.assert_close(planes, expected, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("family", BACKBONES)
def test_it_asks_its_model_what_its_pipeline_does(family):
    backbone, (height, width) = tiny(family), frame_of(family)
    latents = torch.randn(2, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    for latent, predicted in zip(latents, backbone.predict(latents, 301), strict=True):
        torch.testing.assert_close(predicted, prediction(backbone, latent[None], 301)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", BACKBONES)
@pytest.mark.parametrize("inject", [True, False])
def test_an_offset_of_nothing_replays_the_latent(family, inject):
    backbone = tiny(family)
    config = config_of(family, modulate="onward", inject_attention=inject)
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    offsets = torch.zeros(3, 4, 4)
    ends = modulated_ends(backbone, clean, TIMESTEPS, offsets, config, torch.Generator().manual_seed(0))
    torch.testing.assert_close(ends, clean.expand(3, -1, -1, -1), rtol=1e-4, atol=1e-5)


def test_what_all_channels_of_pixarts_cross_attention_share_is_lost():
    """The reason why it is refused as the layer to modulate."""
    backbone = tiny("pixart-sigma")
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = backbone.predict(latent, 21)
    for name, changes in (("attn1", True), ("attn2", False)):
        layer = backbone.transformer.transformer_blocks[1].get_submodule(name)
        with offset_output(layer, 3 * torch.randn(1, 4, 4), (4, 4)):
            assert ((backbone.predict(latent, 21) - plain).abs().max() > 1e-3) == changes
    with pytest.raises(ValueError, match=r"'transformer_blocks.1.attn2', where an offset has no effect; expected such"):
        EmerDiff(backbone, config_of("pixart-sigma", modulation_layer="transformer_blocks.1.attn2"))


@pytest.mark.parametrize("family", BACKBONES)
def test_following_itself_changes_nothing(family):
    backbone = tiny(family)
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = backbone.predict(latent, 301)
    with shared_attention(backbone.denoiser):
        for _ in range(2):  # as a leader, as a follower
            twice = backbone.predict(latent.expand(2, -1, -1, -1), 301)
            torch.testing.assert_close(twice, expected.expand(2, -1, -1, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (family, name)
        for family in BACKBONES
        for name in list(attention_layers(tiny(family).denoiser))[::4]
        if not name.startswith("single_")
    ],
)
def test_the_tail_equals_the_whole_pass(family, name):
    backbone, (height, width) = tiny(family), frame_of(family)
    layer, latent_hw = backbone.layer(name, "modulation_layer"), (height // 8, width // 8)
    latent = torch.randn(1, 4, *latent_hw, generator=torch.Generator().manual_seed(0))
    offsets = torch.randn(3, 4, latent_hw[1] // 2, generator=torch.Generator().manual_seed(1))
    grid_hw = backbone.grid_hw(latent)
    with torch.inference_mode():
        with offset_output(layer, offsets, grid_hw):
            expected = backbone.predict(latent.expand(3, -1, -1, -1), 21)
        with recorded_prefix(backbone.denoiser, layer) as prefix:
            plain = backbone.predict(latent, 21)
        with resumed_after(prefix, offsets, grid_hw):
            tails = backbone.predict(torch.full((3, 4, *latent_hw), float("nan")), 21)  # latents are not looked at
    assert (expected - plain).abs().max() > 1e-5
    torch.testing.assert_close(tails, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", BACKBONES)
@pytest.mark.parametrize("speed", Speed.values())
def test_every_speed_segments_and_leaves_nothing_behind(family, speed):
    backbone = tiny(family)
    before = traces(backbone.denoiser)
    segmenter = EmerDiff(backbone, config_of(family, speed=speed, image_size=64, difference_blur=1))
    masks = segmenter.segment(picture(45, 70), keep_difference=True, keep_affinity=True)
    assert masks.label_map.shape == (45, 70) and masks.num_masks == 3
    assert np.isfinite(masks.difference).all() and masks.difference.max() > 0
    again = segmenter.segment(picture(45, 70))
    assert np.array_equal(again.label_map, masks.label_map) and np.array_equal(again.features, masks.features)
    assert traces(backbone.denoiser) == before
    assert not any("forward" in vars(module) for module in backbone.denoiser.modules())


@pytest.mark.parametrize(
    ("family", "source"),
    [
        (family, source)
        for family in BACKBONES
        for source in ("attention", "features")
        if family not in ("sdxl", "vq") and (source == "features" or not family.startswith("flux"))
    ],
)
def test_transformers_have_an_affinity_of_their_finest_grid(family, source):
    backbone = tiny(family)
    segmenter = EmerDiff(backbone, config_of(family, affinity=source, image_size=64))
    spread = segmenter.affinity(picture()).spread(torch.rand(2, 2, 2))
    assert spread.shape == (2, 4, 4) and torch.isfinite(spread).all()


def test_the_affinity_of_normed_attention_is_of_normed_queries():
    backbone = tiny("sd35")
    segmenter = EmerDiff(backbone, config_of("sd35", affinity="attention", timestep_affinity=21, timestep_feature=21))
    query = segmenter.affinity(picture()).queries[0]
    assert query.shape == (2, 16, 8)
    weight = backbone.affinity_layers[0].norm_q.weight
    torch.testing.assert_close((query / weight).square().mean(-1), torch.ones(2, 16), rtol=1e-3, atol=1e-3)


def test_queries_of_joint_attention_are_the_images_alone():
    backbone = tiny("sd3")
    layer = backbone.layer("transformer_blocks.1.attn", "feature_layer")
    with first_outputs([layer.to_q]) as outputs:
        backbone.predict(torch.randn(2, 4, 8, 12), 301)
    assert outputs[layer.to_q].shape == (2, 4 * 6, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"affinity": "attention"}, r"is 'attention', expected 'features': of this model no attention can be read"),
        ({"merge_attention": 0.5}, r"merge_attention needs self-attention beside .*, and the model has none to read"),
        ({"feature_layer": "single_transformer_blocks.0.attn"}, r"'single_.*', where text is among the tokens; expec"),
    ],
)
def test_what_flux_cannot_do_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        EmerDiff(tiny("flux"), config_of("flux", **changes))


@pytest.mark.parametrize(
    ("family", "size_hw", "expected"),
    [
        ("dit", (100, 400), (64, 64)),
        ("pixart-sigma", (100, 400), (32, 128)),
        ("sd3", (16, 4096), (16, 256)),  # 16 position embeddings to a side
        ("sdxl", (64, 64), (64, 64)),
    ],
)
def test_frames(family, size_hw, expected):
    assert tiny(family).frame_hw(size_hw, 64) == expected
