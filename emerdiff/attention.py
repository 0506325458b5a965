"""Access to the denoiser's layers: read outputs, share one item's attention with a batch, offset an output.

Each is a context manager over short-lived hooks or processors that leaves the denoiser as it was, also after an
exception. Attention layers are diffusers' `Attention` modules; tokens are positions of the layer's grid, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

# Numbers of a softmax in memory at once: 64 MB in float32. At 64×64 positions and 8 heads these are 512 of 4096 rows.
_SOFTMAX_NUMBERS = 2**24


def attention_layers(denoiser: nn.Module) -> dict[str, Any]:
    """Every attention layer of the denoiser by its dotted name, in the order of definition."""
    return {name: module for name, module in denoiser.named_modules() if hasattr(module, "to_q")}


def token_grid(grid_hw: tuple[int, int], tokens: int) -> tuple[int, int]:
    """(h, w) of a layer with that many tokens: the denoiser's finest grid, halved until it fits, else ValueError."""
    height, width = grid_hw
    while height * width > tokens and height % 2 == 0 and width % 2 == 0:
        height, width = height // 2, width // 2
    if height * width != tokens:
        height, width = grid_hw
        raise ValueError(f"a layer has {tokens} tokens, expected the latent's {height}x{width} or a halving of it")
    return height, width


@contextmanager
def first_outputs(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """Collects the output of each module in the first pass inside, which ends as soon as all of them have theirs.

    The `with` block ends with the pass; what comes after in the denoiser is not computed. Of a layer's `to_q` the
    output are its queries, (B, N, C), before heads are split.
    """
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[module] = output
        if len(outputs) == len(set(modules)):
            raise _Enough

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_hook(keep).remove)
        with suppress(_Enough):
            yield outputs


class _Enough(Exception):  # noqa: N818
    """Not an error: everything that was asked of this pass is computed."""


@contextmanager
def shared_attention(denoiser: nn.Module) -> Iterator[None]:
    """The first item of the first pass inside leads: all items of all passes inside use its softmax(QKᵀ/√d).

    Only the values of self-attentions are each item's own (EmerDiff, section 4.2), and those of joint attentions, where
    image and text attend to both. A cross-attention's values come from the prompt, one for all: its whole output is the
    leader's. Q and K of the others are never projected. Raises ValueError for attention layers of another kind.
    """
    layers = _plain_attention_layers(denoiser)
    originals = {name: layer.processor for name, layer in layers.items()}
    try:
        for layer in layers.values():
            crosses = getattr(layer, "is_cross_attention", False)
            layer.set_processor(_LeadersOutput() if crosses else _LeadersSoftmax())
        yield
    finally:
        for name, original in originals.items():
            layers[name].set_processor(original)


@contextmanager
def offset_output(layer: Any, offsets: Tensor, grid_hw: tuple[int, int]) -> Iterator[None]:
    """Adds `offsets` (B, h, w), one scalar per position for all channels, to the layer's output (B, N, C).

    `grid_hw`, the denoiser's finest, tells the layer's own grid; offsets on another grid are resized to it bilinearly.
    """

    def add(module: nn.Module, inputs: Any, output: Any) -> Any:
        return with_offsets(output, offsets, grid_hw)

    hook = layer.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def with_offsets(output: Any, offsets: Tensor, grid_hw: tuple[int, int]) -> Any:
    """A layer's `output` (1|B, N, C) plus `offsets` (B, h, w); of a joint attention's two the image's alone."""
    if isinstance(output, tuple):
        return with_offsets(output[0], offsets, grid_hw), *output[1:]
    return output + token_offsets(offsets, output, grid_hw)


