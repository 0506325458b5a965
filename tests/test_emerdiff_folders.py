"""Folders of every family load, and what the models are conditioned on is what their pipelines give for nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, PixArtSigmaPipeline, StableDiffusion3Pipeline, StableDiffusionXLPipeline
from tiny_backbones import LAYERS, save_family
from tiny_emerdiff import picture, tiny_config

from emerdiff import EmerDiff, fetch_weights
from emerdiff.backbone import load_backbone
from emerdiff.layout import layout_of
from emerdiff.schedule import FlowSchedule, NoiseSchedule

FAMILIES = {
    "sdxl": "unet",
    "vq": "unet",
    "pixart-sigma": "pixart",
    "pixart-alpha": "pixart",
    "dit": "dit",
    "sd3": "sd3",
    "flux": "flux",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family: save_family(root / family, family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_folder_loads_and_segments(folders, family):
    feature, modulation = LAYERS[family]
    config = tiny_config(model=str(folders[family]), feature_layer=feature, modulation_layer=modulation, speed="fast")
    segmenter = EmerDiff.from_config(config, device="cpu")
    assert layout_of(folders[family]).family == FAMILIES[family]
    assert isinstance(segmenter.backbone.schedule, FlowSchedule if family in ("sd3", "flux") else NoiseSchedule)
    masks = segmenter.segment(picture(45, 70))
    assert masks.label_map.shape == (45, 70) and np.isfinite(masks.features).all()


@pytest.mark.parametrize("family", ["sdxl", "pixart-sigma", "sd3", "flux"])
def test_half_precision_and_bfloat16(folders, family):
    backbone = load_backbone(folders[family], device="cpu", dtype="bfloat16")
    assert (backbone.denoiser.dtype, backbone.vae.dtype) == (torch.bfloat16, torch.float32)
    assert torch.isfinite(backbone.predict(torch.randn(1, 4, 8, 8), 301)).all()


def test_an_xl_autoencoder_that_overflows_stays_in_float32(folders, tmp_path):
    assert load_backbone(folders["sdxl"], device="cpu", dtype="float16").vae.dtype == torch.float32
    copy = shutil.copytree(folders["sdxl"], tmp_path / "copy")
    config = json.loads((copy / "vae/config.json").read_text())
    (copy / "vae/config.json").write_text(json.dumps({**config, "force_upcast": False}))
    assert load_backbone(copy, device="cpu", dtype="float16").vae.dtype == torch.float16


def test_the_null_condition_of_xl_is_that_of_its_pipeline(folders, tmp_path):
    backbone = load_backbone(folders["sdxl"], device="cpu")
    pipeline = StableDiffusionXLPipeline.from_pretrained(folders["sdxl"], force_zeros_for_empty_prompt=False)
    prompt, _, pooled, _ = pipeline.encode_prompt("", device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(backbone.empty_prompt, prompt)
    torch.testing.assert_close(backbone.pooled, pooled)
    # Trained with zeros: no text encoder is looked at.
    zeros = shutil.copytree(folders["sdxl"], tmp_path / "zeros")
    index = json.loads((zeros / "model_index.json").read_text())
    (zeros / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": True}))
    for part in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.rmtree(zeros / part)
    backbone = load_backbone(fetch_weights(tiny_config(model=str(zeros)), download=False), device="cpu")
    assert backbone.empty_prompt.shape == prompt.shape and not backbone.empty_prompt.any()
    assert backbone.pooled.shape == pooled.shape and not backbone.pooled.any()


def test_pixarts_one_token_is_the_padded_and_masked_prompt_of_its_pipeline(folders):
    backbone = load_backbone(folders["pixart-sigma"], device="cpu")
    encoder = load_text_encoder(folders["pixart-sigma"], "text_encoder")
    pipeline = PixArtSigmaPipeline(None, encoder, backbone.vae, backbone.transformer, None)
    ids, mask = torch.tensor([[1, *[0] * 9]]), torch.tensor([[1, *[0] * 9]])  # what T5's tokenizer makes of ""
    states = pipeline.text_encoder(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(backbone.empty_prompt, states[:, :1])
    latents = torch.randn(1, 4, 8, 12)
    added = {"resolution": None, "aspect_ratio": None}
    expected = backbone.transformer(latents, states, torch.tensor([301]), added, encoder_attention_mask=mask).sample
    torch.testing.assert_close(backbone.predict(latents, 301), expected[:, :4], rtol=1e-4, atol=1e-5)


def load_text_encoder(folder, part):
    from transformers import T5EncoderModel

    return T5EncoderModel.from_pretrained(folder, subfolder=part)


@pytest.mark.parametrize("with_t5", [True, False])
def test_the_null_condition_of_sd3_is_that_of_its_pipeline(folders, tmp_path, with_t5):
    folder = shutil.copytree(folders["sd3"], tmp_path / "sd3")
    if not with_t5:
        shutil.rmtree(folder / "text_encoder_3")
    backbone = load_backbone(folder, device="cpu")
    loaded = {"text_encoder_3": load_text_encoder(folder, "text_encoder_3") if with_t5 else None}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, **loaded, tokenizer_3=T5Ids())
    prompt, _, pooled, _ = pipeline.encode_prompt("", "", "", do_classifier_free_guidance=False, device="cpu")
    torch.testing.assert_close(backbone.empty_prompt, prompt)
    torch.testing.assert_close(backbone.pooled, pooled)


def test_the_null_condition_of_flux_is_that_of_its_pipeline(folders):
    folder = folders["flux"]
    backbone = load_backbone(folder, device="cpu")
    t5 = load_text_encoder(folder, "text_encoder_2")
    pipeline = FluxPipeline.from_pretrained(folder, text_encoder_2=t5, tokenizer_2=T5Ids())
    prompt, pooled, _ = pipeline.encode_prompt("", "", device="cpu", max_sequence_length=256)
    torch.testing.assert_close(backbone.empty_prompt, prompt)
    torch.testing.assert_close(backbone.pooled, pooled)


class T5Ids:
    """In place of T5's tokenizer, which is made from a file that a random model has not: "" as ids."""

    def __call__(self, prompt, max_length=1, padding="", **settings):
        from transformers import BatchEncoding

        ids = [1] + [0] * (max_length - 1 if padding == "max_length" else 0)
        return BatchEncoding({"input_ids": torch.tensor([ids])})

    def batch_decode(self, ids):
        return []

    def tokenize(self, prompt):
        return []


