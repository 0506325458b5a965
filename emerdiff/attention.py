"""Access to the UNet's attention layers: record queries, record and inject whole attentions, offset an output.

Each is a context manager over short-lived hooks or processors that leaves the UNet as it was, also after an exception.
Layers are diffusers' `Attention` modules; tokens are positions of the layer's grid, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

# Up to this many tokens, the softmax of a shared Q and K is computed once for a whole batch of values: with 256
# tokens the UNet takes 12 % less time. Above, heads × N × N numbers outgrow the memory.
_SHARED_SOFTMAX_TOKENS = 1024


@dataclass(frozen=True)
class AttentionRecord:
    """What one unmodulated pass leaves behind, by layer name. Injecting an empty record does nothing."""

    queries: dict[str, Tensor] = field(default_factory=dict)  # self-attentions: (1, N, C), after to_q
    keys: dict[str, Tensor] = field(default_factory=dict)  # self-attentions: (1, N, C), after to_k
    outputs: dict[str, Tensor] = field(default_factory=dict)  # cross-attentions: (1, N, C), after to_out


def attention_layers(unet: nn.Module) -> dict[str, Any]:
    """Every attention layer of the UNet by its dotted name, in the order of definition."""
    return {name: module for name, module in unet.named_modules() if hasattr(module, "to_q")}


def token_grid(latent_hw: tuple[int, int], tokens: int) -> tuple[int, int]:
    """(h, w) of a layer with that many tokens: the latent's size, halved until it fits, else ValueError."""
    height, width = latent_hw
    while height * width > tokens and height % 2 == 0 and width % 2 == 0:
        height, width = height // 2, width // 2
    if height * width != tokens:
        height, width = latent_hw
        raise ValueError(f"a layer has {tokens} tokens, expected the latent's {height}x{width} or a halving of it")
    return height, width


@contextmanager
def recorded_queries(layer: Any) -> Iterator[list[Tensor]]:
    """Collects the layer's query vectors, (B, N, C) before heads are split, one entry per pass."""
    queries: list[Tensor] = []
    hook = layer.to_q.register_forward_hook(lambda module, inputs, output: queries.append(output))
    try:
        yield queries
    finally:
        hook.remove()


@contextmanager
def recorded_attention(unet: nn.Module) -> Iterator[AttentionRecord]:
    """Records a pass of one latent: Q and K of each self-attention, the output of each cross-attention."""
    record = AttentionRecord()
    with ExitStack() as hooks:
        for name, layer in _plain_attention_layers(unet).items():
            if layer.is_cross_attention:
                hooks.enter_context(_kept_output(layer, record.outputs, name))
            else:
                hooks.enter_context(_kept_output(layer.to_q, record.queries, name))
                hooks.enter_context(_kept_output(layer.to_k, record.keys, name))
        yield record


@contextmanager
def injected_attention(unet: nn.Module, record: AttentionRecord) -> Iterator[None]:
    """Every pass uses the recorded softmax(QKᵀ/√d); only the values are its own (EmerDiff, section 4.2).

    A cross-attention's values come from the prompt, one for all passes: its whole output is the recorded one.
    """
    layers = attention_layers(unet)
    processors: dict[str, Any] = {name: _RecordedOutput(output) for name, output in record.outputs.items()}
    for name, query in record.queries.items():
        processors[name] = _RecordedSoftmax(query, record.keys[name])
    originals = {name: layers[name].processor for name in processors}
    try:
        for name, processor in processors.items():
            layers[name].set_processor(processor)
        yield
    finally:
        for name, original in originals.items():
            layers[name].set_processor(original)


@contextmanager
def offset_output(layer: Any, offsets: Tensor, latent_hw: tuple[int, int]) -> Iterator[None]:
    """Adds `offsets` (B, h, w), one scalar per position for all channels, to the layer's output (B, N, C).

    `latent_hw` tells the layer's own grid; offsets on another grid are resized to it bilinearly.
    """

    def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        grid = token_grid(latent_hw, output.shape[1])
        planes = offsets[:, None]  # B 1 h w
        if grid != offsets.shape[1:]:
            planes = interpolate(planes, size=grid, mode="bilinear", align_corners=False)
        return output + planes.flatten(1)[:, :, None].to(output.dtype)  # B N 1

    hook = layer.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _kept_output(module: nn.Module, into: dict[str, Tensor], name: str) -> Iterator[None]:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        into[name] = output

    hook = module.register_forward_hook(keep)
    try:
        yield
    finally:
        hook.remove()


class _RecordedOutput:
    """Attention processor that answers with a recorded output (1, N, C), for any batch."""

    def __init__(self, output: Tensor) -> None:
        self.output = output

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        return self.output.expand(len(hidden_states), -1, -1)


class _RecordedSoftmax:
    """Processor of a plain self-attention with recorded Q and K, each (1, N, C); V is the batch's own."""

    def __init__(self, query: Tensor, key: Tensor) -> None:
        self.query = query
        self.key = key

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        query, key, value = (  # each 1|B heads N d
            tokens.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for tokens in (self.query, self.key, attn.to_v(hidden_states))
        )
        batch, _, tokens, _ = value.shape
        if tokens <= _SHARED_SOFTMAX_TOKENS:
            scores = query[0].float() @ key[0].float().mT * attn.scale  # in float16 it could overflow
            weights = scores.softmax(-1).to(value.dtype)  # heads N N
            mixed = torch.einsum("hnm,bhmd->bnhd", weights, value)
        else:
            query, key = query.expand(batch, -1, -1, -1), key.expand(batch, -1, -1, -1)
            mixed = scaled_dot_product_attention(query, key, value, scale=attn.scale).transpose(1, 2)
        return attn.to_out[0](mixed.flatten(2))


def _plain_attention_layers(unet: nn.Module) -> dict[str, Any]:
    """The attention layers, all of Stable Diffusion's kind: Q, K, V, out and nothing else, or ValueError."""
    layers = attention_layers(unet)
    for name, layer in layers.items():
        extras = (layer.group_norm, layer.spatial_norm, layer.norm_q, layer.norm_k, layer.added_kv_proj_dim)
        if any(extra is not None for extra in extras) or layer.residual_connection:
            raise ValueError(
                f"attention layer {name} has more than Q, K, V and out: set emerdiff.inject_attention: false"
            )
    return layers
