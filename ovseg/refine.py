"""Refinement: logits of patches, carried to a finer grid by what another model holds for one thing.

As CLIPer does with the self-attentions of Stable Diffusion (Sun et al., ICCV 2025): refined = P·logits, where the rows
of P add up to one. What P is made of is not this package's business: anything that can carry maps will do.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Affinity(Protocol):
    """Which positions of an image belong together."""

    def spread(self, planes: Tensor) -> Tensor:
        """(L, H, W) float32 weighted means over positions of `planes` (L, h, w), on the affinity's own grid."""
        ...


@torch.inference_mode()
def refined(logits: NDArray[np.float32], affinity: Affinity, times: int) -> NDArray[np.float32]:
    """(L, H, W) float32, P^times · logits: of `logits` (L, h, w), on the affinity's grid.

    Each label's plane is carried by itself, so that a label more changes nothing for the others.
    """
    planes = torch.from_numpy(logits)
    for _ in range(times):
        planes = affinity.spread(planes)
    return planes.cpu().numpy()
