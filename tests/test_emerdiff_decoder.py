"""A tiny decoder in place of the VAE's: the same recipe, for less; found and missing as other weights are."""

from __future__ import annotations

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from tiny_emerdiff import picture, save_folder, tiny_config

from emerdiff import EmerDiff
from fusion.models.load import download_weights
from fusion.models.presets import load_preset, mask_hash, with_overrides
from ground.weights import WeightsMissing

NAME = "diffusion_pytorch_model.safetensors"


def save_decoder(folder, latent_channels=4):
    torch.manual_seed(1)
    channels, blocks = (8,) * 4, (1,) * 4
    AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
        latent_channels=latent_channels,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("weights") / "sd1", "sd1")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return save_decoder(tmp_path_factory.mktemp("decoder") / "tiny")


def loaded(folder, decoder, **changes):
    return EmerDiff.from_config(tiny_config(model=str(folder), decoder=str(decoder), **changes), device="cpu")


def test_it_decodes_as_diffusers_does_and_the_clusters_stay(folder, decoder):
    segmenter, latents = loaded(folder, decoder), torch.randn(2, 4, 8, 8)
    images = segmenter.backbone.decode(latents)
    assert images.shape == (2, 3, 64, 64)
    expected = AutoencoderTiny.from_pretrained(decoder).decode(latents).sample / 2 + 0.5
    torch.testing.assert_close(images, expected, rtol=1e-4, atol=1e-5)
    usual = EmerDiff.from_config(tiny_config(model=str(folder)), device="cpu")
    with_tiny, with_vae = (each.segment(picture(), keep_difference=True) for each in (segmenter, usual))
    np.testing.assert_array_equal(with_tiny.low_res, with_vae.low_res)
    assert not np.array_equal(with_tiny.difference, with_vae.difference)


def test_a_decoder_of_other_latents_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"emerdiff.decoder takes 8 channels, expected 4, as the VAE gives"):
        loaded(folder, save_decoder(tmp_path / "tiny", latent_channels=8))


def test_what_a_folder_lacks_is_named(folder, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"^{NAME} is missing in .*AutoencoderTiny"):
        loaded(folder, tmp_path)


def test_missing_weights_and_names_that_are_none(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsMissing, match=r"weights of some-team/tiny .* are not on this machine"):
        loaded(folder, "some-team/tiny")
    with pytest.raises(ValueError, match=r"emerdiff.decoder is 'a/b/c', expected a hub id or a local folder"):
        loaded(folder, "a/b/c")


def test_other_weights_are_other_masks(folder, decoder, tmp_path):
    copy = save_decoder(tmp_path / "tiny")
    configs = [tiny_config(model=str(folder), decoder=str(copy)), tiny_config(model=str(folder))]
    with_it, without = (mask_hash(config, "emerdiff") for config in configs)
    tensors = load_file(copy / NAME)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, copy / NAME, metadata={"format": "pt"})
    assert len({with_it, without, mask_hash(configs[0], "emerdiff")}) == 3


def test_download_names_it(tiny_preset, decoder):
    preset = with_overrides(load_preset(tiny_preset), [f"emerdiff.decoder={decoder}"])
    assert download_weights(preset)["decoder"] == str(decoder)