@pytest.mark.parametrize(("family", "norm"), [("pixart-sigma", "ada_norm_single"), ("dit", "ada_norm_zero")])
def test_folders_of_older_releases_are_told_by_their_norm(folders, tmp_path, family, norm):
    folder = shutil.copytree(folders[family], tmp_path / "copy")
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["diffusers", "Transformer2DModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    config = json.loads((folder / "transformer/config.json").read_text())
    assert config["norm_type"] == norm
    legacy = {**config, "_class_name": "Transformer2DModel", "double_self_attention": False, "num_vector_embeds": None}
    (folder / "transformer/config.json").write_text(json.dumps(legacy))
    backbone = load_backbone(folder, device="cpu")
    latents = torch.randn(1, 4, 8, 8)
    expected = load_backbone(folders[family], device="cpu").predict(latents, 301)
    torch.testing.assert_close(backbone.predict(latents, 301), expected)


def test_a_vq_autoencoder_encodes_before_it_quantises_and_decodes_what_is_quantised(folders):
    backbone = load_backbone(folders["vq"], device="cpu")
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    scale = backbone.vae.config.scaling_factor
    latent = backbone.vae.quant_conv(backbone.vae.encoder(pixels)) * scale
    torch.testing.assert_close(backbone.encode(pixels), latent)
    assert backbone.encode(pixels).shape == (1, 4, 16, 16) and backbone.latent_factor == 4
    torch.testing.assert_close(backbone.decode(latent), backbone.vae(pixels).sample / 2 + 0.5)
