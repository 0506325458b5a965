"""Towers that pool by attention: the value path of the pooling for every patch, at any size; nothing stays behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from tiny_ovseg import MEAN, STD
from torch import Tensor

from ovseg import OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import Backbone
from ovseg.pooled import any_size, dense_patches, pools_by_attention

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}


def trunk(**settings: Any) -> Any:
    torch.manual_seed(0)
    made = timm.models.VisionTransformer(**SIZES | {"global_pool": "map", "class_token": False} | settings)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made.eval()


def tower(**settings: Any) -> Any:
    """A tiny model with a trunk as open_clip's ViT-B-16-SigLIP and -SigLIP2 have it: 32 px in patches of 8 px."""
    config = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": None, "image_size": 160}
    model = open_clip.CLIP(embed_dim=32, vision_cfg=config, text_cfg=TEXT)
    model.visual.trunk, model.visual.head = trunk(**settings), torch.nn.Sequential()
    return model.eval().requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_only_pooling_by_attention_counts() -> None:
    assert pools_by_attention(tower().visual)
    config = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear", "image_size": 160}
    assert not pools_by_attention(open_clip.CLIP(embed_dim=8, vision_cfg=config, text_cfg=TEXT).visual)
    rotary = tower()
    rotary.visual.trunk = timm.models.eva.Eva(**SIZES, global_pool="map", use_rot_pos_emb=True)
    with pytest.raises(ValueError, match=r"image tower TimmModel is not supported: .* such as ViT-B-16-SigLIP, or"):
        Backbone(model=rotary, tokenizer=open_clip.tokenize, mean=MEAN, std=STD, logit_scale=1.0)


CLASS_TOKEN = {"class_token": True, "pool_include_prefix": True}


@pytest.mark.parametrize("settings", [{}, CLASS_TOKEN], ids=["siglip", "class token"])
def test_each_patch_has_the_value_path_of_the_pooling(settings: dict[str, Any]) -> None:
    visual, pixels = tower(**settings).visual, noise(2, 3, 32, 32)
    pool = visual.trunk.attn_pool
    tokens = visual.trunk.forward_features(pixels)[:, visual.trunk.num_prefix_tokens :]  # B x 16 x D
    value = tokens @ pool.kv.weight[32:].T + pool.kv.bias[32:]
    x = pool.proj(value)
    x = x + pool.mlp(pool.norm(x))
    torch.testing.assert_close(dense_patches(visual, pixels), x.mT.unflatten(2, (4, 4)), atol=1e-5, rtol=1e-4)


def test_where_all_patches_agree_they_are_the_image_embedding() -> None:
    model = tower()
    model.visual.trunk.pos_embed.data[:] = 0
    pixels = torch.ones(1, 3, 32, 32)
    expected = model.encode_image(pixels)[0][:, None, None].expand(-1, 4, 4)
    torch.testing.assert_close(dense_patches(model.visual, pixels)[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, CLASS_TOKEN], ids=["siglip", "class token"])
def test_any_size_and_nothing_stays_behind(settings: dict[str, Any]) -> None:
    visual = tower(**settings).visual
    before = visual(noise(1, 3, 32, 32))
    assert dense_patches(visual, noise(2, 3, 40, 24)).shape == (2, 32, 5, 3)
    with pytest.raises(RuntimeError, match="stop"), any_size(visual.trunk):
        raise RuntimeError("stop")
    assert not visual.trunk.dynamic_img_size
    with pytest.raises(AssertionError):
        visual(noise(1, 3, 40, 24))
    torch.testing.assert_close(visual(noise(1, 3, 32, 32)), before, rtol=0, atol=0)


def test_the_whole_step_and_its_one_variant() -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    backbone = Backbone(model=tower(), tokenizer=tokenizer, mean=MEAN, std=STD, logit_scale=1.0)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    config = OvsegConfig(model="tiny", image_size=40, templates="simple")
    coarse = OpenVocabSegmenter(backbone, config).segment(image, ["cat", "sky"])
    assert (coarse.label_map.shape, coarse.embeddings.shape) == ((60, 90), (32, 5, 8))
    with pytest.raises(ValueError, match=r"dense is 'naclip', expected maskclip for a ViT with attention pooling"):
        OpenVocabSegmenter(backbone, OvsegConfig(model="tiny", dense="naclip"))
