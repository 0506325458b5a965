"""Threads of the command line: how many compute, and how they wait for each other.

OpenMP's threads turn in circles for milliseconds before they sleep. Where another process wants a processor, each of
them does so on one that the others are waiting for: one call of a small UNet then takes several times as long as with
one thread (`python -m benchmarks.threads`). This is the business of a program, not of a library: `import emerseg`
leaves the environment alone.
"""

from __future__ import annotations

import os

# For GNU's OpenMP, with which torch is built on Linux; others do not read it. Long enough for the gap between two
# layers of a UNet, short enough to cost little on a busy machine.
WAITING = {"GOMP_SPINCOUNT": "1000"}
_OF_THE_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly() -> None:
    """Before torch is loaded: its threads sleep soon when they wait, unless the user has set how they wait."""
    if not any(name in os.environ for name in _OF_THE_USER):
        os.environ.update(WAITING)


def use_threads(count: int | None) -> None:
    """Compute with `count` threads; None leaves it to the libraries, which take one for each processor."""
    if count is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(count)  # for libraries that are loaded from here on
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)
