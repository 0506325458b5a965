from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from tiny_emerdiff import picture, save_folder, tiny_backbone, tiny_config, tiny_vae

from emerdiff import EmerDiff, EmerDiffConfig, attention
from emerdiff.backbone import load_backbone
from emerdiff.backbones.unet import UNetBackbone
from emerdiff.difference import near_masks
from emerdiff.frame import resized_planes
from ground.planes import largest_plane


@pytest.fixture(scope="module")
def segmenter():
    return EmerDiff(tiny_backbone(), tiny_config())


def equal(first, second) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("label_map", "low_res", "features")
    )


@pytest.mark.parametrize(
    ("layout", "prediction_type", "low_res_hw"),
    [("mini", "epsilon", (6, 10)), ("sd1", "epsilon", (4, 4)), ("sd2", "v_prediction", (4, 4))],
)
def test_whole_layouts_load_and_segment(tmp_path, layout, prediction_type, low_res_hw):
    """From a folder, with the default layers, an image that is not square."""
    folder = save_folder(tmp_path / layout, layout)
    config = EmerDiffConfig(
        model=str(folder), image_size=128, timestep_modulate=41, clusters=4, strength=10, batch_size=3
    )
    segmenter = EmerDiff.from_config(config, device="cpu")
    assert segmenter.backbone.schedule.prediction_type == prediction_type
    assert segmenter.timesteps == (41, 21, 1)
    masks = segmenter.segment(picture(45, 70), keep_difference=True)
    assert masks.label_map.shape == (45, 70) and masks.label_map.dtype == np.int32
    assert masks.low_res.shape == low_res_hw
    assert masks.num_masks == 4 and masks.features.dtype == np.float32
    assert masks.difference is not None and masks.difference.shape == (4, 45, 70)
    assert masks.difference.dtype == np.float16 and masks.difference.max() > 0
    winners = np.take_along_axis(masks.difference, masks.label_map[None].astype(np.int64), 0)[0]
    assert np.array_equal(winners, masks.difference.max(0))  # equal up to rounding to float16


def test_the_empty_prompt_and_the_latent_scale_are_those_of_the_pipeline(tmp_path):
    folder = save_folder(tmp_path / "sd1", "sd1")
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    backbone = load_backbone(folder, device="cpu")
    prompt, _ = pipeline.encode_prompt("", "cpu", 1, do_classifier_free_guidance=False)
    torch.testing.assert_close(backbone.empty_prompt, prompt)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    latent = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(backbone.encode(pixels), latent)
    image = pipeline.vae.decode(latent / pipeline.vae.config.scaling_factor).sample / 2 + 0.5
    torch.testing.assert_close(backbone.decode(latent), image)


def test_a_shifted_latent_is_undone():
    backbone = tiny_backbone()
    plain = backbone.encode(torch.zeros(1, 3, 64, 64))
    backbone.vae.register_to_config(shift_factor=0.5)
    shifted = backbone.encode(torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(shifted, plain - 0.5 * backbone.vae.config.scaling_factor)
    decoded = backbone.decode(shifted)
    backbone.vae.register_to_config(shift_factor=None)
    torch.testing.assert_close(decoded, backbone.decode(plain))


def test_bfloat16_works_and_is_near(tmp_path):
    folder = save_folder(tmp_path / "mini", "mini")
    exact, rough = (
        EmerDiff.from_config(tiny_config(model=str(folder)), device="cpu", dtype=dtype)
        for dtype in ("auto", "bfloat16")
    )
    assert exact.backbone.unet.dtype == torch.float32 and rough.backbone.unet.dtype == torch.bfloat16
    assert rough.backbone.predict(torch.randn(1, 4, 8, 8), 1).dtype == torch.float32
    first, second = (each.segment(picture()).features for each in (exact, rough))
    assert first.shape == second.shape and np.isfinite(second).all()


def test_locality_weights_the_planes_by_their_masks(segmenter):
    image = picture(64, 64)  # as large as the model's frame
    plain = segmenter.segment(image, keep_difference=True)
    near = EmerDiff(segmenter.backbone, replace(segmenter.config, locality=0.7)).segment(image, keep_difference=True)
    np.testing.assert_array_equal(near.low_res, plain.low_res)
    weights = np.stack(
        [
            cv2.GaussianBlur((plain.low_res == index).astype(np.float32), (0, 0), 0.7, borderType=cv2.BORDER_REPLICATE)
            for index in range(plain.num_masks)
        ]
    )
    weights = np.stack([cv2.resize(weight, (64, 64), interpolation=cv2.INTER_LINEAR) for weight in weights])
    np.testing.assert_allclose(near.difference, plain.difference * weights, rtol=0.05, atol=2e-3)
    assert (near.label_map != plain.label_map).any()


def test_with_locality_no_mask_claims_what_is_far_from_it():
    low_res = np.zeros((8, 8), np.int32)
    low_res[:, 4:] = 1
    loud_everywhere, quiet = torch.full((64, 64), 100.0), torch.full((64, 64), 1e-3)
    label_map = largest_plane(resized_planes(near_masks([loud_everywhere, quiet], low_res, 0.5), (64, 64)))
    assert (label_map[:, :32] == 0).all()
    assert (label_map[:, 56:] == 1).all()


def test_bfloat16_leaves_the_vae_in_float32(tmp_path):
    backbone = load_backbone(save_folder(tmp_path / "mini", "mini"), device="cpu", dtype="bfloat16")
    assert (backbone.unet.dtype, backbone.vae.dtype) == (torch.bfloat16, torch.float32)


def test_the_seed_decides(segmenter):
    first, again, other = (segmenter.segment(picture(), seed=seed, keep_difference=True) for seed in (0, 0, 1))
    assert equal(first, again) and np.array_equal(first.difference, again.difference)
    assert not np.array_equal(first.features, other.features)
    assert not np.array_equal(first.difference, other.difference)


def test_pil_images_and_arrays_are_the_same(segmenter):
    assert equal(segmenter.segment(Image.fromarray(picture())), segmenter.segment(picture()))


def test_the_naive_baseline_has_the_same_clusters(segmenter):
    fine, naive = segmenter.segment(picture(), seed=3), segmenter.naive(picture(), seed=3)
    assert np.array_equal(fine.low_res, naive.low_res) and np.array_equal(fine.features, naive.features)
    assert naive.label_map.shape == (64, 64) and naive.difference is None
    centres = naive.label_map[8::16, 8::16]  # a position's centre belongs to its own cluster
    assert (centres == naive.low_res).mean() > 0.9


def test_no_strength_changes_nothing_in_a_picture():
    masks = EmerDiff(tiny_backbone(), tiny_config(strength=0)).segment(picture(), keep_difference=True)
    assert masks.difference.max() < 1e-4


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (2500, 5), (33, 47)])
def test_any_size_comes_back_at_its_own(segmenter, size_hw):
    masks = segmenter.segment(picture(*size_hw))
    assert masks.label_map.shape == size_hw
    assert segmenter.naive(picture(*size_hw)).label_map.shape == size_hw


