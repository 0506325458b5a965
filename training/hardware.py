"""What a training runs on: a device, and the precision that this device computes fast."""

from __future__ import annotations

import copy
import functools
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ground.device import resolve_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_SIDE, _REPEATS = 256, 5  # of the matrix products that are timed: some 15 ms each at the slowest
_MUCH_FASTER = 0.7  # of the time of float32: what bfloat16 must stay below to be worth its rounding
_DATA_SHARE = 0.5  # of a GPU's free memory: what training data may take there
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Hardware:
    """Weights and the optimizer are float32 whatever `dtype` is: it is that of autocast and of working copies alone."""

    device: torch.device
    dtype: torch.dtype

    @property
    def is_gpu(self) -> bool:
        """Whether steps wait in a line for the device, which must then be kept full: large batches, nothing asked."""
        return self.device.type == "cuda"

    def autocast(self, model: nn.Module | None = None) -> AbstractContextManager[None]:
        """The context of a forward pass; with float32, or a `model` that is in the dtype itself, it changes nothing."""
        itself = model is not None and next(model.parameters()).dtype == self.dtype
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32 and not itself)

    def working_copy(self, model: Model) -> Model:
        """`model` on the device or, in another dtype than float32, a copy in it to compute with (see loop.fit).

        It needs no autocast, whose casts of weights, and norms in float32, take more time on a GPU than the matrix
        products of a small model.
        """
        model.to(self.device)
        # diffusers' own `to` warns of dtypes.
        return model if self.dtype == torch.float32 else nn.Module.to(copy.deepcopy(model), self.dtype)

    def home(self, *data: Tensor) -> torch.device:
        """Where to keep `data` and to choose from it: on a GPU if it fits there, else in main memory."""
        if not self.is_gpu:
            return torch.device("cpu")
        free, _ = torch.cuda.mem_get_info(self.device)
        fits = sum(tensor.nbytes for tensor in data) < _DATA_SHARE * free
        return self.device if fits else torch.device("cpu")


CPU = Hardware(torch.device("cpu"), torch.float32)


def choose_hardware(device: str = "auto", dtype: str = "auto") -> Hardware:
    """The `device` (auto, cpu, cuda, mps) and `dtype` (auto, float32, bfloat16) to train with.

    With `auto` the dtype is bfloat16 where that is much faster than float32: on a GPU that has it, and on processors
    that have instructions for it. Others emulate it, which takes up to 75 times as long. ValueError on anything else.
    """
    where = resolve_device(device)
    if dtype not in ("auto", *DTYPES):
        raise ValueError(f"dtype is {dtype!r}, expected one of auto, {', '.join(DTYPES)}")
    if dtype != "auto":
        return Hardware(where, DTYPES[dtype])
    fast = where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    fast = fast or (where.type == "cpu" and bfloat16_is_fast_on_cpu())
    return Hardware(where, torch.bfloat16 if fast else torch.float32)


@functools.cache
def bfloat16_is_fast_on_cpu() -> bool:
    """Whether a matrix product in bfloat16 takes much less time here than one in float32; timed once.

    Asked rather than torch, whose flags say what instructions there are and not which kernels will be used.
    """
    seconds = {}
    for dtype in DTYPES.values():
        matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
        times = []
        # The first product also chooses the kernel; the shortest time is that of a moment without other work.
        for _ in range(_REPEATS + 1):
            began = time.perf_counter()
            torch.mm(matrix, matrix)
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times[1:])
    return seconds[torch.bfloat16] < _MUCH_FASTER * seconds[torch.float32]
