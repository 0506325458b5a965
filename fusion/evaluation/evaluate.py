"""Quality tables: a data set with its truth, mask sources, CLIP variants and fusion rules → one row per combination.

Protocols: `open`: the data set's labels in, mIoU of the labelled maps out, from one
count of the pixels of all images. `bound`: every mask takes the true region that has most of its pixels;
mean over images of the mIoU of their regions, which is the quality of the masks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.datasets import Dataset, Sample
from fusion.evaluation.measure import Measured, measured
from fusion.evaluation.metrics import boundary_f, class_counts, majority_regions, mean_iou, pixel_accuracy
from fusion.models.sources import coarse_masks, guidance
from fusion.step.choices import CLIP_ALONE_RULE, MaskSource, Protocol
from fusion.step.config import FusionConfig
from fusion.step.pipeline import fuse

if TYPE_CHECKING:
    from emerdiff import EmerDiff
    from fusion.models.sources import MaskMaker
    from ovseg import CoarseMap, OpenVocabSegmenter

TOLERANCES = (2, 5)  # px, of the boundary F


@dataclass(frozen=True)
class Row:
    """What is measured of one combination; None where that has no meaning."""

    protocol: str  # one of Protocol
    masks: str  # one of MaskSource
    clip: str | None  # variant of dense CLIP
    fuse: str | None  # fusion rule
    speed: str | None  # how much of EmerDiff was computed; None for other masks
    miou: float | None  # 0..1, over all pixels of all images
    pixel_accuracy: float  # 0..1, open: over all pixels of all images; bound: mean over images
    boundary_f2: float  # 0..1, mean over images, at 2 px
    boundary_f5: float  # 0..1, mean over images, at 5 px
    bound_miou: float | None  # 0..1, mean over images
    seconds_per_image: float  # of this row's own steps; the labels are encoded once for all images and not counted
    peak_memory_mb: float | None  # highest of this row's own steps, see `measure.measured`


@dataclass(frozen=True)
class Way:
    """A way to masks."""

    masks: str  # one of MaskSource
    speed: str | None = None  # one of emerdiff's Speed, for masks "emerdiff"


@dataclass(frozen=True)
class _Key:
    """A combination, and with it a row."""

    protocol: str
    way: Way
    clip: str | None
    fuse: str | None


@dataclass(frozen=True)
class _Score:
    """One image of one row."""

    counts: NDArray[np.int64]  # (N, 3), see metrics.class_counts
    boundary: tuple[float, ...]  # one per TOLERANCES
    seconds: float
    peak_mb: float | None


def evaluate(
    dataset: Dataset,
    ways: Sequence[Way],
    makers: Mapping[Way, MaskMaker],
    clips: Mapping[str, OpenVocabSegmenter],
    fusion: FusionConfig,
    *,
    protocols: Sequence[str] = Protocol.values(),
    rules: Sequence[str] = (),
    seed: int = 0,
    model: EmerDiff | None = None,
) -> Iterator[list[Row]]:
    """Measure all combinations; after every image, yields the rows of all images so far.

    `makers` has what makes the masks of each of the `ways` but "none" (see `mask_maker`), `clips` a
    segmenter per variant; it may be empty if only the bound of real masks is asked for (`needs_clip`).
    `rules`, if there are any, take the place of `fusion.fuse`; "none" knows one alone (`for_masks`). What several
    rows share is run once per image, and its time and memory count in each of them. `model` is for segmenters that
    refine, where masks keep no affinity.
    """
    affinity_of = None if model is None else partial(model.affinity, seed=seed)
    keys = _keys(protocols, ways, tuple(clips), tuple(rules) or (fusion.fuse,))
    encoded = {
        clip: segmenter.encode_labels(dataset.labels, background=dataset.background)
        for clip, segmenter in clips.items()
    }
    scores: dict[_Key, list[_Score]] = {key: [] for key in keys}
    for sample in dataset.samples():
        masks = {way: measured(partial(make, sample.image, seed)) for way, make in makers.items()}
        coarse: dict[tuple[str, Way | None], Measured[CoarseMap]] = {}
        for key in keys:
            made, costs, named = masks.get(key.way), list[Measured[Any]](), None
            if key.clip:
                segmenter, of_image = clips[key.clip], None if made is None else made.value
                place = key.clip, key.way if segmenter.config.is_guided else None
                if place not in coarse:
                    seen = partial(guidance, segmenter.config, sample.image, of_image, affinity_of)
                    find = partial(_coarse_map, segmenter, sample, dataset, encoded[key.clip], seen)
                    coarse[place] = measured(find)
                named = coarse[place].value
                costs.append(coarse[place])
            if made is None:
                assert named is not None  # masks of its own
                made = measured(partial(coarse_masks, named))
            costs.append(made)
            if key.protocol == "open" and named is not None:
                rule = replace(fusion, fuse=key.fuse or fusion.fuse)
                fused = measured(partial(fuse, made.value, named, rule))
                costs.append(fused)
                score = _score(sample.truth, fused.value.label_map, len(dataset.labels) + 1, costs)
            else:
                best = majority_regions(made.value.label_map, sample.regions)
                score = _score(sample.regions, best, max(int(sample.regions.max()), 0) + 1, costs)
            scores[key].append(score)
        yield [_row(key, scores[key]) for key in keys]


def _coarse_map(
    segmenter: OpenVocabSegmenter,
    sample: Sample,
    dataset: Dataset,
    text_embeddings: NDArray[np.float32],
    seen: Callable[[], dict[str, Any]],
) -> CoarseMap:
    labels, background = dataset.labels, dataset.background
    return segmenter.segment(sample.image, labels, background=background, text_embeddings=text_embeddings, **seen())


def needs_clip(protocols: Sequence[str], sources: Sequence[str]) -> bool:
    """Whether a CLIP takes part at all."""
    return Protocol.OPEN in protocols or MaskSource.NONE in sources


def ways_of(sources: Sequence[str], speeds: Sequence[str]) -> list[Way]:
    """The ways to masks of these sources: EmerDiff's once for each speed."""
    emerdiff = [Way(MaskSource.EMERDIFF.value, speed) for speed in speeds]
    return [way for source in sources for way in (emerdiff if source == MaskSource.EMERDIFF else [Way(source)])]


