"""What the measures take is what the output folder holds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from pycocotools import mask as rle_codec
from test_fusion_coco import LABEL_MAPS, NAMES, segmentation_of

from fusion.evaluation.predictions import predicted_instances, predicted_panoptic
from ovseg import Label

LABELS = [Label(name, stuff=name in ("grass", "sky")) for name in NAMES]


@given(LABEL_MAPS)
def test_instances_are_the_things_of_the_document(label_map):
    result = segmentation_of(label_map, LABELS)
    found = predicted_instances(result)
    things = [one for one in result.to_coco()["annotations"] if not LABELS[one["category_id"] - 1].stuff]
    assert [mask["counts"] for mask in found.masks] == [one["segmentation"]["counts"] for one in things]
    assert found.labels.tolist() == [one["category_id"] for one in things]
    assert found.scores.tolist() == [one["evidence"]["score"] for one in things]


@given(LABEL_MAPS)
def test_regions_are_the_segments_of_the_document(label_map):
    result = segmentation_of(label_map, LABELS)
    regions, labels = predicted_panoptic(result.label_map, result.labels)
    annotations = result.to_coco()["annotations"]
    assert labels.tolist() == [one["category_id"] for one in annotations]
    for region, one in enumerate(annotations):
        np.testing.assert_array_equal(regions == region, rle_codec.decode(one["segmentation"]) > 0)
    np.testing.assert_array_equal(regions < 0, label_map == 0)
