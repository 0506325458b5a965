from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_emerdiff import reference_differences
from tiny_emerdiff import picture, tiny_backbone, tiny_config

from emerdiff import EmerDiff, attention
from emerdiff.cluster import one_hot
from emerdiff.difference import blur, difference_planes
from emerdiff.frame import resized_planes, to_frame
from emerdiff.modulate import modulated_ends, modulated_pairs
from ground.planes import largest_plane
from toyworld import scene

TIMESTEPS = [21, 11, 1]
LOW_RES = np.repeat(np.array([[0, 0, 1, 1, 2, 2]], np.int32), 4, axis=0)  # 4 x 6 positions of a 64 x 96 image


def planes_of(backbone, config, seed: int = 0) -> torch.Tensor:
    """(K, h, w) by the package, for the same masks as the reference."""
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(config.feature_draws):
        torch.randn(clean.shape, generator=generator)
    pairs = modulated_pairs(backbone, clean, TIMESTEPS, one_hot(LOW_RES), config, generator)
    return torch.stack(list(difference_planes(backbone, *pairs, config)))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("inject_attention", [True, False])
@pytest.mark.parametrize("inject_norms", [True, False])
@pytest.mark.parametrize("modulate", ["once", "onward"])
def test_production_equals_the_reference(prediction_type, inject_attention, inject_norms, modulate):
    backbone = tiny_backbone(prediction_type=prediction_type)
    config = tiny_config(
        modulate=modulate,
        inject_attention=inject_attention,
        inject_norms=inject_norms,
        difference_blur=0,
        feature_draws=2,
        strength=3,
    )
    planes = planes_of(backbone, config)
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    expected = reference_differences(backbone, clean, torch.from_numpy(LOW_RES), TIMESTEPS, config, seed=0)
    assert expected.amax(dim=(1, 2)).min() > 1e-2  # every mask changes something
    torch.testing.assert_close(planes, expected, rtol=1e-3, atol=2e-5)


@pytest.mark.weights
@pytest.mark.slow
def test_the_label_map_of_the_embedded_model_is_that_of_the_reference():
    """A scene in six masks at three timesteps: 36 trajectories one after another, so small is the frame."""
    segmenter = EmerDiff.from_preset(
        "toy", device="cpu", speed="exact", clusters=6, image_size=128, timestep_modulate=201
    )
    segmenter = EmerDiff(segmenter.backbone, replace(segmenter.config, locality=0, guided_radius=0))
    image = scene(1_000_000).image
    masks = segmenter.segment(image, keep_difference=True)
    with torch.inference_mode():
        clean = segmenter.backbone.encode(to_frame(image, (128, 128)))
        planes = reference_differences(
            segmenter.backbone, clean, torch.from_numpy(masks.low_res), [201, 101, 1], segmenter.config, seed=0
        )
    expected = largest_plane(resized_planes(planes, (256, 256)))
    assert (masks.label_map == expected).mean() >= 0.999
    assert len(np.unique(expected)) == 6


@pytest.mark.parametrize("layer", ["mid_block.attentions.0", "up_blocks.1.attentions.0"])
def test_production_equals_the_reference_at_other_layers(layer):
    backbone = tiny_backbone()
    config = tiny_config(modulation_layer=f"{layer}.transformer_blocks.0.attn2", difference_blur=0)
    planes = planes_of(backbone, config)
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    expected = reference_differences(backbone, clean, torch.from_numpy(LOW_RES), TIMESTEPS, config, seed=0)
    torch.testing.assert_close(planes, expected, rtol=1e-3, atol=2e-5)


def test_the_settings_matter():
    """Else the comparisons with the reference would prove less than they seem to."""
    backbone = tiny_backbone()
    variants = [
        tiny_config(difference_blur=0),
        tiny_config(difference_blur=0, modulate="onward"),
        tiny_config(difference_blur=0, inject_attention=False),
        tiny_config(difference_blur=0, inject_norms=True),
        tiny_config(difference_blur=0, strength=3),
    ]
    planes = [planes_of(backbone, config) for config in variants]
    assert all((planes[0] - other).abs().max() > 1e-3 for other in planes[1:])


def test_rows_of_the_softmax_at_once_do_not_matter(monkeypatch):
    backbone, config = tiny_backbone(), tiny_config()
    shared = planes_of(backbone, config)
    monkeypatch.setattr(attention, "_SOFTMAX_NUMBERS", 100)
    torch.testing.assert_close(planes_of(backbone, config), shared, rtol=1e-3, atol=2e-5)


