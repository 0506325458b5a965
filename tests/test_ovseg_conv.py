"""Convolutional towers: pooling and projection change places, and what does not fit is said in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from tiny_ovseg import MEAN, STD, save_with_bert
from torch import Tensor

from ovseg import OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import Backbone, load_backbone
from ovseg.conv import dense_locations, location_hw, make_finer

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
LITE = {"timm_model_name": "tf_efficientnet_lite2", "timm_pool": "avg", "image_size": 64}  # the shipped tower's kind
CONVNEXT = {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
WORDS = ["cat", "grass", "sky"]


def conv_clip(vision: dict[str, Any]) -> Any:
    """A random CLIP with a convolutional tower, in eval mode."""
    torch.manual_seed(0)
    model = open_clip.CLIP(embed_dim=12, vision_cfg=vision, text_cfg=TEXT)
    for parameter in model.visual.parameters():  # biases and gains that are not their neutral start value
        parameter.data += 0.02 * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


def conv_backbone(vision: dict[str, Any]) -> Backbone:
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return Backbone(model=conv_clip(vision), tokenizer=tokenizer, mean=MEAN, std=STD, logit_scale=20.0)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("proj", [None, "linear"])
def test_the_mean_over_locations_is_the_image_embedding(proj: str | None) -> None:
    model = conv_clip(LITE | {"timm_proj": proj})
    pixels = noise(2, 3, 64, 96)
    dense = dense_locations(model.visual, pixels)
    assert dense.shape == (2, 12, 2, 3)
    torch.testing.assert_close(dense.mean((2, 3)), model.encode_image(pixels), rtol=1e-3, atol=1e-5)
    assert dense.std(dim=(2, 3)).min() > 0


def test_a_norm_after_the_pooling_is_exact_for_a_single_location_and_taken_per_location_else() -> None:
    model = conv_clip(CONVNEXT)
    one = noise(1, 3, 32, 32)
    torch.testing.assert_close(dense_locations(model.visual, one)[..., 0, 0], model.encode_image(one))
    pixels = noise(1, 3, 64, 96)
    head = model.visual.trunk.head
    features = model.visual.trunk.forward_features(pixels)[0]  # D x h x w
    normed = torch.nn.functional.layer_norm(
        features.permute(1, 2, 0), features.shape[:1], head.norm.weight, head.norm.bias, head.norm.eps
    )
    expected = model.visual.head(normed).permute(2, 0, 1)
    torch.testing.assert_close(dense_locations(model.visual, pixels)[0], expected)
    assert (expected.mean((1, 2)) - model.encode_image(pixels)[0]).abs().max() > 1e-3  # the norm is not linear


@pytest.mark.parametrize("vision", [LITE, CONVNEXT], ids=["lite", "convnext"])
def test_a_convolutional_tower_segments_with_its_stride_for_a_patch(vision: dict[str, Any]) -> None:
    backbone = conv_backbone(vision)
    assert backbone.patch_hw == (32, 32)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    config = OvsegConfig(model="tiny", image_size=64, templates="simple")
    coarse = OpenVocabSegmenter(backbone, config).segment(image, WORDS)
    assert (coarse.label_map.shape, coarse.embeddings.shape) == ((60, 90), (12, 2, 3))
    np.testing.assert_allclose(np.linalg.norm(coarse.embeddings, axis=0), 1, atol=1e-5)


def test_making_a_map_finer_changes_no_weights() -> None:
    visual = conv_clip(LITE).visual.train()
    before = {name: tensor.clone() for name, tensor in visual.state_dict().items()}
    make_finer(visual, 16)
    assert visual.trunk.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in visual.state_dict().items())


RESNET = {"timm_model_name": "resnet18", "timm_pool": "avg", "timm_proj": None, "image_size": 64}

POOLED = {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64}


@pytest.mark.parametrize(("vision", "first"), [(LITE, 1), (RESNET, 0)], ids=["lite", "resnet"])
def test_a_finer_map_holds_the_coarse_one_and_new_locations_between(vision: dict[str, Any], first: int) -> None:
    """`first`: tf_ models pad one side more where they stride, so that their locations are the odd ones."""
    visual, pixels = conv_clip(vision).visual, noise(1, 3, 128, 192)
    own, _ = location_hw(visual)
    coarse = dense_locations(visual, pixels)
    make_finer(visual, own // 2)
    assert location_hw(visual) == (own // 2, own // 2)
    finer = dense_locations(visual, pixels)
    assert finer.shape[2:] == (2 * coarse.shape[2], 2 * coarse.shape[3])
    torch.testing.assert_close(finer[..., first::2, first::2], coarse, rtol=1e-3, atol=1e-4)
    assert (finer[..., 1 - first :: 2, 1 - first :: 2] - coarse).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("vision", "stride", "message"),
    [
        (LITE, 24, "ovseg.output_stride is 24, expected a whole fraction of the tower's stride, 32"),
        (CONVNEXT, 16, "ovseg.output_stride is 16, expected null for a tower whose map Conv2d reduces"),
        (POOLED, 16, "ovseg.output_stride is 16, expected null for a tower whose map AvgPool2d reduces"),
    ],
)
def test_a_map_that_cannot_be_made_finer_is_refused(vision: dict[str, Any], stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_finer(conv_clip(vision).visual, stride)


def test_a_variant_that_does_not_fit_is_refused_in_one_line() -> None:
    config = OvsegConfig(model="tiny", dense="clip")
    with pytest.raises(ValueError, match=r"ovseg.dense is 'clip', expected maskclip for a convolutional image tower"):
        OpenVocabSegmenter(conv_backbone(LITE), config)


def test_attentional_pooling_is_refused() -> None:
    vision = {"timm_model_name": "resnet10t", "timm_pool": "rot_attn", "timm_proj": None, "image_size": 64}
    with pytest.raises(
        ValueError, match=r"image tower TimmModel is not supported: .*average pooling, such as convnext"
    ):
        conv_backbone(vision)


@pytest.fixture
def hugging_face_folder(tmp_path: Path) -> Path:
    save_with_bert(tmp_path / "model", CONVNEXT)
    return tmp_path / "model"


def test_a_hugging_face_text_tower_comes_from_the_folder_itself(hugging_face_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"  # no path is remembered
    shutil.move(hugging_face_folder, moved)
    config = OvsegConfig(model=f"local-dir:{moved}", image_size=64, templates="simple")
    segmenter = OpenVocabSegmenter.from_config(config, device="cpu")
    texts = segmenter.backbone.encode_text(["a cat", "a photo of a sky"])
    assert texts.shape == (2, 12)
    tower = segmenter.backbone.model.text
    ids = torch.tensor(
        [[2, 5, 6, 3]]
    )  # [CLS] a cat [SEP]: the mean over its tokens, projected; padding changes nothing
    hidden = tower.transformer(input_ids=ids).last_hidden_state.mean(1)
    expected = torch.nn.functional.normalize(tower.proj(hidden), dim=-1)
    np.testing.assert_allclose(texts[:1], expected.detach(), atol=1e-5)
    image = np.zeros((40, 70, 3), np.uint8)
    assert segmenter.segment(image, WORDS).label_map.shape == (40, 70)


def test_a_hugging_face_text_tower_without_its_config_is_refused(hugging_face_folder: Path) -> None:
    (hugging_face_folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"text tower of org/a-text-tower, expected its config.json beside"):
        load_backbone(OvsegConfig(model=f"local-dir:{hugging_face_folder}"))
