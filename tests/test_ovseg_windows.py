"""Sliding windows: every patch is the mean of what its windows make of it, and one window is no windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_ovseg import tiny_backbone

from ovseg import OpenVocabSegmenter, OvsegConfig, windows
from ovseg.choices import DenseVariant
from ovseg.windows import encode_windows

BACKBONE = tiny_backbone()


def first_pixels(pixels):
    """An encoder whose embedding of a patch of 2 x 3 px is its first pixel: it does not care for windows."""
    return pixels[:, :, ::2, ::3]


def mean_of_window(pixels):
    """An encoder whose embeddings are all the mean of what it sees."""
    mean = pixels.mean(axis=(2, 3), keepdims=True)
    return np.broadcast_to(mean, (*mean.shape[:2], pixels.shape[2] // 2, pixels.shape[3] // 3))


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 20), st.integers(1, 20))
def test_windows_cover_every_patch_at_its_place(rows, columns, window, stride):
    pixels = np.random.default_rng(0).random((3, 2 * rows, 3 * columns), np.float32)
    found = encode_windows(first_pixels, pixels, (2, 3), window, min(stride, window))
    np.testing.assert_allclose(found, pixels[:, ::2, ::3], rtol=1e-6)


def test_overlaps_are_averaged():
    pixels = np.repeat(np.array([0, 6, 12, 30], np.float32), 3)[None, None].repeat(3, axis=0).repeat(2, axis=1)
    found = encode_windows(mean_of_window, pixels, (2, 3), 6, 3)  # two patches wide, a patch apart: means 3, 9, 21
    np.testing.assert_allclose(found[0], [[3, 6, 15, 21]])
    far = encode_windows(mean_of_window, pixels, (2, 3), 9, 9)  # the last window is moved in: means 6 and 16
    np.testing.assert_allclose(far[0], [[6, 11, 11, 16]])


@pytest.mark.parametrize("window", [0, 40, 400])
def test_one_window_is_the_whole_picture(window):
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    backbone, words = tiny_backbone(), ["cat", "sky"]
    settings = {"model": "local-dir:tiny", "image_size": 40, "templates": "simple"}
    whole = OpenVocabSegmenter(backbone, OvsegConfig(**settings)).segment(image, words)
    windowed = OpenVocabSegmenter(backbone, OvsegConfig(**settings, window=window)).segment(image, words)
    np.testing.assert_array_equal(windowed.logits, whole.logits)


@settings(max_examples=20)
@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.sampled_from(DenseVariant.values()), st.integers(0, 50))
def test_a_window_of_the_images_size_equals_no_windows(size_hw, variant, more):
    image = np.random.default_rng(0).integers(0, 255, (*size_hw, 3), np.uint8)
    labels = ["cat", "sky"]
    config = OvsegConfig(model="local-dir:tiny", image_size=24, templates="simple", dense=variant)
    whole = OpenVocabSegmenter(BACKBONE, config).segment(image, labels)
    longer = 8 * max(whole.logits.shape[1:])  # px
    windowed = OpenVocabSegmenter(BACKBONE, replace(config, window=longer + more)).segment(image, labels)
    np.testing.assert_array_equal(windowed.logits, whole.logits)


@pytest.mark.parametrize("variant", DenseVariant.values())
def test_windows_in_batches_are_windows_one_by_one(monkeypatch, variant):
    image = np.random.default_rng(0).integers(0, 255, (40, 72, 3), np.uint8)
    config = OvsegConfig(model="local-dir:tiny", image_size=40, templates="simple", dense=variant, window=24, stride=8)
    together = OpenVocabSegmenter(BACKBONE, config).segment(image, ["cat", "sky"])
    monkeypatch.setattr(windows, "BATCH", 1)
    alone = OpenVocabSegmenter(BACKBONE, config).segment(image, ["cat", "sky"])
    np.testing.assert_allclose(together.logits, alone.logits, atol=1e-4)


def test_windows_change_what_clip_sees():
    image = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    settings = {"model": "local-dir:tiny", "image_size": 40, "templates": "simple"}
    whole, windowed = (
        OpenVocabSegmenter(tiny_backbone(), OvsegConfig(**settings, window=window)).segment(image, ["cat", "sky"])
        for window in (0, 16)
    )
    assert windowed.logits.shape == whole.logits.shape
    assert not np.allclose(windowed.logits, whole.logits)
