"""Garbage collection: none while libraries and models are loaded, which makes a million objects and hardly any garbage.

Python looks through all objects whenever their number has grown by a share, and through the youngest at every 700th:
for the imports of torch, diffusers and transformers together that is about a fifth of their time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is collected within. Afterwards as before, but all objects count as old, which are rarely looked at."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # what a program froze itself stays so
                gc.freeze()
                gc.unfreeze()
            gc.enable()
