"""Prompts without their padding have the same embeddings, and the text tower stays as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from tiny_ovseg import MEAN, STD, tiny_backbone

from ovseg.backbone import Backbone
from ovseg.context import shortened, used_length

TEXTS = ["a cat", "a photo of a small green boat at sea", "a " * 40]
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}


def backbone(**text: Any) -> Backbone:
    """A CLIP with a text tower of its own, as open_clip builds with `custom_text`."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(embed_dim=12, vision_cfg=VISION, text_cfg=TEXT | text).eval()
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return Backbone(model, tokenizer, mean=MEAN, std=STD, logit_scale=1.0)


CASES = {
    "CLIP": tiny_backbone,
    "custom text": backbone,
    "not causal": lambda: backbone(no_causal_mask=True),
    "last token": lambda: backbone(pool_type="last"),
    "class token": lambda: backbone(embed_cls=True),
}


@pytest.mark.parametrize("make", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[:2], TEXTS], ids=len)
def test_embeddings_are_those_of_whole_contexts(make: Any, texts: list[str]) -> None:
    one = make()
    with torch.inference_mode():
        expected = one.model.encode_text(one.tokenizer(texts), normalize=True)
    np.testing.assert_allclose(one.encode_text(texts), expected, atol=1e-5)


def test_only_what_comes_before_the_end_is_used() -> None:
    one = tiny_backbone()
    assert used_length(one.model, one.tokenizer(TEXTS[:1])) == 4  # start, a, cat, end
    assert used_length(one.model, one.tokenizer(TEXTS)) == 16
    assert used_length(backbone(no_causal_mask=True).model.text, one.tokenizer(TEXTS[:1])) == 16


def test_the_tower_is_put_back_also_after_an_error() -> None:
    model = tiny_backbone().model
    positions, mask = model.positional_embedding, model.attn_mask
    with pytest.raises(RuntimeError, match="stop"), shortened(model, 5):
        assert model.positional_embedding.shape == (5, 16) and model.attn_mask.shape == (5, 5)
        raise RuntimeError("stop")
    assert model.positional_embedding is positions and model.attn_mask is mask
