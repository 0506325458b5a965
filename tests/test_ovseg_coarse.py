"""Label map and scores agree with the plain formula, and stay small."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ground.planes import largest_plane
from ovseg import CoarseMap
from ovseg.coarse import upsampled
from ovseg.labels import Label


def coarse_map(logits: NDArray[np.float32], size_hw: tuple[int, int], **fields: Any) -> CoarseMap:
    """A CoarseMap of given logits; its embeddings have the right shape and no meaning."""
    count, height, width = logits.shape
    values: dict[str, Any] = {
        "labels": tuple(f"label {i}" for i in range(count)),
        "label_map": largest_plane(upsampled(logits, size_hw)),
        "logits": logits,
        "embeddings": np.zeros((5, height, width), np.float32),
        "text_embeddings": np.zeros((count, 5), np.float32),
    }
    return CoarseMap(**(values | fields))


def random_logits(seed: int, shape: tuple[int, ...], spread: float = 5) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**31),
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from([0.0, 1.0, 30.0, 3000.0]),
)
def test_scores_are_the_softmax_of_upsampled_logits_and_the_label_map_their_argmax(
    seed: int, shape: tuple[int, int, int], size_hw: tuple[int, int], spread: float
) -> None:
    logits = random_logits(seed, shape, spread)
    coarse = coarse_map(logits, size_hw)
    planes = F.interpolate(torch.from_numpy(logits)[None], size=size_hw, mode="bilinear", align_corners=False)[0]
    scores = coarse.scores
    assert scores.shape == (shape[0], *size_hw) and scores.dtype == np.float32
    assert coarse.label_map.shape == size_hw and coarse.label_map.dtype == np.int32
    # float32 rounding of the logits themselves, which grows with them, is all that may differ
    np.testing.assert_allclose(scores, planes.softmax(0), atol=1e-5 + 1e-6 * spread)
    np.testing.assert_allclose(scores.sum(axis=0), 1, atol=1e-5 + 1e-6 * spread)
    chosen = np.take_along_axis(scores, coarse.label_map[None], axis=0)[0]
    assert (chosen >= scores.max(axis=0) - 1e-6).all()


def test_at_the_grids_own_size_the_label_map_is_the_plain_argmax() -> None:
    logits = random_logits(3, (7, 20, 30))
    np.testing.assert_array_equal(coarse_map(logits, (20, 30)).label_map, logits.argmax(axis=0))


def test_planes_come_one_by_one_in_order() -> None:
    coarse = coarse_map(random_logits(0, (4, 3, 5)), (30, 41))
    np.testing.assert_array_equal(np.stack(list(coarse.iter_scores())), coarse.scores)


def test_many_labels_on_a_large_image_take_the_memory_of_a_few_planes() -> None:
    logits, plane_bytes = random_logits(0, (60, 20, 30)), 4 * 600 * 900
    tracemalloc.start()
    try:
        coarse = coarse_map(logits, (600, 900))
        total = sum(plane.mean(dtype=np.float64) for plane in coarse.iter_scores())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == pytest.approx(1, abs=1e-5)
    assert peak < 10 * plane_bytes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": (Label("one"),)}, r"have the shapes \(1, \(3, 2, 4\)"),
        ({"embeddings": np.zeros((6, 2, 4), np.float32)}, "shapes"),
        ({"text_embeddings": np.zeros((3, 6), np.float32)}, "shapes"),
        ({"background": (Label("sky"),)}, "background is sky, expected labels of the map"),
        ({"label_map": np.zeros((8, 8), np.int64)}, r"CoarseMap\.label_map is int64 \(8, 8\), expected .* 2-D int32"),
        ({"label_map": np.full((8, 8), 3, np.int32)}, r"CoarseMap\.label_map holds 3\.\.3, expected within 0\.\.2"),
        ({"label_map": np.full((8, 8), -1, np.int32)}, r"CoarseMap\.label_map holds -1\.\.-1, expected within 0\.\.2"),
        ({"label_map": np.zeros((0, 8), np.int32)}, r"CoarseMap\.label_map is int32 \(0, 8\), expected a non-empty"),
        ({"label_map": [[0]]}, r"CoarseMap\.label_map is list, expected"),
        ({"label_map": np.zeros((8, 8, 1), np.int32)}, "expected a non-empty 2-D int32"),
        ({"embeddings": np.zeros((5, 2, 4))}, r"CoarseMap\.embeddings is float64"),
        ({"text_embeddings": np.full((3, 5), np.nan, np.float32)}, r"CoarseMap\.text_embeddings holds NaN or infinity"),
        ({"labels": (Label("a"), Label("b"), Label("A"))}, "more than once"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coarse_map(np.zeros((3, 2, 4), np.float32), (8, 8), **fields)


def test_numbers_that_are_not_finite_are_refused() -> None:
    logits = np.zeros((3, 2, 4), np.float32)
    logits[1, 1, 1] = np.inf
    with pytest.raises(ValueError, match=r"CoarseMap\.logits holds NaN or infinity, expected finite numbers"):
        coarse_map(logits, (8, 8))


def test_plain_text_stands_for_labels() -> None:
    coarse = coarse_map(np.zeros((2, 2, 4), np.float32), (8, 8), labels=("cat", Label("sky")), background=("sky",))
    assert coarse.labels == (Label("cat"), Label("sky")) and coarse.background == (Label("sky"),)