def _keys(protocols: Sequence[str], ways: Sequence[Way], clips: Sequence[str], rules: Sequence[str]) -> list[_Key]:
    """The combinations that mean something: real masks have a bound of their own, whatever CLIP says."""
    keys = []
    for protocol, way in product(protocols, ways):
        alone = way.masks == MaskSource.NONE
        if protocol == "open":
            named_by = (CLIP_ALONE_RULE.value,) if alone else rules
            keys += [_Key(protocol, way, clip, rule) for clip, rule in product(clips, named_by)]
        else:
            keys += [_Key(protocol, way, clip, None) for clip in (clips if alone else (None,))]
    return keys


def _score(
    truth: NDArray[np.int32], predicted: NDArray[np.int32], num_classes: int, costs: Sequence[Measured[Any]]
) -> _Score:
    peaks = [cost.peak_mb for cost in costs if cost.peak_mb is not None]
    return _Score(
        counts=class_counts(truth, predicted, num_classes),
        boundary=tuple(boundary_f(truth, predicted, tolerance) for tolerance in TOLERANCES),
        seconds=sum(cost.seconds for cost in costs),
        peak_mb=max(peaks, default=None),
    )


def _row(key: _Key, scores: Sequence[_Score]) -> Row:
    if key.protocol == "open":  # classes are the same in all images: one matrix over all pixels
        total = np.sum([score.counts for score in scores], axis=0)
        miou, bound, accuracy = float(mean_iou(total)), None, float(pixel_accuracy(total))
    else:
        miou, bound = None, fmean(float(mean_iou(score.counts)) for score in scores)
        accuracy = fmean(float(pixel_accuracy(score.counts)) for score in scores)
    boundary_f2, boundary_f5 = (fmean(score.boundary[i] for score in scores) for i in range(len(TOLERANCES)))
    return Row(
        protocol=key.protocol,
        masks=key.way.masks,
        clip=key.clip,
        fuse=key.fuse,
        speed=key.way.speed,
        miou=miou,
        pixel_accuracy=accuracy,
        boundary_f2=boundary_f2,
        boundary_f5=boundary_f5,
        bound_miou=bound,
        seconds_per_image=fmean(score.seconds for score in scores),
        peak_memory_mb=max((score.peak_mb for score in scores if score.peak_mb is not None), default=None),
    )