def test_features_without_any_difference_are_one_mask():
    segmenter = EmerDiff(tiny_backbone(), tiny_config())
    layer = segmenter.backbone.layer(segmenter.config.feature_layer, "feature_layer")
    layer.to_q.weight.zero_()
    masks = segmenter.segment(picture())
    assert masks.num_masks == 1 and not masks.label_map.any()
    assert np.array_equal(masks.features, np.zeros((1, 16)))


def test_a_pass_for_the_features_then_tails_then_whole_passes_with_the_unmodulated_one(segmenter):
    unet, calls, began = segmenter.backbone.unet, [], []
    hooks = [
        unet.register_forward_pre_hook(lambda module, args: calls.append(len(args[0]))),
        unet.down_blocks[0].resnets[0].register_forward_hook(lambda module, args, output: began.append(len(output))),
    ]
    segmenter.segment(picture())
    for hook in hooks:
        hook.remove()
    assert calls == [1, 1, 4, 2, 4, 3, 4, 3]  # batches of four: two of six tails, two of seven trajectories a timestep
    assert began == [1, 1, 4, 3, 4, 3]  # tails begin behind the modulation layer


def test_nothing_is_left_in_the_unet(segmenter):
    segmenter.segment(picture())
    unet = segmenter.backbone.unet
    assert sum(len(module._forward_hooks) for module in unet.modules()) == 0
    processors = {type(layer.processor).__name__ for layer in attention.attention_layers(unet).values()}
    assert processors == {"AttnProcessor2_0"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timestep_modulate": 280, "num_timesteps": 50}, "timestep_modulate is 280, expected .* 261 and 281"),
        ({"timestep_feature": 1000}, "timestep_feature is 1000, expected 0 to 999"),
        ({"timestep_affinity": 1000}, "timestep_affinity is 1000, expected 0 to 999"),
        ({"feature_layer": "up_blocks.9"}, "feature_layer is 'up_blocks.9', expected .*down_blocks.1"),
        ({"modulation_layer": "mid_block"}, "modulation_layer is 'mid_block', expected .*mid_block"),
    ],
)
def test_a_config_that_does_not_fit_the_model(changes, message):
    with pytest.raises(ValueError, match=message):
        EmerDiff(tiny_backbone(), tiny_config(**changes))


def test_more_clusters_than_positions():
    with pytest.raises(ValueError, match=r"emerdiff\.clusters is 17, expected at most 16"):
        EmerDiff(tiny_backbone(), tiny_config(clusters=17)).segment(picture())


def test_a_unet_that_needs_more_than_a_latent_is_refused():
    inpainting = UNet2DConditionModel(
        in_channels=9,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=16,
        mid_block_type=None,
    )
    with pytest.raises(ValueError, match="the UNet takes 9 channels, expected 4, as the VAE gives"):
        UNetBackbone(inpainting, tiny_vae(), torch.zeros(1, 5, 16), tiny_backbone().schedule)


@pytest.mark.parametrize(("device", "dtype"), [("gpu", "auto"), ("cpu", "half")])
def test_unusable_devices_and_dtypes_are_refused(tmp_path, device, dtype):
    with pytest.raises(ValueError, match=r"(device is 'gpu'|dtype is 'half'), expected"):
        load_backbone(tmp_path, device=device, dtype=dtype)
