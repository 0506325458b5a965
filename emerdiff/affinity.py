"""Affinity: which positions of an image the UNet holds for one thing → coarse maps carried to its finest grid.

Two kinds. Where the last up block has self-attentions (Stable Diffusion: 64×64 positions), a map is multiplied by them,
as CLIPer does (ICCV 2025). Else, or on request, each position takes a mean of its neighbours, weighted by how alike the
features are that come into that block (ours).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from emerdiff.attention import attention_rows
from emerdiff.backbones.protocol import Backbone
from emerdiff.speed import AffinitySource

# Of a softmax, over the maximum of its column, what is smaller does not count (CLIPer's released code).
THRESHOLD = 0.1
WINDOW = 4  # positions that a window of features reaches to each side
# The squared distance of features, over their total variance, at which a neighbour's weight has fallen to 1/e.
SPREAD = 0.3
# The neighbours in a window that come after its middle, row by row: (rows down, columns to the right).
_AFTER = [(row, column) for row in range(WINDOW + 1) for column in range(-WINDOW, WINDOW + 1) if row > 0 or column > 0]


@dataclass(frozen=True, eq=False)
class AttentionAffinity:
    """P, the product over layers and heads of row-normalised self-attention maps; never in memory as a whole."""

    queries: tuple[Tensor, ...]  # of each layer, the first to be applied first: (heads, N, d)
    keys: tuple[Tensor, ...]  # the same
    scales: tuple[float, ...]  # of QKᵀ
    grid_hw: tuple[int, int]  # of the N positions

    def spread(self, planes: Tensor) -> Tensor:
        """P·M: (K, H, W) float32 on the affinity's grid and device, from maps (K, h, w) on any grid."""
        columns = _on_grid(planes, self.grid_hw, self.queries[0].device).flatten(1).T  # N K
        for query, key, scale in zip(self.queries, self.keys, self.scales, strict=True):
            for head in reversed(range(len(query))):
                columns = _times_attention(query[head, None], key[head, None], scale, columns)
        return columns.T.unflatten(1, self.grid_hw).contiguous()


@dataclass(frozen=True, eq=False)
class WindowAffinity:
    """How close each position's features are to those of its neighbours, in steps of 1/255: small enough to be kept."""

    # ((2 WINDOW + 1)² // 2, H, W) uint8, 255 · exp(−distance): of the neighbours that come after a position, row by row
    # of the window; 0 outside the image. Those that come before it have it among theirs.
    closeness: Tensor

    def __post_init__(self) -> None:
        if self.closeness.dtype != torch.uint8 or self.closeness.dim() != 3 or len(self.closeness) != len(_AFTER):
            given = f"{self.closeness.dtype} {tuple(self.closeness.shape)}"
            raise ValueError(f"WindowAffinity.closeness is {given}, expected torch.uint8 ({len(_AFTER)}, H, W)")

    @cached_property
    def weights(self) -> Tensor:
        """((2 WINDOW + 1)², H, W) float32, row by row of the window: of one position they add up to 1."""
        after = self.closeness.float() / 255
        height, width = after.shape[1:]
        padded = pad(after, (WINDOW,) * 4)
        before = [
            plane[WINDOW - row :, WINDOW - column :][:height, :width]
            for plane, (row, column) in zip(padded, _AFTER, strict=True)
        ]
        weights = torch.stack([*reversed(before), torch.ones_like(after[0]), *after])
        return weights / weights.sum(0)

    def spread(self, planes: Tensor) -> Tensor:
        """(K, H, W) float32 on the affinity's grid and device, from maps (K, h, w) on any grid."""
        planes = _on_grid(planes, (self.weights.shape[1], self.weights.shape[2]), self.weights.device)
        spread = torch.zeros_like(planes)
        for weight, neighbours in zip(self.weights, _shifts(planes), strict=True):
            spread += weight * neighbours
        return spread


Affinity = AttentionAffinity | WindowAffinity


@dataclass(frozen=True, eq=False)
class TiledAffinity:
    """Those of the tiles of a large image, by their index (`ground.tiles`); None where one is not kept."""

    of_tiles: tuple[Affinity | None, ...]


def affinity_modules(backbone: Backbone, source: str | None = None) -> list[nn.Module]:
    """The modules whose outputs in one pass `affinity_of` takes, with the same `source`.

    That is one of AffinitySource, or None: attention where the backbone has layers for it. ValueError if it has not.
    """
    layers = _self_attentions(backbone, source)
    return projections(layers) if layers else [backbone.affinity_features]


