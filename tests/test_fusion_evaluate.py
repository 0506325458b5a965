"""Evaluation: perfect masks score 1, figures equal a slow count, costs are those of a row's own steps; and the demo."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_fusion import masks_of
from tiny_ovseg import tiny_backbone

from fusion import FusionConfig, fuse
from fusion.evaluation.datasets import Dataset, Sample, open_dataset
from fusion.evaluation.evaluate import Way, evaluate, needs_clip, ways_of
from fusion.evaluation.measure import measured
from fusion.models.sources import coarse_masks, mask_maker
from ovseg import OpenVocabSegmenter, OvsegConfig, as_labels

WORDS = ("cat", "grass", "sky")
SHAPE = (32, 40)


@pytest.fixture(scope="module")
def clip():
    return OpenVocabSegmenter(tiny_backbone(), OvsegConfig(model="tiny", image_size=32))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    samples = {}
    for name in ("first", "second"):
        image = rng.integers(0, 255, (*SHAPE, 3), np.uint8)
        regions = np.repeat(np.repeat(rng.permutation(20).reshape(4, 5), 8, axis=0), 8, axis=1).astype(np.int32)
        samples[name] = Sample(name, image, regions % 3 + 1, regions)
    return Dataset(as_labels(WORDS), tuple(samples), samples.__getitem__)


def perfect(dataset):
    """A maker whose masks are the true regions."""
    regions = {sample.image.tobytes(): sample.regions for sample in dataset.samples()}
    return lambda image, seed: masks_of(regions[image.tobytes()])


def last(steps):
    *_, rows = steps
    return rows


def test_masks_that_are_the_regions_have_the_best_bound(dataset):
    (row,) = last(
        evaluate(dataset, [Way("slic")], {Way("slic"): perfect(dataset)}, {}, FusionConfig(), protocols=["bound"])
    )
    assert (row.bound_miou, row.pixel_accuracy, row.boundary_f2, row.boundary_f5) == (1, 1, 1, 1)
    assert (row.miou, row.clip, row.fuse, row.speed) == (None, None, None, None)


def test_open_figures_are_over_all_pixels_of_the_data_set(dataset, clip):
    (row,) = last(evaluate(dataset, [Way("none")], {}, {"maskclip": clip}, FusionConfig(), protocols=["open"]))
    truths, predictions = [], []
    for sample in dataset.samples():
        coarse = clip.segment(sample.image, WORDS)
        truths.append(sample.truth)
        predictions.append(fuse(coarse_masks(coarse), coarse).label_map)
    truth, predicted = np.stack(truths), np.stack(predictions)
    ious = [((truth == i) & (predicted == i)).sum() / ((truth == i) | (predicted == i)).sum() for i in (1, 2, 3)]
    assert row.miou == pytest.approx(np.mean(ious))
    assert row.pixel_accuracy == pytest.approx((truth == predicted).mean())


def test_background_labels_of_a_data_set_compete_for_what_is_other(dataset, clip):
    with_others = replace(dataset, background=as_labels(WORDS, ["hand", "sky hook"])[len(WORDS) :])
    (row,) = last(evaluate(with_others, [Way("none")], {}, {"maskclip": clip}, FusionConfig(), protocols=["open"]))
    right = []
    for sample in dataset.samples():
        found = clip.segment(sample.image, WORDS, background=["hand", "sky hook"]).label_map + 1
        right.append(np.where(found > len(WORDS), 0, found) == sample.truth)
    assert row.pixel_accuracy == pytest.approx(np.mean(right))


def test_rows_come_after_every_picture_in_order(dataset, clip):
    makers = {Way("slic"): perfect(dataset), Way("grid"): perfect(dataset)}
    clips = {"maskclip": clip, "clip": clip}
    rules = ["overlap", "embedding"]
    steps = list(evaluate(dataset, [Way("none"), Way("slic"), Way("grid")], makers, clips, FusionConfig(), rules=rules))
    assert len(steps) == 2
    keys = [(row.protocol, row.masks, row.clip, row.fuse) for row in steps[-1]]
    assert len(keys) == len(set(keys)) == 2 + 2 * 2 * 2 + 2 + 2
    assert keys[:2] == [("open", "none", "maskclip", "overlap"), ("open", "none", "clip", "overlap")]
    assert keys[2:4] == [("open", "slic", "maskclip", "overlap"), ("open", "slic", "maskclip", "embedding")]
    assert keys[-4:-2] == [("bound", "none", "maskclip", None), ("bound", "none", "clip", None)]
    assert keys[-2:] == [("bound", "slic", None, None), ("bound", "grid", None, None)]


def test_the_seconds_of_a_row_are_those_of_its_own_steps(dataset, clip):
    def slow(image, seed):
        time.sleep(0.3)
        return perfect(dataset)(image, seed)

    makers = {Way("slic"): slow, Way("grid"): perfect(dataset)}
    rows = last(evaluate(dataset, [Way("none"), Way("slic"), Way("grid")], makers, {"maskclip": clip}, FusionConfig()))
    seconds = {(row.protocol, row.masks): row.seconds_per_image for row in rows}
    assert min(seconds["open", "slic"], seconds["bound", "slic"]) >= 0.3
    assert seconds["open", "slic"] - seconds["open", "grid"] > 0.25
    assert seconds["open", "slic"] > seconds["bound", "slic"]


def test_masks_are_named_by_the_rule_of_the_settings_and_clip_alone_keeps_its_labels(dataset, clip):
    makers = {Way("slic"): perfect(dataset)}
    config = FusionConfig(fuse="embedding")
    rows = last(evaluate(dataset, [Way("none"), Way("slic")], makers, {"maskclip": clip}, config, protocols=["open"]))
    assert [(row.masks, row.fuse) for row in rows] == [("none", "overlap"), ("slic", "embedding")]
    right = [
        clip.segment(sample.image, WORDS).label_map + 1 == sample.truth  # 0 of the truth is "other"
        for sample in dataset.samples()
    ]
    assert rows[0].pixel_accuracy == pytest.approx(np.mean(right))


def test_emerdiff_is_measured_once_for_each_speed():
    ways = ways_of(["naive", "emerdiff", "none"], ["exact", "fast"])
    assert ways == [Way("naive"), Way("emerdiff", "exact"), Way("emerdiff", "fast"), Way("none")]


def test_clip_takes_part_only_where_words_or_its_own_regions_are_asked_for():
    assert needs_clip(["open"], ["naive"])
    assert needs_clip(["bound"], ["none"])
    assert not needs_clip(["bound"], ["naive", "slic"])


def test_measured_tells_value_time_and_peak():
    small = measured(lambda: 7)
    assert (small.value, small.seconds < 5) == (7, True)
    large = measured(lambda: np.ones(10_000_000).sum())
    assert large.value == 10_000_000
    if large.peak_mb is not None:  # 80 MB were there for a moment
        assert large.peak_mb > 80


def test_toy_scenes_have_words_and_regions():
    toyworld = pytest.importorskip("toyworld")
    data = open_dataset("toy", "1000000:1000005", limit=2)
    samples = list(data.samples())
    assert ([label.name for label in data.labels], data.count, len(samples)) == (list(toyworld.KINDS), 2, 2)
    stuff = {"grass", "sand", "water", "snow", "pavement", "wheat", "sky"}
    assert {label.name for label in data.labels if label.stuff} == stuff
    assert ([sample.name for sample in samples], data.instances) == (["1000000", "1000001"], True)
    scene = toyworld.scene(1000001)
    np.testing.assert_array_equal(samples[1].image, scene.image)
    for region, kind in enumerate(scene.kinds):
        assert (samples[1].truth[scene.label_map == region] == toyworld.KINDS.index(kind) + 1).all()


def test_masks_of_diffusion_need_the_model():
    with pytest.raises(ValueError, match="diffusion model"):
        mask_maker("emerdiff", None, None)


def test_the_demo_writes_its_folder_scores_and_sheets(tmp_path, tiny_preset, monkeypatch, capsys):
    from test_cli import emerseg

    from fusion.evaluation import demo

    monkeypatch.setattr(demo, "PRESET", str(tiny_preset))
    monkeypatch.setattr(demo, "SEEDS", "1000000:1000002")
    output = tmp_path / "demo"
    for _ in range(2):  # a second demo takes the place of the first
        assert emerseg("demo", "--output", output) == 0
    shown = capsys.readouterr().out
    for line in ("CLIP alone", "naive upsampling + CLIP", "EmerDiff + CLIP", "contact sheets"):
        assert line in shown
    assert len(json.loads((output / "instances.json").read_text())["images"]) == 2
    assert sorted(path.name for path in (output / "sheets").iterdir()) == ["scene-1.png", "scene-2.png"]
    width, height = Image.open(output / "sheets" / "scene-1.png").size
    assert (width, height) > (4 * 512, 512)


@pytest.mark.weights
def test_the_embedded_models_segment_a_scene(tmp_path):
    from fusion import Segmenter

    scene = pytest.importorskip("toyworld").scene(1_000_000)
    segmenter = Segmenter.from_preset("toy", masks="naive")
    result = segmenter.segment(scene.image, sorted(set(scene.kinds)))
    truth = np.array([sorted(set(scene.kinds)).index(kind) + 1 for kind in scene.kinds])[scene.label_map]
    assert (result.label_map == truth).mean() > 0.5
