"""What an output folder would hold of a segmentation, as the measures of regions take it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.average_precision import Instances
from fusion.formats.coco import label_regions, regions
from fusion.formats.partition import Partition
from ovseg.labels import Label


def predicted_instances(partition: Partition) -> Instances:
    """The annotations of things in instances.json, with their scores in results.json."""
    found, _ = regions(partition)
    things = [one for one in found if not partition.labels[one.category_id - 1].stuff]
    return Instances(
        masks=tuple(dict(one.segmentation) for one in things),
        labels=np.array([one.category_id for one in things], np.int32),
        scores=np.array([one.evidence.score for one in things], np.float64),
    )


def predicted_panoptic(
    label_map: NDArray[np.int32], labels: Sequence[Label]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(regions (H, W) int32 from 0, -1 where nothing is; their labels (P,) int32 from 1), as in panoptic.json.

    `label_map` (H, W) int32: 0 = other, i = labels[i - 1], as in a `Partition`.
    """
    region_map, region_labels = label_regions(label_map, labels)
    return region_map - 1, region_labels
