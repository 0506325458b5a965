"""Merging, beyond the paper: neighbouring clusters become one where the model's own attention flows between them.

EmerDiff's authors name skies and grounds in many masks as a limit of a fixed number of clusters. Here K is the most
that there may be, and the image says how few of them are left: of the self-attentions in the feature layer's block, how
much of what a cluster looks at lies in its neighbour, measured by what it keeps for itself. It is done before modulated
passes, of which each cluster costs two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emerdiff.affinity import queries_and_keys
from emerdiff.attention import attention_layers, attention_rows
from emerdiff.backbones.protocol import Backbone


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """P, the product over layers of self-attention maps, each the mean over its heads; never in memory as a whole."""

    queries: tuple[Tensor, ...]  # of each layer, in the order of the pass: (heads, N, d)
    keys: tuple[Tensor, ...]  # the same
    scales: tuple[float, ...]  # of QKᵀ

    def flow(self, masks: Tensor) -> NDArray[np.float64]:
        """(K, K): of what the positions of each mask look at, how much lies in each; a row adds up to the mask's area.

        `masks` (K, h, w) float32, 0 or 1, on the grid of the N positions. Flows of masks that become one are added up.
        """
        of_masks = masks.flatten(1).to(self.queries[0].device)  # K N
        seen = of_masks.T  # P·M, N K
        for query, key, scale in zip(self.queries[::-1], self.keys[::-1], self.scales[::-1], strict=True):
            seen = torch.cat([weights.mean(0) @ seen for _, weights in attention_rows(query, key, scale)])
        flow: NDArray[np.float64] = (of_masks @ seen).double().cpu().numpy()
        return flow


def self_attentions(backbone: Backbone, feature_layer: str) -> list[Any]:
    """The self-attentions in the transformer block of that layer, and in the same place of the others beside it.

    In a UNet these are all transformers of its down, middle or up block, which have one grid. ValueError if there are
    none that can be read: of FLUX's, which are of another class, no module's output shows queries and keys as they come
    into their product, rotated.
    """
    place = _place(feature_layer)
    layers = attention_layers(backbone.denoiser).items()
    found = [
        layer for name, layer in layers if _place(name) == place and not getattr(layer, "is_cross_attention", True)
    ]
    if not found:
        raise ValueError(
            f"emerdiff.merge_attention needs self-attention beside {feature_layer}, and the model has none to read "
            "there: expected null"
        )
    return found


def self_attention(layers: Sequence[Any], outputs: Sequence[Tensor]) -> SelfAttention:
    """That of layers, from what their `affinity.projections` gave, without a batch."""
    heads = queries_and_keys(layers, outputs)
    return SelfAttention(tuple(heads[0::2]), tuple(heads[1::2]), tuple(layer.scale for layer in layers))


def merged_by_flow(low_res: NDArray[np.int32], flow: NDArray[np.float64], above: float) -> NDArray[np.int32]:
    """(h, w) int32: clusters of an (h, w) map to fewer, numbered from 0 in the same order, by their `flow` (K, K).

    The two neighbours with the strongest flow become one, until none is stronger than `above`. Strength is the flow
    from one into the other over what each keeps, the geometric mean of both directions: 1 where attention makes no
    difference between them, 0 where none goes over. A lower `above` goes on where a higher one stopped.
    """
    flow, beside = flow.copy(), _neighbours(low_res)
    ids = np.arange(len(flow))
    while beside.any():
        kept = np.sqrt(np.maximum(np.diag(flow), np.finfo(np.float64).tiny))
        strengths = np.where(beside, np.sqrt(flow * flow.T) / np.outer(kept, kept), -1)
        first, second = sorted(np.unravel_index(strengths.argmax(), strengths.shape))
        if strengths[first, second] <= above:
            break
        ids[ids == second] = first
        for of_pairs in (flow, beside):  # True + True is True
            of_pairs[first] += of_pairs[second]
            of_pairs[:, first] += of_pairs[:, second]
            of_pairs[second] = of_pairs[:, second] = 0
        beside[first, first] = False
    return np.unique(ids, return_inverse=True)[1].astype(np.int32)[low_res]


def _neighbours(low_res: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(K, K) which clusters have positions side by side."""
    beside = np.zeros((int(low_res.max()) + 1,) * 2, np.bool_)
    for here, there in ((low_res[1:], low_res[:-1]), (low_res[:, 1:], low_res[:, :-1])):
        beside[here, there] = beside[there, here] = True
    np.fill_diagonal(beside, False)
    return beside


def _place(name: str) -> list[str]:
    """The dotted name of the transformer block of a layer, whichever of the transformers side by side it is in."""
    parts = name.split(".")[:-1]
    return ["*" if before == "attentions" else part for before, part in zip(["", *parts], parts, strict=False)]
