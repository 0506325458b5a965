"""The table: a plan and the scores of its images → a row per combination, with intervals and differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan

import numpy as np

from fusion.evaluation.average_precision import average_precision
from fusion.evaluation.figures import Figures, figures, interval, resampled, resampled_ap
from fusion.evaluation.metrics import class_iou
from fusion.evaluation.plan import Key, Plan
from fusion.evaluation.scores import ImageScore
from fusion.evaluation.tally import Tally, total
from fusion.evaluation.unsupervised import PROTOCOLS
from fusion.step.choices import Protocol

OTHER = "other"  # stands for the class of what is none of the labels


@dataclass(frozen=True)
class Row:
    """What is measured of one combination; None where that has no meaning."""

    protocol: str  # one of Protocol
    masks: str  # one of MaskSource
    clip: str | None  # variant of dense CLIP
    fuse: str | None  # fusion rule
    speed: str | None  # how much of EmerDiff was computed; None for other masks
    miou: float | None = None  # 0..1, over all pixels of all images
    frequency_weighted_iou: float | None = None  # 0..1, over all pixels of all images
    pixel_accuracy: float | None = None  # 0..1, over all pixels of all images; bound: mean over images
    boundary_f2: float | None = None  # 0..1, mean over images, at 2 px
    boundary_f5: float | None = None  # 0..1, mean over images, at 5 px
    bound_miou: float | None = None  # 0..1, mean over images
    pq: float | None = None  # 0..1, over all images, where regions tell objects apart
    sq: float | None = None  # 0..1, mean IoU of matched regions
    rq: float | None = None  # 0..1, F-score of matched regions
    ap: float | None = None  # 0..1, of things, mean over IoUs of 0.50 … 0.95
    ap50: float | None = None  # 0..1
    ap75: float | None = None  # 0..1
    seconds_per_image: float | None = None  # of the row's own steps; labels are encoded once for all, and not counted
    peak_memory_mb: float | None = None  # highest of the row's own steps, see `measure.measured`
    class_iou: dict[str, float] | None = None  # by label, of those that have a true pixel
    # By figure: between which 95 % of the values of bootstrap samples of the images lie.
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    # By figure: the difference to the row before, of the same protocol, and the interval of this (paired).
    differences: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def main_name(row: Row) -> str:
    """The figure that a row is about."""
    return "bound_miou" if row.protocol == Protocol.BOUND else "miou"


def main_figure(row: Row) -> float | None:
    """Its value."""
    value: float | None = getattr(row, main_name(row))
    return value


def rows_of(plan: Plan, scores: Sequence[ImageScore]) -> list[Row]:
    """The rows of these images, one for each of `plan.keys`."""
    rows: list[Row] = []
    before: tuple[Row, Figures] | None = None
    for index, key in enumerate(plan.keys):
        row, draws = _row(plan, index, scores)
        if before is not None and before[0].protocol == key.protocol:
            row = replace(row, differences=_differences(before, (row, draws)))
        rows.append(row)
        before = row, draws
    return rows


def running(keys: Sequence[Key], sums: Sequence[Tally]) -> list[Row]:
    """The rows of the images so far, without intervals; protocols that need all images have no figures yet."""
    return [_named(key, figures(of_key)) for key, of_key in zip(keys, sums, strict=True)]


def _row(plan: Plan, index: int, scores: Sequence[ImageScore]) -> tuple[Row, Figures]:
    """One row, and its figures in bootstrap samples."""
    key, own = plan.keys[index], [score.rows[index] for score in scores]
    tallies = [score.tally for score in own]
    if key.protocol in PROTOCOLS:
        classes = PROTOCOLS[key.protocol]([score.masks[key.way.name] for score in scores], plan.seed)
        tallies = [replace(one, classes=counts.astype(float)) for one, counts in zip(tallies, classes, strict=True)]
    sums = total(tallies)
    found, draws = figures(sums), resampled(tallies)
    matches = [score.matches for score in own if score.matches is not None]
    if matches:
        things = [number for number, label in enumerate(plan.dataset.labels, start=1) if not label.stuff]
        found |= {name: np.array(value) for name, value in average_precision(matches, things).items()}
        draws |= resampled_ap(matches, things)
    row = replace(
        _named(key, found),
        peak_memory_mb=max((score.peak_mb for score in own if not isnan(score.peak_mb)), default=None),
        class_iou=_of_labels(plan, sums),
    )
    if len(scores) > 1:
        between = {name: interval(values) for name, values in draws.items() if getattr(row, name) is not None}
        row = replace(row, intervals={name: bounds for name, bounds in between.items() if bounds is not None})
    return row, draws


def _named(key: Key, found: Figures) -> Row:
    """The row of these figures, scalars."""
    values = {name: float(value) for name, value in found.items() if not np.isnan(value)}
    return Row(key.protocol, key.way.masks, key.clip, key.fuse, key.way.speed, **values)  # type: ignore[arg-type]


def _of_labels(plan: Plan, sums: Tally) -> dict[str, float] | None:
    if not sums.classes.shape[-2]:
        return None
    names = [OTHER, *(label.name for label in plan.dataset.labels)]
    ious = zip(names, class_iou(sums.classes), strict=True)
    return {name: float(iou) for name, iou in ious if not np.isnan(iou)}


def _differences(before: tuple[Row, Figures], now: tuple[Row, Figures]) -> dict[str, tuple[float, float, float]]:
    """By figure that both have an interval of: how much higher it is now, and the interval of this."""
    both = [name for name in now[0].intervals if name in before[0].intervals]
    between = {name: interval(now[1][name] - before[1][name]) for name in both}
    return {
        name: (getattr(now[0], name) - getattr(before[0], name), *bounds)
        for name, bounds in between.items()
        if bounds is not None
    }
