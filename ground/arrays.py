"""Arrays that packages hand to each other: are they what the field of a result says?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_array(what: str, array: NDArray[Any], dtype: type[np.generic], ndim: int) -> None:
    """ValueError unless `array` is a numpy array of that dtype and number of axes, not empty, and of finite numbers."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != ndim or array.size == 0:
        given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{what} is {given}, expected a non-empty {ndim}-D {np.dtype(dtype).name} array")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds NaN or infinity, expected finite numbers")


def check_indices(what: str, array: NDArray[np.int32], ndim: int, count: int) -> None:
    """ValueError unless `array` is such an array of int32 in 0 … count - 1."""
    check_array(what, array, np.int32, ndim)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= count:
        raise ValueError(f"{what} holds {low}..{high}, expected within 0..{count - 1}")
