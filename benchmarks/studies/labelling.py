"""What CLIP says of an image, said once for all ways to masks: labels of masks, and where it doubts them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion.evaluation.datasets import Dataset, Sample
from fusion.evaluation.metrics import class_counts
from fusion.models.segmenter import Segmenter
from fusion.step.pipeline import fuse
from ovseg import CoarseMap


@dataclass(eq=False)
class Labelling:
    """The labels of a data set, by the CLIP of a preset, which no masks guide."""

    segmenter: Segmenter
    data: Dataset
    _last: tuple[str, CoarseMap] | None = None

    def coarse(self, sample: Sample) -> CoarseMap:
        """Where the labels are; that of the last sample is kept."""
        if self._last is None or self._last[0] != sample.name:
            labels, background = self.data.labels, self.data.background
            found = self.segmenter.coarse_map(
                sample.image, None, labels, background=background, text_embeddings=self._texts
            )
            self._last = sample.name, found
        return self._last[1]

    def classes(self, masks: Masks, sample: Sample) -> list[list[int]]:
        """`class_counts` of what the preset's fusion makes of the masks of a sample; class 0 is other."""
        found = fuse(masks, self.coarse(sample), self.segmenter.fusion).label_map
        return class_counts(sample.truth, found, len(self.data.labels) + 1).tolist()

    @cached_property
    def _texts(self) -> NDArray[np.float32]:
        return self.segmenter.ovseg.encode_labels(self.data.labels, background=self.data.background)


def entropy(coarse: CoarseMap) -> NDArray[np.float32]:
    """(h, w) float32, 0..1, on the grid of the logits: the entropy of the softmax over L labels, over log L."""
    logits = coarse.logits.astype(np.float64) - coarse.logits.max(axis=0)
    shares = np.exp(logits) / np.exp(logits).sum(axis=0)
    bits = -(shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny))).sum(axis=0)
    return (bits / np.log(max(len(logits), 2))).astype(np.float32)
