"""Masks of images that were seen, so that other labels need no diffusion model: bounded, the oldest go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion.runs.spec import RunSpec


@dataclass(frozen=True, eq=False)
class Seen:
    """An image with its masks."""

    image: NDArray[np.uint8]  # (H, W, 3)
    masks: Masks | None  # None: CLIP alone makes them, anew for every list of labels
    spec: RunSpec  # whose masks these are; its labels do not matter

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        arrays: list[NDArray[Any]] = [self.image]
        if self.masks is not None:
            arrays += [self.masks.label_map, self.masks.low_res, self.masks.features]
        closeness = getattr(getattr(self.masks, "affinity", None), "closeness", None)  # torch.uint8
        return sum(array.nbytes for array in arrays) + (0 if closeness is None else closeness.nbytes)


def lasting(seen: Seen) -> Seen:
    """The same without what is too large to be kept: affinities of attentions, and what others work out of themselves.

    What is left of the affinity is what `Masks.save` writes; another kind is made anew when it is needed.
    """
    affinity = getattr(seen.masks, "affinity", None)
    if seen.masks is None or affinity is None:
        return seen
    kept = type(affinity)(affinity.closeness.cpu()) if hasattr(affinity, "closeness") else None
    return replace(seen, masks=replace(seen.masks, affinity=kept))


class MaskCache:
    """What was seen, by token, in at most `limit` bytes; what was used last stays longest."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.num_bytes = 0
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, token: str) -> bool:
        return token in self._seen

    def get(self, token: str) -> Seen | None:
        """What was put there, if it is still kept."""
        with self._lock:
            if token not in self._seen:
                return None
            self._seen.move_to_end(token)
            return lasting(self._seen[token])

    def put(self, token: str, seen: Seen) -> bool:
        """Keep it, and forget what was not used for longest; False if it is larger than all that may be kept."""
        seen = lasting(seen)
        with self._lock:
            if token in self._seen:
                self.num_bytes -= self._seen.pop(token).num_bytes
            if seen.num_bytes > self.limit:
                return False
            self._seen[token] = seen
            self.num_bytes += seen.num_bytes
            while self.num_bytes > self.limit:
                self.num_bytes -= self._seen.popitem(last=False)[1].num_bytes
            return True