def test_the_batch_size_does_not_matter():
    backbone = tiny_backbone()
    one, some, all_at_once = (planes_of(backbone, tiny_config(batch_size=size)) for size in (1, 5, 16))
    torch.testing.assert_close(some, one, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(all_at_once, one, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("modulate", ["once", "onward"])
@pytest.mark.parametrize("inject_attention", [True, False])
def test_no_strength_replays_the_latent(modulate, inject_attention):
    backbone = tiny_backbone()
    config = tiny_config(strength=0, modulate=modulate, inject_attention=inject_attention)
    clean = backbone.encode(to_frame(picture(), (64, 64)))
    ends = modulated_ends(backbone, clean, TIMESTEPS, torch.zeros(6, 4, 4), config, torch.Generator().manual_seed(0))
    torch.testing.assert_close(ends, clean.expand(6, -1, -1, -1), rtol=1e-4, atol=1e-5)
    assert max(plane.max() for plane in difference_planes(backbone, ends[0::2], ends[1::2], config)) < 1e-4


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_one_step_is_the_reference_with_a_schedule_of_one(prediction_type):
    """x̂_0(t_m; ±λM) + (z0 − x̂_0(t_m)), written out by the reference as the only step of a schedule."""
    backbone = tiny_backbone(prediction_type=prediction_type)
    config = tiny_config(difference_blur=0, one_step=True)
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))
    planes = planes_of(backbone, config)
    expected = reference_differences(backbone, clean, torch.from_numpy(LOW_RES), TIMESTEPS[:1], config, seed=0)
    torch.testing.assert_close(planes, expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("one_step", [True, False])
def test_one_side_is_the_end_without_an_offset_against_that_with_it(one_step):
    backbone = tiny_backbone()
    clean = backbone.encode(to_frame(picture(64, 96), (64, 96)))

    def pairs(**changes):
        config = tiny_config(one_step=one_step, **changes)
        generator = torch.Generator().manual_seed(0)
        return modulated_pairs(backbone, clean, TIMESTEPS, one_hot(LOW_RES), config, generator)

    (minus, plus), (known, one) = pairs(), pairs(one_side=True)
    assert known is clean and plus.shape == minus.shape == (3, 4, 8, 12)
    torch.testing.assert_close(one, plus, rtol=1e-4, atol=1e-5)
    nothing, none = pairs(strength=0)
    torch.testing.assert_close(nothing, clean.expand_as(nothing), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(none, nothing, rtol=1e-4, atol=1e-5)


def test_differences_of_latents():
    backbone, (minus, plus) = tiny_backbone(), torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    config = tiny_config(differences="latents")
    planes = torch.stack(list(difference_planes(backbone, minus, plus, config)))
    torch.testing.assert_close(planes, (minus - plus).square().sum(1).sqrt())
    against_one = torch.stack(list(difference_planes(backbone, minus[:1], plus, config)))
    torch.testing.assert_close(against_one, (minus[:1] - plus).square().sum(1).sqrt())


def test_images_against_one_are_those_against_it_again_and_again():
    backbone, (minus, plus) = tiny_backbone(), torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    decoded = []
    hook = backbone.vae.decoder.register_forward_hook(lambda module, args, output: decoded.append(len(output)))
    one = torch.stack(list(difference_planes(backbone, minus[:1], plus, tiny_config())))
    hook.remove()
    assert sum(decoded) == 4
    many = torch.stack(list(difference_planes(backbone, minus[:1].expand(3, -1, -1, -1), plus, tiny_config())))
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-5)


def test_blurs():
    point = np.zeros((15, 15), np.float32)
    point[7, 7] = 1
    assert blur(point, 0) is point
    blurred = blur(point, 1.0)
    assert blurred[7, 7] == pytest.approx(1 / (2 * np.pi), rel=0.02)  # a Gaussian of sigma 1
    assert blurred.sum() == pytest.approx(1, rel=1e-3)


def test_the_image_blur_is_of_both_images():
    backbone = tiny_backbone()
    ends = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    config = tiny_config(image_blur=2.0, difference_blur=0.0)
    (plane,) = difference_planes(backbone, ends[:1], ends[1:], config)
    minus, plus = (blur(image.permute(1, 2, 0).numpy(), 2.0) for image in backbone.decode(ends))
    np.testing.assert_allclose(plane.numpy(), np.linalg.norm(minus - plus, axis=2), atol=1e-5)


def test_differences_that_overflow_are_an_error():
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match="not finite in this dtype; try bfloat16 or float32"):
        list(difference_planes(backbone, *torch.full((2, 1, 4, 8, 8), float("nan")), tiny_config()))
