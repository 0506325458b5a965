"""Dense image embeddings of a ViT that pools by attention (SigLIP, SigLIP 2): tokens → an embedding per patch.

Such a tower, a ViT of timm, ends in: tokens → attention pooling, in which one learned query mixes the values of all
tokens → head. Here each token is pooled alone. A softmax over one token is 1, so that what remains is the value path of
the pooling: what MaskCLIP (Zhou et al., ECCV 2022, section 3.2) does with the attention pooling of CLIP's ResNets. It
is exact where all tokens agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from timm.layers import AttentionPoolLatent
from timm.layers.format import Format
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

Tower = Any  # open_clip.timm_model.TimmModel; untyped there, and imported by backbone.py alone

VARIANT = "maskclip"  # the one that fits such a tower
# What makes a ViT of timm take images of any size, as if it had been built with dynamic_img_size=True.
_ANY_SIZE: dict[str, dict[str, Any]] = {
    "": {"dynamic_img_size": True},
    "patch_embed": {"strict_img_size": False, "flatten": False, "output_fmt": Format.NHWC},
}


def pools_by_attention(visual: Tower) -> bool:
    """Whether `visual`, a TimmModel, is a plain ViT that pools its patches by attention, wherever they are.

    Rotary position embeddings (EVA, Perception Encoder) are made for one size of image, and are not supported.
    """
    trunk = visual.trunk
    pool = getattr(trunk, "attn_pool", None)
    return (
        isinstance(trunk, VisionTransformer)
        and isinstance(pool, AttentionPoolLatent)
        and pool.pos_embed is None
        and getattr(trunk, "rope", None) is None
    )


def patch_hw(visual: Tower) -> tuple[int, int]:
    """Height and width of a patch, px."""
    height, width = visual.trunk.patch_embed.patch_size
    return height, width


def dense_patches(visual: Tower, pixels: Tensor) -> Tensor:
    """(B, C, h, w) embeddings of all patches, not normalised.

    `visual` pools by attention (see above); `pixels` (B, 3, h patch, w patch) are normalised, of the tower's device and
    dtype. Position embeddings are interpolated by timm, bicubically and with anti-aliasing.
    """
    trunk = visual.trunk
    grid_hw = [side // patch for side, patch in zip(pixels.shape[2:], patch_hw(visual), strict=True)]
    with any_size(trunk):
        tokens = trunk.forward_features(pixels)[:, trunk.num_prefix_tokens :]  # B x (h w) x D
    alone = tokens.flatten(0, 1)[:, None]  # (B h w) x 1 x D
    # As the trunk's forward_head, which might take the token for a class token and drop it.
    embeddings = visual.head(trunk.head(trunk.fc_norm(trunk.attn_pool(alone))))  # (B h w) x C
    return embeddings.unflatten(0, (len(pixels), *grid_hw)).permute(0, 3, 1, 2)


@contextmanager
def any_size(trunk: Any) -> Iterator[None]:
    """Lets a ViT of timm take images of any whole number of patches, then puts its settings back."""
    modules = {name: trunk.get_submodule(name) for name in _ANY_SIZE}
    before = {name: {key: getattr(modules[name], key) for key in keys} for name, keys in _ANY_SIZE.items()}
    try:
        _set(modules, _ANY_SIZE)
        yield
    finally:
        _set(modules, before)


def _set(modules: dict[str, Any], settings: dict[str, dict[str, Any]]) -> None:
    for name, values in settings.items():
        for key, value in values.items():
            setattr(modules[name], key, value)
