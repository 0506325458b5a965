"""Transformers: what all families of them have in common, one grid of tokens from the first block to the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emerdiff.backbones.protocol import Backbone, check_channels

# Bytes that a pass takes for one token, over those of the token itself: a feed-forward layer is four times as wide, and
# is there before and after its activation, beside the residual and what attention holds. With some room.
_TOKENS = 24


class TransformerBackbone(Backbone):
    """A diffusion transformer; a subclass is a frozen dataclass with `transformer` among its fields."""

    transformer: Any

    def __post_init__(self) -> None:
        check_channels(self, "transformer")

    @property
    def denoiser(self) -> Any:
        return self.transformer

    @property
    def patch(self) -> int:
        """Latents to a side of a token."""
        return int(self.transformer.config.patch_size)

    @property
    def side_multiple(self) -> int:
        return self.latent_factor * self.patch

    @property
    def bytes_each(self) -> float:
        return _TOKENS * self.transformer.inner_dim * self.transformer.dtype.itemsize / self.patch**2

    def grid_hw(self, latents: Tensor) -> tuple[int, int]:
        return latents.shape[2] // self.patch, latents.shape[3] // self.patch

    @property
    def affinity_layers(self) -> Sequence[Any]:
        """Those in the middle, where published sweeps found what is most like meaning."""
        return [block.attn1 if hasattr(block, "attn1") else block.attn for block in self._middle]

    @property
    def affinity_features(self) -> nn.Module:
        """Queries in the middle: they come after a norm, while outputs of blocks have channels that outshine all others
        (DiTF)."""
        queries: nn.Module = self.affinity_layers[0].to_q
        return queries

    @property
    def _middle(self) -> Sequence[Any]:
        blocks = self.transformer.transformer_blocks
        first = max(len(blocks) // 2 - 1, 0)
        return list(blocks[first : first + 2])

    def _at(self, latents: Tensor, timestep: int) -> Tensor:
        """(B,) of a timestep, made on the device."""
        return torch.full((len(latents),), timestep, device=latents.device)

    def _without_variance(self, sample: Tensor, latents: Tensor) -> Tensor:
        """The prediction in a denoiser's output: of those that learned their variance, too, the first half."""
        return sample[:, : latents.shape[1]]