def affinity_of(
    backbone: Backbone, outputs: Sequence[Tensor], grid_hw: tuple[int, int], source: str | None = None
) -> Affinity:
    """The affinity of one latent with that finest grid, from what the `affinity_modules` gave, without a batch."""
    layers = _self_attentions(backbone, source)
    if not layers:
        (features,) = outputs
        return window_affinity(features if features.dim() == 3 else features.T.unflatten(1, grid_hw))
    heads = queries_and_keys(layers, outputs)
    return AttentionAffinity(tuple(heads[0::2]), tuple(heads[1::2]), tuple(layer.scale for layer in layers), grid_hw)


def projections(layers: Sequence[Any]) -> list[nn.Module]:
    """The modules that give queries and keys of attention layers, in turns: those that the softmax takes."""
    return [module for layer in layers for module in (layer.norm_q or layer.to_q, layer.norm_k or layer.to_k)]


def queries_and_keys(layers: Sequence[Any], outputs: Sequence[Tensor]) -> list[Tensor]:
    """(heads, N, d) each, in turns, of what the `projections` of attention layers gave, without a batch."""
    return [
        output if output.dim() == 3 else output.unflatten(1, (layer.heads, -1)).transpose(0, 1)
        for layer, pair in zip(layers, zip(outputs[0::2], outputs[1::2], strict=True), strict=True)
        for output in pair
    ]


def window_affinity(features: Tensor) -> WindowAffinity:
    """The affinity of features (C, H, W): exp(−‖f_p − f_q‖² / (SPREAD · total variance)) of positions p and q."""
    variance = features.flatten(1).var(dim=1, correction=0).sum().clamp(min=torch.finfo(torch.float32).tiny)
    height, width = features.shape[1:]
    closeness = torch.zeros(len(_AFTER), height, width, device=features.device)
    for plane, (row, column) in zip(closeness, _AFTER, strict=True):
        if row >= height or abs(column) >= width:
            continue
        left, right = max(0, -column), width - max(0, column)
        here, there = features[:, : height - row, left:right], features[:, row:, left + column : right + column]
        plane[: height - row, left:right] = torch.exp((there - here).square().sum(0) / (-SPREAD * variance))
    return WindowAffinity((255 * closeness).round().to(torch.uint8))


def _self_attentions(backbone: Backbone, source: str | None) -> Sequence[Any]:
    """Those that the affinity is read from; none if it is read from features."""
    if source == AffinitySource.FEATURES:
        return []
    layers = backbone.affinity_layers
    if source == AffinitySource.ATTENTION and not layers:
        raise ValueError(
            "emerdiff.affinity is 'attention', expected 'features': of this model no attention can be read"
        )
    return layers


def _on_grid(planes: Tensor, grid_hw: tuple[int, int], device: torch.device) -> Tensor:
    planes = planes.to(device, torch.float32)
    if planes.shape[1:] == grid_hw:
        return planes
    return interpolate(planes[None], size=grid_hw, mode="bilinear", align_corners=False)[0]


def _shifts(planes: Tensor) -> Iterator[Tensor]:
    """Yields (C, H, W) `planes` as each place in the window sees them, row by row: 0 beyond the sides."""
    padded = pad(planes, (WINDOW,) * 4)
    height, width = planes.shape[1:]
    for row in range(2 * WINDOW + 1):
        for column in range(2 * WINDOW + 1):
            yield padded[:, row : row + height, column : column + width]


def _times_attention(query: Tensor, key: Tensor, scale: float, columns: Tensor) -> Tensor:
    """A·columns, (N, K), with the map A of one head's Q and K, (1, N, d): thresholded, its rows adding up to 1.

    A row of which nothing is left keeps its own values.
    """
    tiny = torch.finfo(torch.float32).tiny
    largest = torch.full((query.shape[1],), tiny, device=query.device)  # of each column of the softmax
    for _, weights in attention_rows(query, key, scale):
        largest = torch.maximum(largest, weights[0].amax(0))
    result = columns.clone()
    for rows, weights in attention_rows(query, key, scale):
        relative = weights[0] / largest
        relative = relative.masked_fill(relative < THRESHOLD, 0)
        total = relative.sum(1, keepdim=True)
        result[rows] = torch.where(total > 0, relative @ columns / total.clamp(min=tiny), columns[rows])
    return result
