"""IoU by size and masks of one sky: figures of 8×8 maps that can be counted by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_emerdiff import picture, tiny_backbone, tiny_config

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks.studies.labelling import entropy
from benchmarks.studies.looking import looked_once
from benchmarks.studies.objects import Found, Log, masks_of, object_ious, objects, tables
from benchmarks.studies.ways import masks_of_way, way_of
from emerdiff import EmerDiff
from fusion.evaluation.datasets import Sample
from fusion.evaluation.metrics import UNKNOWN
from ovseg import CoarseMap


def regions() -> np.ndarray:
    """Sky over ground; two parts of one thing, of 4 px each; a row of which nothing is known."""
    regions = np.repeat(np.int32([0, 0, 0, 0, 1, 1, 1, UNKNOWN]), 8).reshape(8, 8)
    regions[1:3, 1:3] = regions[1:3, 5:7] = 2
    return regions


def test_objects_are_connected_parts():
    things = objects(regions())
    assert sorted(np.unique(things)) == [UNKNOWN, 0, 1, 2, 3]
    assert (things == UNKNOWN).sum() == 8
    assert things[1, 1] != things[1, 5]
    assert (objects(np.full((8, 8), UNKNOWN, np.int32)) == UNKNOWN).all()


def test_iou_of_objects_with_all_masks_and_with_the_best():
    things = objects(regions())
    assert (object_ious(things.clip(0), things)[:, 1:] == 1).all()
    whole = object_ious(np.zeros((8, 8), np.int32), things)
    np.testing.assert_allclose(whole[:, 0] * 64, np.bincount(things[things >= 0]))
    # One mask is of the largest, 24 of 56 known px each for sky and ground: of the first.
    np.testing.assert_allclose(whole[:, 1], [24 / 56, 0, 0, 0])
    np.testing.assert_allclose(whole[:, 2], [24 / 56, 4 / 56, 4 / 56, 24 / 56])
    halves = things.clip(0)
    halves[:4, :4][halves[:4, :4] == 0] = 4  # the sky in two
    split = object_ious(halves, things)
    assert (split[:, 1] == 1).all() and split[0, 2] == 0.5
    assert object_ious(halves, np.full((8, 8), UNKNOWN)).shape == (0, 3)


def test_masks_of_a_label_are_those_with_most_pixels_in_it():
    masks = np.repeat(np.int32([0, 1, 2, 2, 2, 3, 3, 3]), 8).reshape(8, 8)
    assert masks_of(masks, regions(), 0) == 3  # the third is of the sky, too: 8 px, 4 + 4 of both things, 8 of ground
    assert masks_of(masks, regions(), 1) == 1


def test_ways_are_names_and_settings():
    way = way_of("few:merge=0.5")
    assert (way.name, way.settings) == ("few", {"merge": 0.5})
    model = EmerDiff(tiny_backbone(), tiny_config())
    as_many = way_of("as many:clusters=@few,clustering=ward").model(model, {"few": 2})
    assert (as_many.config.clusters, as_many.config.clustering) == (2, "ward")
    assert as_many.config.strength == model.config.strength


def found(bound: float, skies: int | None) -> Found:
    return Found(3, 4, 0.5, bound, 0.25, [[0.001, 0.5, 0.25], [0.5, 1.0, 1.0]], skies)


def test_a_log_knows_what_was_found(tmp_path):
    place = ["toy", "1", "config"]
    for path in (None, tmp_path / "log.jsonl"):
        with Log(path) as log:
            assert log.known(place) is None
            log.add(place, found(0.5, None))
            assert log.known(place) == found(0.5, None)
    with Log(path) as log:
        assert log.known(place) == found(0.5, None) and log.known([*place[:2], "another"]) is None


def test_the_table_has_means_and_paired_differences():
    ways = {"base": [found(0.5, 4), found(0.7, None)], "other": [found(0.6, 1), found(0.8, None)]}
    first, second = tables(ways, "sky").split("\n\nThe one mask that fits best:\n\n")
    head, _, base, other = first.split("\n")
    assert head.startswith("| 2 images | masks | masks of sky (1 images) | bound | F | tiny (2) | small (0) |")
    assert base.startswith("| base | 4.0 | 4.0 | 60.0 | 25.0 | 50.0 |  |  | 100.0 |")
    assert other.startswith("| other | 4.0 | 1.0 | 70.0 (+10.0 to +10.0) | 25.0 |")
    assert second.split("\n")[2] == "| base | 25.0 |  |  | 100.0 |"


def test_what_is_looked_at_once_changes_nothing():
    backbone = tiny_backbone()
    models = [
        EmerDiff(backbone, tiny_config(speed="instant", **changes))
        for changes in ({}, {"clustering": "ncut", "ncut_threshold": 1.0}, {"timestep_feature": 41})
    ]
    plain = [model.segment(picture()).label_map for model in models]
    passes = []
    backbone.unet.register_forward_pre_hook(lambda *_: passes.append(1))
    with looked_once():
        for model, expected in zip(models, plain, strict=True):
            assert np.array_equal(model.segment(picture()).label_map, expected)
        looks = len(passes)
        assert np.array_equal(models[0].segment(picture()).label_map, plain[0])
    assert len(passes) == looks == 4  # two of each timestep t_f: of features and of affinity


def test_doubts_of_a_way_are_no_setting():
    way = way_of("entropy:zoom=1,doubts=entropy")
    assert (way.settings, way.doubts, way_of("zoom:zoom=1").doubts) == ({"zoom": 1}, "entropy", None)
    with pytest.raises(ValueError, match="doubts is 'clip', expected 'entropy'"):
        way_of("other:doubts=clip")


def test_a_way_zooms_where_its_doubts_are():
    model = EmerDiff(tiny_backbone(), tiny_config(speed="instant", zoom=1))
    truth, passes = np.zeros((64, 64), np.int32), []
    sample = Sample("1", picture(), truth, truth)
    model.backbone.unet.register_forward_pre_hook(lambda *_: passes.append(1))
    corner = np.zeros((4, 4), np.float32)
    for corner[0, 0], looks in ((0, 1), (1, 2)):  # the image, and one crop
        masks_of_way(model, sample, corner)
        assert len(passes) == 2 * looks  # features, affinity
        passes.clear()


def test_entropy_is_1_where_labels_are_alike_and_0_where_one_is_sure():
    logits = np.float32([[[0, 9, 0]], [[0, -9, 0]], [[0, -9, -90]], [[0, -9, -90]]])
    text = np.eye(4, 2, dtype=np.float32)
    coarse = CoarseMap(("a", "b", "c", "d"), np.zeros((2, 6), np.int32), logits, np.zeros((2, 1, 3), np.float32), text)
    np.testing.assert_allclose(entropy(coarse), [[1, 0, 0.5]], atol=1e-5)


def test_labels_are_counted_over_the_images_of_a_data_set():
    """IoU of a class over both images of a set, and the mean over sets."""

    def counted(rows: list[list[int]], source: str) -> Found:
        return replace(found(0.5, None), classes=rows, source=source)

    images = [
        counted([[0, 0, 0], [1, 2, 1]], "a"),
        counted([[0, 0, 0], [5, 6, 7]], "a"),
        counted([[0, 0, 0], [0, 0, 0], [1, 4, 1]], "b"),
    ]
    head, _, row = tables({"base": images}, "sky").split("\n\n")[0].split("\n")
    place = head.split(" | ").index("labels")
    assert row.split(" | ")[place].split()[0] == f"{100 * (6 / (8 + 8 - 6) + 1 / 4) / 2:.1f}"
    assert "labels" not in tables({"base": [*images, found(0.5, None)]}, "sky")
