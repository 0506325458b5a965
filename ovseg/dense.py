"""Dense image embeddings: ViT image tower, pixels of any size → an embedding per patch, in the text's space.

The tower runs untouched, with its position embeddings interpolated to the grid at hand; variants differ only in what
takes the place of its last block (`variants.DENSE`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.variants import DENSE, region_rows

_BOUNDING = threading.Lock()
_bounded = 0  # threads in `bounded_attention`
_before = True  # the setting outside of it

Tower = Any  # open_clip.transformer.VisionTransformer; untyped there, and imported by backbone.py alone


def dense_tokens(visual: Tower, pixels: Tensor, variant: str, regions: Tensor | None = None) -> Tensor:
    """(B, 1 + h w, C) embeddings of the class token and of all patches, row by row, not normalised.

    `visual` is an open_clip VisionTransformer without attentional pooling, `pixels` (B, 3, h patch, w patch)
    normalised, of the tower's device and dtype. `variant` is a key of DENSE; with `clip` the class token is
    the image embedding of a tower that pools by it. `regions` (B, h, w): patches attend within a region alone, for
    the variants that attend.
    """
    patch_height, patch_width = visual.patch_size
    grid_hw = (pixels.shape[-2] // patch_height, pixels.shape[-1] // patch_width)
    last_block = visual.transformer.resblocks[-1]
    among = None if regions is None else partial(region_rows, regions=regions.flatten(1))
    with resized_positions(visual, grid_hw), bounded_attention():
        with last_left_out(visual) as end, captured_input(end) as captured:
            visual(pixels)
        tokens = DENSE[variant](last_block, captured[0], grid_hw, among)
    # A tower with final_ln_after_pool normalises the pooled token alone: for a token taken as if it were the
    # pooled one, both layouts are ln_post, then proj.
    return visual.ln_post(tokens) @ visual.proj


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

    Without anti-aliasing, as the released code of SCLIP, NACLIP and others does, but to the grid itself, not to a tenth
    of a patch more; in float32 on the CPU, for the same numbers on every device.
    """
    class_token, patches = positions.detach().split([1, positions.shape[0] - 1])
    planes = patches.float().cpu().unflatten(0, tuple(from_hw)).permute(2, 0, 1)[None]  # 1 x D x h x w
    planes = F.interpolate(planes, size=to_hw, mode="bicubic")
    return torch.cat([class_token, planes[0].flatten(1).T.to(class_token)])


@contextmanager
def bounded_attention() -> Iterator[None]:
    """Has nn.MultiheadAttention take torch's fused attention, not its own "fast path"; then puts the setting back.

    The fast path holds the attention of all heads, (heads, N, N), which is 0.5 GB for ViT-B/16 at 896 px, and there it
    took 1.4 times as long on a CPU. At 224 and 448 px the two were equally fast. The setting is one for all models of
    the process: the last thread that leaves puts it back.
    """
    global _bounded, _before
    with _BOUNDING:
        if not _bounded:
            _before = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _bounded += 1
    try:
        yield
    finally:
        with _BOUNDING:
            _bounded -= 1
            if not _bounded:
                torch.backends.mha.set_fastpath_enabled(_before)


class _PassedOn(nn.Module):
    """A block that does nothing."""

    def forward(self, tokens: Tensor, attn_mask: None = None) -> Tensor:
        return tokens


@contextmanager
def last_left_out(visual: Tower) -> Iterator[nn.Module]:
    """Lets `visual` run without its last block, whose place the module that is given takes; then puts it back."""
    blocks = visual.transformer.resblocks
    last = blocks[-1]
    blocks[-1] = _PassedOn()
    try:
        yield blocks[-1]
    finally:
        blocks[-1] = last


@contextmanager
def captured_input(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the first argument of every call of `module` inside the context."""
    captured: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, args: captured.append(args[0]))
    try:
        yield captured
    finally:
        handle.remove()
