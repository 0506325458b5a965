"""Batches: a call over many items → its results slice by slice, with fewer items at once when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import TypeVar

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# What PyTorch says: on CUDA and MPS; of the CPU; of the CPU on Windows.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


# Items at once where memory is the system's own.
_USUAL = 16
# Of a GPU's memory, the share for what a pass computes: the rest is for weights, and for images that are decoded.
_SHARE = 0.5


def items_at_once(device: torch.device, bytes_each: int) -> int:
    """How many items, of that many bytes while they are computed, one pass takes: a power of two.

    By all the memory that a GPU has, not by what is free at the moment: on one device results have the same bytes.
    Where others have taken it, `Batches` halves.
    """
    if device.type != "cuda":
        return _USUAL
    return largest_power(_SHARE * torch.cuda.get_device_properties(device).total_memory / bytes_each)


def largest_power(most: float) -> int:
    """The largest power of two that is no larger than `most`, and 1 at least."""
    return 1 << max(int(most).bit_length() - 1, 0)


class Batches:
    """A batch size that falls when memory runs out, and stays there: one object serves one segmentation."""

    def __init__(self, size: int) -> None:
        self.size = size  # items at once

    def run(self, call: Callable[[slice], Result], count: int) -> Iterator[Result]:
        """Yields call(slice) over range(count); torch.OutOfMemoryError when not even one item fits."""
        start = 0
        while start < count:
            part = slice(start, min(start + self.size, count))
            try:
                result = call(part)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(part.stop - part.start, error)
            else:
                yield result
                start = part.stop

    def _halve(self, failed: int, error: BaseException) -> None:
        if failed == 1:
            raise torch.OutOfMemoryError(
                "not even one trajectory fits into memory; try a smaller emerdiff.image_size, or float16"
            ) from error
        self.size = failed // 2
        logger.warning("a batch of %d does not fit into memory, continuing with %d", failed, self.size)


def sent_to(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor of the CPU in the dtype and on the device of another. A CUDA device need not be waited for."""
    return (tensor.pin_memory() if like.is_cuda else tensor).to(like.device, like.dtype, non_blocking=True)


def on_cpu(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yields each tensor on the CPU. A CUDA device has the next to compute while the copy of this one arrives."""
    last = torch.empty(0), None
    for (copy, arrival), _ in pairwise(chain(map(_sent_to_cpu, tensors), [last])):
        if arrival is not None:
            arrival.synchronize()
        yield copy


def _sent_to_cpu(tensor: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy, and what to wait for before it is looked at."""
    if not tensor.is_cuda:
        return tensor.cpu(), None
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record()
    return copy, arrival


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        text in str(error) for text in _OUT_OF_MEMORY
    )
