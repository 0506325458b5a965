"""What one image adds to a row of the table: numbers that are summed over images before any figure is made of them.

Every figure but two (the peak of memory, mask AP) is a function of such a sum. So images are read once, in any order,
an interrupted evaluation adds the rest, and a bootstrap is a sum with other weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

TOLERANCES = (2, 5)  # px, of the boundary F
# Figures that are means over images; pixel_accuracy where it is not that of all pixels together.
MEANS = ("boundary_f2", "boundary_f5", "bound_miou", "pixel_accuracy", "seconds_per_image")


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over images; an axis of length 0 where something is not measured."""

    classes: NDArray[
        np.float64
    ]  # (…, N, 3) px of each class, from 0: found rightly, true, found (metrics.class_counts)
    means: NDArray[np.float64]  # (…, len(MEANS), 2): sum over images, and the number of images that have a value
    panoptic: NDArray[np.float64]  # (…, L, 4), per label: sum of IoU, TP, FP, FN (panoptic_quality.panoptic_counts)


def tally(
    values: Mapping[str, float],
    classes: NDArray[np.int64] | None = None,
    panoptic: NDArray[np.float64] | None = None,
) -> Tally:
    """The tally of one image: its `values` by names of MEANS, where NaN is none, and its counts where there are any."""
    means = np.array([values.get(name, np.nan) for name in MEANS])
    there = ~np.isnan(means)
    return Tally(
        classes=np.zeros((0, 3)) if classes is None else classes.astype(np.float64),
        means=np.stack([np.where(there, means, 0.0), there], axis=-1),
        panoptic=np.zeros((0, 4)) if panoptic is None else panoptic,
    )


def total(tallies: Sequence[Tally], weights: NDArray[np.int64] | None = None) -> Tally:
    """The sum of tallies of n images; with `weights` (B, n), how often each image counts, B sums at once, (B, …)."""
    weights = np.ones(len(tallies), np.int64) if weights is None else weights
    stacked = {field.name: np.stack([getattr(one, field.name) for one in tallies]) for field in fields(Tally)}
    return Tally(**{name: np.tensordot(weights.astype(np.float64), values, 1) for name, values in stacked.items()})
