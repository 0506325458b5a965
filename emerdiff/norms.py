"""Norms: one item's statistics for all items of a batch, beyond the paper; the counterpart of shared attention.

A group norm takes mean and variance over the whole grid. What is modulated in one place therefore changes every place,
near or far, and a large mask's response is divided away. With the statistics of the unmodulated pass each place answers
for itself and for what convolutions and attention bring to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from emerdiff.prefix import forward_of


@contextmanager
def shared_norms(unet: nn.Module) -> Iterator[None]:
    """The first item of the first pass inside leads: all group norms, for all items, take its means and variances."""
    with ExitStack() as replaced:
        for module in unet.modules():
            if isinstance(module, nn.GroupNorm):
                replaced.enter_context(forward_of(module, _leaders_norm(module)))
        yield


def _leaders_norm(norm: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
    """A forward of (B, C, …) that is linear: a scale and a shift for each channel, found for the first item it sees."""
    found: list[tuple[Tensor, Tensor]] = []

    def forward(input: Tensor) -> Tensor:
        if not found:
            found.append(_scale_and_shift(norm, input[0]))
        scale, shift = (values.to(input.dtype).view(1, -1, *[1] * (input.dim() - 2)) for values in found[0])
        return torch.addcmul(shift, input, scale)

    return forward


def _scale_and_shift(norm: nn.GroupNorm, item: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) float32 each: what the norm multiplies the channels of `item` (C, …) by, and then adds."""
    variance, mean = torch.var_mean(item.float().reshape(norm.num_groups, -1), dim=1, correction=0)
    each = norm.num_channels // norm.num_groups
    scale = (variance + norm.eps).rsqrt().repeat_interleave(each)
    shift = -mean.repeat_interleave(each) * scale
    if norm.weight is None:
        return scale, shift
    return scale * norm.weight.float(), shift * norm.weight.float() + norm.bias.float()
