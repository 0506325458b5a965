"""The recipe of an evaluation: a data set with its truth, and ways to masks, CLIP variants, fusion rules → scores.

A row of the table is a combination of these under a protocol. `open`: the data set's labels in, the labelled maps
compared with the truth. `bound`: every mask takes the true region that has most of its pixels, which is the quality of
the masks alone. `modified` and `traditional`: masks learn their classes from the truth (`unsupervised`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.average_precision import match_image
from fusion.evaluation.datasets import Dataset, Sample
from fusion.evaluation.measure import Measured, measured
from fusion.evaluation.metrics import UNKNOWN, boundary_f, class_counts, majority_regions, mean_iou, pixel_accuracy
from fusion.evaluation.panoptic_quality import panoptic_counts
from fusion.evaluation.predictions import predicted_instances, predicted_panoptic
from fusion.evaluation.scores import ImageScore, RowScore, ScoreFolder
from fusion.evaluation.tally import TOLERANCES, tally
from fusion.evaluation.unsupervised import count_masks
from fusion.models.sources import coarse_masks, guidance
from fusion.step.choices import CLIP_ALONE_RULE, MaskSource, Protocol
from fusion.step.config import FusionConfig
from fusion.step.pipeline import fuse

if TYPE_CHECKING:
    from emerdiff import EmerDiff, Masks
    from fusion.models.sources import MaskMaker
    from fusion.step.segmentation import Segmentation
    from ovseg import CoarseMap, OpenVocabSegmenter


@dataclass(frozen=True)
class Way:
    """A way to masks."""

    masks: str  # one of MaskSource
    speed: str | None = None  # one of emerdiff's Speed, for masks "emerdiff"

    @property
    def name(self) -> str:
        """It in one word or two."""
        return f"{self.masks} {self.speed}" if self.speed else self.masks


@dataclass(frozen=True)
class Key:
    """A combination, and with it a row; None where something takes no part."""

    protocol: str  # one of Protocol
    way: Way
    clip: str | None  # variant of dense CLIP
    fuse: str | None  # fusion rule


@dataclass(frozen=True, eq=False)
class Plan:
    """What is compared, on what, and by which models."""

    keys: tuple[Key, ...]
    dataset: Dataset
    makers: Mapping[Way, MaskMaker]  # of all ways but "none"
    clips: Mapping[str, OpenVocabSegmenter]  # by variant
    text_embeddings: Mapping[str, NDArray[np.float32]]  # by variant: of the labels, encoded once for all images
    fusion: FusionConfig
    seed: int
    model: EmerDiff | None  # for segmenters that refine, where masks keep no affinity


def make_plan(
    dataset: Dataset,
    ways: Sequence[Way],
    makers: Mapping[Way, MaskMaker],
    clips: Mapping[str, OpenVocabSegmenter],
    fusion: FusionConfig,
    *,
    protocols: Sequence[str] = (Protocol.OPEN.value, Protocol.BOUND.value),
    rules: Sequence[str] = (),
    seed: int = 0,
    model: EmerDiff | None = None,
) -> Plan:
    """All combinations of these that mean something.

    `makers` has what makes the masks of each of the `ways` but "none" (see `mask_maker`), `clips` a
    segmenter per variant; it may be empty where none is needed (`needs_clip`).
    `rules`, if there are any, take the place of `fusion.fuse`; "none" knows one alone (`for_masks`).
    ValueError if nothing is left to measure.
    """
    keys = _keys(protocols, ways, tuple(clips), tuple(rules) or (fusion.fuse,))
    if not keys:
        raise ValueError(f"protocol {', '.join(protocols)} needs masks of their own, expected more than masks none")
    encoded = {
        clip: segmenter.encode_labels(dataset.labels, background=dataset.background)
        for clip, segmenter in clips.items()
    }
    return Plan(keys, dataset, makers, clips, encoded, fusion, seed, model)


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


def needs_clip(protocols: Sequence[str], sources: Sequence[str]) -> bool:
    """Whether a CLIP takes part at all."""
    return Protocol.OPEN in protocols or (Protocol.BOUND in protocols and MaskSource.NONE in sources)


def ways_of(sources: Sequence[str], speeds: Sequence[str]) -> list[Way]:
    """The ways to masks of these sources: EmerDiff's once for each speed."""
    emerdiff = [Way(MaskSource.EMERDIFF.value, speed) for speed in speeds]
    return [way for source in sources for way in (emerdiff if source == MaskSource.EMERDIFF else [Way(source)])]


def _keys(protocols: Sequence[str], ways: Sequence[Way], clips: Sequence[str], rules: Sequence[str]) -> tuple[Key, ...]:
    """The combinations that mean something: masks of their own are the same whatever CLIP says."""
    return tuple(key for protocol, way in product(protocols, ways) for key in _KEYS[protocol](way, clips, rules))


def _open_keys(way: Way, clips: Sequence[str], rules: Sequence[str]) -> list[Key]:
    alone = way.masks == MaskSource.NONE
    return [Key("open", way, clip, rule) for clip in clips for rule in ((CLIP_ALONE_RULE.value,) if alone else rules)]


def _bound_keys(way: Way, clips: Sequence[str], rules: Sequence[str]) -> list[Key]:
    return [Key("bound", way, clip, None) for clip in (clips if way.masks == MaskSource.NONE else (None,))]


def _unsupervised_keys(protocol: str, way: Way, clips: Sequence[str], rules: Sequence[str]) -> list[Key]:
    return [] if way.masks == MaskSource.NONE else [Key(protocol, way, None, None)]


_KEYS: dict[str, Callable[[Way, Sequence[str], Sequence[str]], list[Key]]] = {
    Protocol.OPEN: _open_keys,
    Protocol.BOUND: _bound_keys,
    Protocol.MODIFIED: partial(_unsupervised_keys, "modified"),
    Protocol.TRADITIONAL: partial(_unsupervised_keys, "traditional"),
}
