"""Dense image embeddings: ViT image tower, pixels of any size → an embedding per patch, in the text's space.

The tower runs untouched, with its position embeddings interpolated to the grid at hand; the variants differ
only in what takes the place of its last block (the table DENSE). A variant is a function (block, tokens) →
tokens, with tokens (B, 1 + h w, D), the class token first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tower = Any  # open_clip.transformer.VisionTransformer; untyped there, and imported by backbone.py alone
Block = Any  # one of its resblocks


def dense_tokens(visual: Tower, pixels: Tensor, variant: str) -> Tensor:
    """(B, 1 + h w, C) embeddings of the class token and of all patches, row by row, not normalised.

    `visual` is an open_clip VisionTransformer without attentional pooling, `pixels` (B, 3, h patch, w patch)
    normalised, of the tower's device and dtype. `variant` is a key of DENSE; with `clip` the class token is
    the image embedding of a tower that pools by it.
    """
    patch_height, patch_width = visual.patch_size
    grid_hw = (pixels.shape[-2] // patch_height, pixels.shape[-1] // patch_width)
    last_block = visual.transformer.resblocks[-1]
    with resized_positions(visual, grid_hw), captured_input(last_block) as captured:
        visual(pixels)
    tokens = DENSE[variant](last_block, captured[0])
    # A tower with final_ln_after_pool normalises the pooled token alone: for a token taken as if it were the
    # pooled one, both layouts are ln_post, then proj.
    return visual.ln_post(tokens) @ visual.proj


def standard_block(block: Block, tokens: Tensor) -> Tensor:
    """`clip`: the block as trained; the control."""
    return block(tokens)


def value_path(block: Block, tokens: Tensor) -> Tensor:
    """`maskclip`: each token attends to itself alone, no residual, no MLP (Zhou et al. 2022, section 3.2)."""
    _, _, value = in_projection(block, tokens)
    return out_projection(block, value)


DENSE: dict[str, Callable[[Block, Tensor], Tensor]] = {"clip": standard_block, "maskclip": value_path}


def in_projection(block: Block, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (B, N, D) each with heads side by side, of the block's attention."""
    projected = F.linear(block.ln_1(tokens), block.attn.in_proj_weight, block.attn.in_proj_bias)
    query, key, value = projected.chunk(3, dim=-1)
    return query, key, value


def out_projection(block: Block, mixed: Tensor) -> Tensor:
    """The block's attention branch after mixing, up to the residual: values (B, N, D) → tokens (B, N, D)."""
    attention = block.attn
    # Extras of open_clip's own Attention and its block; the standard nn.MultiheadAttention has none.
    if (head_scale := getattr(attention, "head_scale", None)) is not None:  # heads x 1 x 1
        mixed = (mixed.unflatten(-1, (attention.num_heads, -1)) * head_scale[:, 0]).flatten(-2)
    mixed = getattr(attention, "ln_inner", nn.Identity())(mixed)
    return block.ls_1(getattr(block, "ln_attn", nn.Identity())(attention.out_proj(mixed)))


@contextmanager
def resized_positions(visual: Tower, grid_hw: tuple[int, int]) -> Iterator[None]:
    """Lets `visual` take `grid_hw` patches: interpolates its position embeddings, then puts them back."""
    original = visual.positional_embedding
    if grid_hw != tuple(visual.grid_size):
        resized = interpolate_positions(original, visual.grid_size, grid_hw)
        visual.positional_embedding = nn.Parameter(resized, requires_grad=False)
    try:
        yield
    finally:
        visual.positional_embedding = original


def interpolate_positions(positions: Tensor, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """Position embeddings (1 + h w, D), class token first, bicubically resampled to another grid.

    As open_clip does for a new image size; in float32 on the CPU, for the same numbers on every device.
    """
    class_token, patches = positions.detach().split([1, positions.shape[0] - 1])
    planes = patches.float().cpu().unflatten(0, tuple(from_hw)).permute(2, 0, 1)[None]  # 1 x D x h x w
    planes = F.interpolate(planes, size=to_hw, mode="bicubic", antialias=True)
    return torch.cat([class_token, planes[0].flatten(1).T.to(class_token)])


@contextmanager
def captured_input(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the first argument of every call of `module` inside the context."""
    captured: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, args: captured.append(args[0]))
    try:
        yield captured
    finally:
        handle.remove()
