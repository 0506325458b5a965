"""What an evaluation compares: ways to masks, CLIP variants, fusion rules, protocols → the rows that mean something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.datasets import Dataset
from fusion.step.choices import CLIP_ALONE_RULE, MaskSource, Protocol
from fusion.step.config import FusionConfig

if TYPE_CHECKING:
    from emerdiff import EmerDiff
    from fusion.models.sources import MaskMaker
    from ovseg import OpenVocabSegmenter


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
