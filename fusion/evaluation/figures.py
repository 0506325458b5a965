"""From sums to figures: tallies of images → mIoU and its like, and those of bootstrap samples of the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.average_precision import ImageMatches, average_precision
from fusion.evaluation.metrics import frequency_weighted_iou, mean_iou, pixel_accuracy
from fusion.evaluation.panoptic_quality import panoptic_quality
from fusion.evaluation.tally import MEANS, Tally, total

Figures = dict[str, NDArray[np.float64]]  # name → (…); NaN where it is not measured

DRAWS = 1000  # bootstrap samples
_DRAWS_OF_AP = 100  # of them, for AP, which is no sum over images
_INTERVAL = (2.5, 97.5)  # percentiles: 95 % lie between


def figures(sums: Tally) -> Figures:
    """All figures of a sum of tallies, or of many such sums at once: their leading dimensions are kept."""
    means, counts = sums.means[..., 0], sums.means[..., 1]
    of_images = np.where(counts > 0, means / np.maximum(counts, 1), np.nan)
    measured: Figures = dict(zip(MEANS, np.moveaxis(of_images, -1, 0), strict=True))
    if sums.classes.shape[-2]:
        measured["miou"] = mean_iou(sums.classes)
        measured["frequency_weighted_iou"] = frequency_weighted_iou(sums.classes)
        measured["pixel_accuracy"] = pixel_accuracy(sums.classes)
    if sums.panoptic.shape[-2]:
        measured |= panoptic_quality(sums.panoptic)
    return measured


def resamples(count: int, draws: int) -> NDArray[np.int64]:
    """(B, n) how often each of n images is drawn, in B samples of n with replacement.

    They are the same for every row of a table, so that the differences of rows are paired (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993).
    """
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)


def resampled(tallies: Sequence[Tally]) -> Figures:
    """The figures of DRAWS bootstrap samples of these images, (B,) each."""
    return figures(total(tallies, resamples(len(tallies), DRAWS)))


def resampled_ap(matches: Sequence[ImageMatches], labels: Sequence[int]) -> Figures:
    """AP of the first bootstrap samples; `labels` as for `average_precision`."""
    draws = resamples(len(matches), DRAWS)[:_DRAWS_OF_AP]
    found = [average_precision(matches, labels, weights) for weights in draws]
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Between which 95 % of a figure's bootstrap values (B,) lie; None where some of them are not defined."""
    if np.isnan(values).any():
        return None
    low, high = np.percentile(values, _INTERVAL)
    return float(low), float(high)