def token_offsets(offsets: Tensor, output: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(B, N, 1) in the dtype of a layer's `output` (1|B, N, C): `offsets` (B, h, w), resized to the layer's grid."""
    grid = token_grid(grid_hw, output.shape[1])
    planes = offsets[:, None]  # B 1 h w
    if grid != offsets.shape[1:]:
        planes = interpolate(planes, size=grid, mode="bilinear", align_corners=False)
    return planes.flatten(1)[:, :, None].to(output.dtype)


def attention_rows(query: Tensor, key: Tensor, scale: float) -> Iterator[tuple[slice, Tensor]]:
    """Yields, rows by rows, softmax(QKᵀ·scale) as (rows, (heads, R, N) float32), for Q and K (heads, N, d).

    So many rows at once that they hold about `_SOFTMAX_NUMBERS` numbers. In float32, since in float16 the product could
    overflow.
    """
    heads, tokens, _ = query.shape
    step = max(1, _SOFTMAX_NUMBERS // (heads * tokens))
    keys = key.float().mT
    for start in range(0, tokens, step):
        rows = slice(start, min(start + step, tokens))
        yield rows, (query[:, rows].float() @ keys * scale).softmax(-1)


class _LeadersOutput:
    """Processor of a cross-attention: the output for the first item it ever sees, (1, N, C), for every item."""

    def __init__(self) -> None:
        self.output: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        if self.output is None:
            query = _normed(attn.norm_q, _heads(attn, attn.to_q(hidden_states[:1])))
            key, value = (_heads(attn, project(encoder_hidden_states[:1])) for project in (attn.to_k, attn.to_v))
            self.output = attn.to_out[0](_mixed(attn, query[0], _normed(attn.norm_k, key)[0], value))
        return self.output.expand(len(hidden_states), -1, -1)


class _LeadersSoftmax:
    """Processor of a self-attention, or of a joint one, where text comes too: Q and K of the first item it ever sees,
    (1, N, C) each; V is each item's own.

    Rotations, cosines and sines (N, d), are those of text before those of the image.
    """

    def __init__(self) -> None:
        self.query_and_key: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Any:
        image, text = hidden_states, encoder_hidden_states
        if self.query_and_key is None:
            query = _normed(attn.norm_q, _heads(attn, attn.to_q(image[:1])))
            key = _normed(attn.norm_k, _heads(attn, attn.to_k(image[:1])))
            if text is not None:
                query = torch.cat([_normed(attn.norm_added_q, _heads(attn, attn.add_q_proj(text[:1]))), query], 2)
                key = torch.cat([_normed(attn.norm_added_k, _heads(attn, attn.add_k_proj(text[:1]))), key], 2)
            self.query_and_key = _rotated(query, image_rotary_emb)[0], _rotated(key, image_rotary_emb)[0]
        value = _heads(attn, attn.to_v(image))
        if text is None:
            mixed = _mixed(attn, *self.query_and_key, value)
            return mixed if getattr(attn, "pre_only", False) else attn.to_out[0](mixed)
        value = torch.cat([_heads(attn, attn.add_v_proj(text)), value], 2)
        texts, images = _mixed(attn, *self.query_and_key, value).split([text.shape[1], image.shape[1]], 1)
        return attn.to_out[0](images), texts if attn.context_pre_only else attn.to_add_out(texts)


def _heads(attn: Any, tokens: Tensor) -> Tensor:
    """(B, heads, N, d) of (B, N, C)."""
    return tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def _normed(norm: nn.Module | None, heads: Tensor) -> Tensor:
    """Queries or keys, (B, heads, N, d), as they come into the product."""
    normed: Tensor = heads if norm is None else norm(heads)
    return normed


def _rotated(heads: Tensor, rotations: tuple[Tensor, Tensor] | None) -> Tensor:
    """Queries or keys, (B, heads, N, d), whose channels are turned in pairs (RoFormer, arXiv 2104.09864, eq. 34)."""
    if rotations is None:
        return heads
    cosines, sines = rotations
    first, second = heads.float().unflatten(-1, (-1, 2)).unbind(-1)
    quarter = torch.stack([-second, first], dim=-1).flatten(-2)
    return (heads.float() * cosines + quarter * sines).to(heads.dtype)


def _mixed(attn: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, N, C): the values (B, heads, M, d) as one Q and K, (heads, N, d) and (heads, M, d), mix them.

    Each row of the softmax is computed once for all values, and few rows are in memory at a time.
    """
    batch, _, _, width = value.shape
    values = value.permute(1, 2, 0, 3).flatten(2)  # heads M B·d
    scale = getattr(attn, "scale", width**-0.5)
    mixed = torch.cat([weights.to(value.dtype) @ values for _, weights in attention_rows(query, key, scale)], 1)
    return mixed.unflatten(2, (batch, width)).permute(2, 1, 0, 3).flatten(2)  # B N C


def _plain_attention_layers(denoiser: nn.Module) -> dict[str, Any]:
    """The attention layers, all of a known kind: Q, K, V, out, norms of Q and K, the same for text; or ValueError."""
    layers = attention_layers(denoiser)
    for name, layer in layers.items():
        extras = any(getattr(layer, extra, None) for extra in ("group_norm", "spatial_norm", "residual_connection"))
        keys_alone = layer.added_kv_proj_dim is not None and getattr(layer, "add_q_proj", None) is None
        if extras or keys_alone:
            raise ValueError(
                f"attention layer {name} has more than Q, K, V and out: set emerdiff.inject_attention: false"
            )
    return layers
