"""What stands in for the last block of a ViT: the variants of dense CLIP, one small function each.

A variant is a function (block, tokens, grid_hw, among) → tokens: tokens (B, 1 + h w, D), the class token first, patches
row by row; `among`, if it is not None, is added to the scores of what attends. With X = LN(tokens), queries, keys and
values q, k, v of X and s = 1 / sqrt(dimension of a head), CLIP's own block is tokens + Proj(softmax(s q kᵀ) v), and
then + MLP(LN(·)). Where a paper leaves something open, the code that its authors released decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Block = Any  # one of the resblocks of open_clip's VisionTransformer; untyped there
Grid = tuple[int, int]  # rows and columns of patches

NEIGHBOURHOOD = 5.0  # patches: standard deviation of NACLIP's Gaussian (as released)
# Cells (images x heads x queries x keys) of attention at once, 64 MB in float32: what lies in memory does not grow with
# the square of the grid, also where torch has no fused attention.
CELLS = 2**24


# Rows of what is added to the scores of some queries, (n, 1 + h w) or (B, 1, n, 1 + h w).
Bias = Callable[[slice], Tensor]


def standard_block(block: Block, tokens: Tensor, grid_hw: Grid, among: Bias | None = None) -> Tensor:
    """`clip`: the block as trained (Radford et al. 2021); the control."""
    return block(tokens)


def value_path(block: Block, tokens: Tensor, grid_hw: Grid, among: Bias | None = None) -> Tensor:
    """`maskclip`: Proj(v), each token alone, no residual, no MLP (MaskCLIP, Zhou et al., ECCV 2022, section 3.2)."""
    _, _, value = in_projection(block, tokens)
    return out_projection(block, value)


def correlative(block: Block, tokens: Tensor, grid_hw: Grid, among: Bias | None = None) -> Tensor:
    """`sclip`: x + MLP(LN(x)) of x = tokens + Proj((softmax(s q qᵀ) + softmax(s k kᵀ)) v).

    The correlative self-attention of SCLIP (Wang et al., ECCV 2024, arXiv 2312.01597, section 3). As in the released
    code the two are summed, not averaged, and the block keeps its residual and its MLP.
    """
    query, key, value = in_projection(block, tokens)
    mixed = attention(block, query, query, value, among) + attention(block, key, key, value, among)
    tokens = tokens + out_projection(block, mixed)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def query_query(block: Block, tokens: Tensor, grid_hw: Grid, among: Bias | None = None) -> Tensor:
    """`clearclip`: Proj(softmax(s q qᵀ) v), no residual, no MLP.

    ClearCLIP (Lan et al., ECCV 2024, arXiv 2407.12442), with its best attention, Attn_qq.
    """
    query, _, value = in_projection(block, tokens)
    return out_projection(block, attention(block, query, query, value, among))


def neighbours(block: Block, tokens: Tensor, grid_hw: Grid, among: Bias | None = None) -> Tensor:
    """`naclip`: Proj(softmax(s k kᵀ + ω) v), no residual, no MLP.

    ω is a Gaussian of the distance between two patches, see `gaussian_rows`. NACLIP (Hajimiri et al., WACV 2025, arXiv
    2404.08181), without its refinement by PAMR: here masks do that.
    """
    _, key, value = in_projection(block, tokens)

    def bias(rows: slice) -> Tensor:
        omega = gaussian_rows(rows, grid_hw)
        return omega if among is None else omega + among(rows)

    return out_projection(block, attention(block, key, key, value, bias))


Variant = Callable[[Block, Tensor, Grid, Bias | None], Tensor]
DENSE: dict[str, Variant] = {
    "clip": standard_block,
    "maskclip": value_path,
    "sclip": correlative,
    "clearclip": query_query,
    "naclip": neighbours,
}


def attention(
    block: Block,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Bias | None = None,
) -> Tensor:
    """softmax(s query keyᵀ + bias) value, head by head: (B, N, D) each, heads side by side → (B, N, D).

    `bias` gives the rows of some queries, which all heads share. Queries are taken in parts of `CELLS`.
    """
    heads = block.attn.num_heads
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    batch, _, length, _ = query.shape
    step = max(1, CELLS // (batch * heads * length))
    parts = []
    for start in range(0, length, step):
        rows = slice(start, min(start + step, length))
        mask = None if bias is None else bias(rows).to(query)
        parts.append(F.scaled_dot_product_attention(query[:, :, rows], key, value, attn_mask=mask))
    return torch.cat(parts, dim=2).transpose(1, 2).flatten(2)  # B x heads x N x d → B x N x D


def gaussian_rows(rows: slice, grid_hw: Grid, std: float = NEIGHBOURHOOD) -> Tensor:
    """Rows (n, 1 + h w) of NACLIP's ω: exp(-r² / 2 std²), r the distance of two patches, in patches.

    0 for the class token: it is nowhere.
    """
    height, width = grid_hw
    places = torch.arange(height * width)
    tokens = torch.arange(rows.start, rows.stop) - 1
    down = tokens[:, None].div(width, rounding_mode="floor") - places.div(width, rounding_mode="floor")
    across = tokens[:, None] % width - places % width
    omega = torch.exp(-(down**2 + across**2) / (2 * std**2))
    omega[tokens < 0] = 0
    return F.pad(omega, (1, 0))


def region_rows(rows: slice, regions: Tensor) -> Tensor:
    """Rows (B, 1, n, 1 + h w) that leave to each patch the patches of its own region; `regions` (B, h w) are numbers.

    Added to attention: 0, or -inf where a query may not look. The class token looks at all; no patch looks at it. The
    idea is CorrCLIP's (Zhang et al., ICCV 2025), whose regions are SAM's.
    """
    everywhere = torch.cat([regions.new_full((len(regions), 1), -1), regions], dim=1)  # B x (1 + h w)
    queries = everywhere[:, rows]
    apart = (queries[:, :, None] != everywhere[:, None, :]) & (queries[:, :, None] >= 0)
    return torch.zeros(apart.shape).masked_fill(apart.cpu(), float("-inf"))[:, None]


def in_projection(block: Block, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (B, N, D) each with heads side by side, of the block's attention."""
    attn = block.attn
    projected = F.linear(block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias)
    query, key, value = projected.chunk(3, dim=-1)
    return _head_norm(attn, "ln_q", query), _head_norm(attn, "ln_k", key), value


def out_projection(block: Block, mixed: Tensor) -> Tensor:
    """The block's attention branch after mixing, up to the residual: values (B, N, D) → tokens (B, N, D)."""
    attn = block.attn
    # Extras of open_clip's own Attention and its block; the standard nn.MultiheadAttention has none.
    if (head_scale := getattr(attn, "head_scale", None)) is not None:  # heads x 1 x 1
        mixed = (mixed.unflatten(-1, (attn.num_heads, -1)) * head_scale[:, 0]).flatten(-2)
    mixed = getattr(attn, "ln_inner", nn.Identity())(mixed)
    return block.ls_1(getattr(block, "ln_attn", nn.Identity())(attn.out_proj(mixed)))


def _head_norm(attn: Any, name: str, vectors: Tensor) -> Tensor:
    """`vectors` (B, N, D) after the norm of each head that open_clip's own Attention may have."""
    norm = getattr(attn, name, None)
    return vectors if norm is None else norm(vectors.unflatten(-1, (attn.num_heads, -1))).flatten(-2)
