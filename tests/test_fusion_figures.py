"""Figures from sums: adding images up is all images at once, and intervals are those of the bootstrap."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fusion.evaluation.figures import DRAWS, figures, interval, resampled, resamples
from fusion.evaluation.metrics import class_counts
from fusion.evaluation.rows import Row
from fusion.evaluation.table import bar_plot, markdown
from fusion.evaluation.tally import tally, total

CLASSES = 4


def tallies(count, seed=0, right=0.7):
    """Images of 6 x 7 px of CLASSES classes, of which `right` are found."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        truth = rng.integers(0, CLASSES, (6, 7), dtype=np.int32)
        predicted = np.where(rng.random(truth.shape) < right, truth, 0).astype(np.int32)
        values = {"boundary_f2": rng.random(), "seconds_per_image": 2.0}
        made.append(tally(values, class_counts(truth, predicted, CLASSES), rng.integers(0, 5, (3, 4)).astype(float)))
    return made


def test_a_sum_with_weights_is_the_sum_of_images_that_are_there_so_often():
    one, two, three = tallies(3)
    weighted = total([one, two, three], np.array([[2, 0, 1], [0, 3, 0]]))
    for row, images in enumerate(([one, one, three], [two, two, two])):
        for name, values in vars(total(images)).items():
            np.testing.assert_array_equal(getattr(weighted, name)[row], values)


def test_figures_of_many_sums_are_those_of_each():
    images = tallies(5)
    weights = resamples(5, 20)
    at_once = figures(total(images, weights))
    for draw in range(20):
        for name, value in figures(total(images, weights[draw])).items():
            np.testing.assert_allclose(at_once[name][draw], value)


def test_means_leave_out_images_that_have_no_value():
    images = [tally({"bound_miou": 0.5}), tally({"bound_miou": float("nan")}), tally({"bound_miou": 0.7})]
    found = figures(total(images))
    assert found["bound_miou"] == pytest.approx(0.6)
    assert np.isnan(found["boundary_f2"])
    assert "miou" not in found


def test_every_resample_draws_as_many_images_as_there_are_and_all_are_drawn_alike():
    weights = resamples(7, DRAWS)
    assert (weights.sum(axis=1) == 7).all()
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.15  # its standard error is 0.03
    np.testing.assert_array_equal(weights, resamples(7, DRAWS))


def test_the_interval_of_a_mean_is_the_normal_one_for_many_images():
    rng = np.random.default_rng(0)
    values = rng.random(400)
    low, high = interval(resampled([tally({"boundary_f2": value}) for value in values])["boundary_f2"])
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.2 * error)


def test_there_is_no_interval_where_a_sample_has_no_value():
    assert interval(np.array([0.5, np.nan])) is None
    assert interval(np.full(10, 0.25)) == (0.25, 0.25)


def test_the_same_images_differ_by_nothing():
    images = tallies(6)
    np.testing.assert_array_equal(resampled(images)["miou"] - resampled(images)["miou"], 0)
    better = resampled(tallies(6, right=0.9))["pixel_accuracy"]
    assert interval(better - resampled(images)["pixel_accuracy"])[0] > 0


def row(**figures):
    return replace(Row("open", "emerdiff", "maskclip", "overlap", "fast"), **figures)


def test_markdown_has_the_figures_that_are_there_and_no_others():
    first = row(miou=0.5, seconds_per_image=1.5, intervals={"miou": (0.4, 0.625)})
    second = replace(row(miou=0.75, differences={"miou": (0.25, -0.01, 0.5)}), fuse="embedding")
    bound = Row("bound", "slic", None, None, None, bound_miou=0.25)
    text = markdown([first, second, bound])
    assert "| emerdiff fast overlap | 50.0 [40.0, 62.5] | 1.50 |  |" in text
    assert "| emerdiff fast embedding | 75.0 |  | +25.0 [-1.0, +50.0] |" in text
    assert "| slic | 25.0 |  |" in text
    assert "PQ" not in text


def test_the_plot_has_a_bar_for_every_row():
    pytest.importorskip("matplotlib")
    # A figure need not lie within its interval: rare classes are not in all samples.
    one, two = ([row(miou=0.5, intervals={"miou": (0.6, 0.7)}), row()] * count for count in (1, 6))
    heights = [Image.open(BytesIO(bar_plot(rows))).height for rows in (one, two)]
    assert heights[1] - heights[0] == pytest.approx(10 * 35, abs=2)
