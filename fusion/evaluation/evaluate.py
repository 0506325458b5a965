"""The recipe of an evaluation: a data set with its truth, and ways to masks, CLIP variants, fusion rules → scores.

A row of the table is a combination of these under a protocol. `open`: the data set's labels in, the labelled maps
compared with the truth. `bound`: every mask takes the true region that has most of its pixels, which is the quality of
the masks alone. `modified` and `traditional`: masks learn their classes from the truth (`unsupervised`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.average_precision import match_image
from fusion.evaluation.datasets import Dataset, Sample
from fusion.evaluation.measure import Measured, measured
from fusion.evaluation.metrics import UNKNOWN, boundary_f, class_counts, majority_regions, mean_iou, pixel_accuracy
from fusion.evaluation.panoptic_quality import panoptic_counts
from fusion.evaluation.plan import Key, Plan, Way
from fusion.evaluation.predictions import predicted_instances, predicted_panoptic
from fusion.evaluation.scores import ImageScore, RowScore, ScoreFolder
from fusion.evaluation.tally import TOLERANCES, tally
from fusion.evaluation.unsupervised import count_masks
from fusion.models.sources import coarse_masks, guidance
from fusion.step.choices import MaskSource, Protocol
from fusion.step.pipeline import fuse

if TYPE_CHECKING:
    from emerdiff import Masks
    from fusion.step.segmentation import Segmentation
    from ovseg import CoarseMap


def evaluate(plan: Plan, folder: ScoreFolder | None = None) -> Iterator[ImageScore]:
    """The score of every image in order; what `folder` keeps of them is not measured again."""
    for name in plan.dataset.names:
        score = folder.read(name) if folder is not None else None
        if score is None:
            score = measure_image(plan, plan.dataset.load(name))
            if folder is not None:
                folder.write(name, score)
        yield score


def measure_image(plan: Plan, sample: Sample) -> ImageScore:
    """All rows of one image. What several share is run once, and its time and memory count in each of them."""
    image = _Image(plan, sample)
    rows, of_ways = [], {}
    for key in plan.keys:
        if key.protocol == Protocol.OPEN:
            rows.append(_open(plan, image, key))
        elif key.protocol == Protocol.BOUND:
            rows.append(_bound(image, key))
        else:
            made = image.masks(key)
            rows.append(_score({}, [made]))
            of_ways[key.way.name] = count_masks(made.value, sample.truth, len(plan.dataset.labels) + 1)
    return ImageScore(tuple(rows), of_ways)


class _Image:
    """The steps that rows of one image share, each measured when it is first asked for."""

    def __init__(self, plan: Plan, sample: Sample) -> None:
        self.plan, self.sample = plan, sample
        self._masks: dict[tuple[Way, str | None], Measured[Masks]] = {}
        self._coarse: dict[tuple[str, Way | None], Measured[CoarseMap]] = {}

    def masks(self, key: Key) -> Measured[Masks]:
        """The masks of a row; those of "none" are the regions of its coarse map."""
        place = (key.way, key.clip if key.way.masks == MaskSource.NONE else None)
        if place not in self._masks:
            if key.way.masks == MaskSource.NONE:
                self._masks[place] = measured(partial(coarse_masks, self.coarse(key).value))
            else:
                self._masks[place] = measured(partial(self.plan.makers[key.way], self.sample.image, self.plan.seed))
        return self._masks[place]

    def coarse(self, key: Key) -> Measured[CoarseMap]:
        """The coarse map of a row that has a CLIP."""
        assert key.clip is not None
        segmenter, masks = self.plan.clips[key.clip], None
        if segmenter.config.is_guided and key.way.masks != MaskSource.NONE:
            masks = self.masks(key).value
        place = key.clip, key.way if segmenter.config.is_guided else None
        if place not in self._coarse:
            self._coarse[place] = measured(partial(self._find_coarse, key.clip, masks))
        return self._coarse[place]

    def _find_coarse(self, clip: str, masks: Masks | None) -> CoarseMap:
        plan, image = self.plan, self.sample.image
        affinity_of = None if plan.model is None else partial(plan.model.affinity, seed=plan.seed)
        return plan.clips[clip].segment(
            image,
            plan.dataset.labels,
            background=plan.dataset.background,
            text_embeddings=plan.text_embeddings[clip],
            **guidance(plan.clips[clip].config, image, masks, affinity_of),
        )


def _open(plan: Plan, image: _Image, key: Key) -> RowScore:
    """Labels in, labelled map out."""
    coarse, masks = image.coarse(key), image.masks(key)
    rule = replace(plan.fusion, fuse=key.fuse or plan.fusion.fuse)
    fused = measured(partial(fuse, masks.value, coarse.value, rule))
    sample, predicted = image.sample, fused.value.label_map
    classes = class_counts(sample.truth, predicted, len(plan.dataset.labels) + 1)
    score = _score(_borders(sample.truth, predicted), [coarse, masks, fused], classes=classes)
    return _with_objects(score, plan.dataset, sample, fused.value) if plan.dataset.instances else score


def _with_objects(score: RowScore, dataset: Dataset, sample: Sample, found: Segmentation) -> RowScore:
    """The score with panoptic quality and the matches of objects, by what the exports would hold."""
    known = (sample.regions != UNKNOWN) & (sample.truth != UNKNOWN)
    region_labels = np.zeros(max(int(sample.regions.max()), 0) + 1, np.int32)
    region_labels[sample.regions[known]] = sample.truth[known]
    regions, labels = predicted_panoptic(found.label_map, dataset.labels)
    counts = panoptic_counts(sample.regions, region_labels, sample.crowds, regions, labels, len(dataset.labels))
    things = [index for index, label in enumerate(dataset.labels, start=1) if not label.stuff]
    matches = match_image(sample.regions, region_labels, sample.crowds, predicted_instances(found), things)
    return replace(score, tally=replace(score.tally, panoptic=counts), matches=matches)


def _bound(image: _Image, key: Key) -> RowScore:
    """Every mask as the true region that has most of its pixels."""
    masks, regions = image.masks(key), image.sample.regions
    best = majority_regions(masks.value.label_map, regions)
    counts = class_counts(regions, best, max(int(regions.max()), 0) + 1)
    values = {"bound_miou": float(mean_iou(counts)), "pixel_accuracy": float(pixel_accuracy(counts))}
    costs: list[Measured[Any]] = [masks] if key.clip is None else [image.coarse(key), masks]
    return _score({**values, **_borders(regions, best)}, costs)


def _borders(truth: NDArray[np.int32], predicted: NDArray[np.int32]) -> dict[str, float]:
    return {f"boundary_f{tolerance}": boundary_f(truth, predicted, tolerance) for tolerance in TOLERANCES}


def _score(
    values: Mapping[str, float], costs: Sequence[Measured[Any]], classes: NDArray[np.int64] | None = None
) -> RowScore:
    peaks = [cost.peak_mb for cost in costs if cost.peak_mb is not None]
    seconds = sum(cost.seconds for cost in costs)
    return RowScore(tally({**values, "seconds_per_image": seconds}, classes), peak_mb=max(peaks, default=float("nan")))
