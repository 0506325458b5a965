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
from fusion.evaluation.evaluate import evaluate
from fusion.evaluation.measure import measured
from fusion.evaluation.plan import Way, make_plan, needs_clip, ways_of
from fusion.evaluation.rows import rows_of
from fusion.evaluation.scores import ScoreFolder
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


def table(*arguments, **options):
    """The rows of a plan."""
    plan = make_plan(*arguments, **options)
    return rows_of(plan, list(evaluate(plan)))


def test_masks_that_are_the_regions_have_the_best_bound(dataset):
    (row,) = table(dataset, [Way("slic")], {Way("slic"): perfect(dataset)}, {}, FusionConfig(), protocols=["bound"])
    assert (row.bound_miou, row.pixel_accuracy, row.boundary_f2, row.boundary_f5) == (1, 1, 1, 1)
    assert (row.miou, row.clip, row.fuse, row.speed) == (None, None, None, None)


def test_open_figures_are_over_all_pixels_of_the_data_set(dataset, clip):
    (row,) = table(dataset, [Way("none")], {}, {"maskclip": clip}, FusionConfig(), protocols=["open"])
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
    (row,) = table(with_others, [Way("none")], {}, {"maskclip": clip}, FusionConfig(), protocols=["open"])
    right = []
    for sample in dataset.samples():
        found = clip.segment(sample.image, WORDS, background=["hand", "sky hook"]).label_map + 1
        right.append(np.where(found > len(WORDS), 0, found) == sample.truth)
    assert row.pixel_accuracy == pytest.approx(np.mean(right))


def test_the_rows_are_the_combinations_that_mean_something_in_order(dataset, clip):
    makers = {Way("slic"): perfect(dataset), Way("grid"): perfect(dataset)}
    clips = {"maskclip": clip, "clip": clip}
    rules = ["overlap", "embedding"]
    rows = table(dataset, [Way("none"), Way("slic"), Way("grid")], makers, clips, FusionConfig(), rules=rules)
    keys = [(row.protocol, row.masks, row.clip, row.fuse) for row in rows]
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
    rows = table(dataset, [Way("none"), Way("slic"), Way("grid")], makers, {"maskclip": clip}, FusionConfig())
    seconds = {(row.protocol, row.masks): row.seconds_per_image for row in rows}
    assert min(seconds["open", "slic"], seconds["bound", "slic"]) >= 0.3
    assert seconds["open", "slic"] - seconds["open", "grid"] > 0.25
    assert seconds["open", "slic"] > seconds["bound", "slic"]


def test_masks_are_named_by_the_rule_of_the_settings_and_clip_alone_keeps_its_labels(dataset, clip):
    makers = {Way("slic"): perfect(dataset)}
    config = FusionConfig(fuse="embedding")
    rows = table(dataset, [Way("none"), Way("slic")], makers, {"maskclip": clip}, config, protocols=["open"])
    assert [(row.masks, row.fuse) for row in rows] == [("none", "overlap"), ("slic", "embedding")]
    right = [
        clip.segment(sample.image, WORDS).label_map + 1 == sample.truth  # 0 of the truth is "other"
        for sample in dataset.samples()
    ]
    assert rows[0].pixel_accuracy == pytest.approx(np.mean(right))


ALL = ("open", "bound", "modified", "traditional")


@pytest.fixture
def plan(dataset, clip):
    """A plan with rows of every protocol, on objects that are told apart."""
    told = replace(dataset, instances=True, labels=as_labels(["cat", "grass [stuff]", "sky [stuff]"]))
    ways = [Way("none"), Way("slic")]
    return make_plan(told, ways, {Way("slic"): perfect(told)}, {"maskclip": clip}, FusionConfig(), protocols=ALL)


def without_costs(rows):
    return [
        replace(row, seconds_per_image=0, peak_memory_mb=0, intervals=row.intervals | {"seconds_per_image": 0})
        for row in (replace(row, differences=row.differences | {"seconds_per_image": 0}) for row in rows)
    ]


def test_an_evaluation_goes_on_where_it_was_stopped(plan, tmp_path):
    whole = rows_of(plan, list(evaluate(plan)))
    folder = ScoreFolder.open(tmp_path / "eval", {"what": 1})
    next(evaluate(plan, folder))  # stopped after the first image
    read = []
    watched = replace(
        plan, dataset=replace(plan.dataset, load=lambda name: read.append(name) or plan.dataset.load(name))
    )
    again = ScoreFolder.open(tmp_path / "eval", {"what": 1})
    assert without_costs(rows_of(plan, list(evaluate(watched, again)))) == without_costs(whole)
    assert read == ["second"]
    assert rows_of(plan, list(evaluate(watched, again))) == rows_of(plan, list(evaluate(watched, folder)))
    assert read == ["second"]


def test_a_damaged_score_is_measured_again(plan, tmp_path):
    folder = ScoreFolder.open(tmp_path, {"what": 1})
    list(evaluate(plan, folder))
    for damage in (b"", b"PK\x03\x04", (tmp_path / "images" / "first.npz").read_bytes()[:-40]):
        (tmp_path / "images" / "first.npz").write_bytes(damage)
        assert folder.read("first") is None
        list(evaluate(plan, folder))
        assert folder.read("first") is not None


def test_scores_of_another_evaluation_are_refused(tmp_path):
    ScoreFolder.open(tmp_path, {"root": "a", "rows": [1]})
    ScoreFolder.open(tmp_path, {"root": "a", "rows": [1]})
    with pytest.raises(ValueError, match="another evaluation, which differs in root: give --output another folder"):
        ScoreFolder.open(tmp_path, {"root": "b", "rows": [1]})


def test_names_of_samples_never_lead_out_of_the_folder(plan, tmp_path):
    folder = ScoreFolder.open(tmp_path / "eval", {})
    score = next(evaluate(plan))
    for name in ("../outside", "a/b", "/root", "a b", "ä"):
        folder.write(name, score)
        assert folder.read(name) is not None
    assert not (tmp_path / "outside.npz").exists()
    assert len(list((tmp_path / "eval" / "images").iterdir())) == 5


def test_rows_have_intervals_and_paired_differences_to_the_row_before(plan):
    rows = rows_of(plan, list(evaluate(plan)))
    assert [(row.protocol, row.masks) for row in rows] == [
        ("open", "none"),
        ("open", "slic"),
        ("bound", "none"),
        ("bound", "slic"),
        ("modified", "slic"),
        ("traditional", "slic"),
    ]
    for row in rows:
        assert "bound_miou" in row.intervals if row.protocol == "bound" else "miou" in row.intervals
        for name, (low, high) in row.intervals.items():
            assert low <= high, name
    assert not rows[0].differences and not rows[2].differences and not rows[4].differences
    difference, low, high = rows[3].differences["bound_miou"]
    assert difference == pytest.approx(1 - rows[2].bound_miou)
    assert low <= difference <= high
    open_rows = rows[:2]
    assert all(None not in (row.pq, row.sq, row.rq, row.ap, row.ap50, row.frequency_weighted_iou) for row in open_rows)
    assert all(set(row.class_iou) == {"cat", "grass", "sky"} for row in open_rows)


def test_protocols_without_labels_need_masks_of_their_own(dataset):
    with pytest.raises(ValueError, match="protocol modified needs masks of their own"):
        make_plan(dataset, [Way("none")], {}, {}, FusionConfig(), protocols=["modified"])


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
