"""What a step costs: a call → its value, its seconds and the highest memory while it ran."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

Value = TypeVar("Value")

_CLEAR_REFS = Path(
    "/proc/self/clear_refs"
)  # Linux: writing 5 sets the peak of the resident memory to its present value
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Measured(Generic[Value]):
    """The value of a call and its cost."""

    value: Value
    seconds: float  # wall time
    peak_mb: float | None  # MB (10^6 bytes), see `measured`; None where the system does not tell


def measured(call: Callable[[], Value]) -> Measured[Value]:
    """Run `call` once and measure it.

    The peak is that of CUDA's allocations if there is CUDA. Else it is that of the whole process's resident
    memory, models and libraries included: while the call ran on Linux, up to its end on other systems.
    """
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):  # no such file but on Linux, and not to be written in some containers
            _CLEAR_REFS.write_text("5")
    start = time.perf_counter()
    value = call()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return Measured(value, seconds, torch.cuda.max_memory_allocated() / _MEGABYTE if cuda else _peak_resident_mb())


def _peak_resident_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _MEGABYTE  # macOS counts bytes, the others KiB
