"""What the pixels of masks vote for: the evidence for any label that a mask might have, not only for the one it got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.formats.partition import Segment
from fusion.formats.schema import DIGITS
from fusion.step.overlap import mean_scores
from ground.label_maps import contingency
from ovseg.labels import Label

if TYPE_CHECKING:
    from ovseg import CoarseMap


@dataclass(frozen=True, eq=False)
class Votes:
    """K masks against the L labels of a coarse map, background labels included."""

    labels: tuple[Label, ...]
    counts: NDArray[np.int64]  # (K, L) px of a label in a mask
    scores: NDArray[np.float64]  # (K, L) mean score of a label in a mask, 0..1, to DIGITS decimals

    def segment(self, mask_id: int, label: Label) -> Segment:
        """What `fuse` would say of a mask if it had given it this label, which need not be one of the coarse map.

        Below 0 the margin says by how much another label, the runner-up, leads.
        """
        counts, scores = self.counts[mask_id], self.scores[mask_id]
        given = self.labels.index(label) if label in self.labels else None
        others = [index for index in np.flatnonzero(counts).tolist() if index != given]
        follower = min(others, key=lambda index: (-counts[index], -scores[index], index), default=None)
        area, own = int(counts.sum()), 0 if given is None else int(counts[given])
        behind = 0 if follower is None else int(counts[follower])
        return Segment(
            mask_id=mask_id,
            label=label,
            score=self.score(mask_id, label),
            share=round(own / area, DIGITS),
            runner_up=None if follower is None else self.labels[follower],
            margin=round((own - behind) / area, DIGITS),
            area=area,
        )

    def score(self, mask_id: int, label: Label) -> float:
        """Mean score of a label in a mask; 0 if CLIP was not asked for it."""
        return float(self.scores[mask_id, self.labels.index(label)]) if label in self.labels else 0.0


def votes_of(mask_map: NDArray[np.int32], coarse: CoarseMap) -> Votes:
    """The votes of the masks of `mask_map` (H, W), which is of the image of the coarse map."""
    counts = contingency(mask_map, coarse.label_map, (int(mask_map.max()) + 1, len(coarse.labels)))
    scores = mean_scores(mask_map, coarse.score_tiles(), counts.sum(axis=1), np.ones(counts.shape, bool))
    return Votes(coarse.labels, counts, scores.round(DIGITS))
