"""The absence test: what no patch prefers to the neutral prompt takes no part, and the rest is as without it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ovseg_segment import image_of
from tiny_fusion import masks_of
from tiny_ovseg import tiny_backbone

from fusion import FusionConfig, fuse
from ovseg import CoarseMap, Label, OpenVocabSegmenter, OvsegConfig
from ovseg.absence import find_absent, neutral_prompts, without
from ovseg.templates import TEMPLATES

LABELS = ["red ball", "grass", "sky", "Ärmel", "sea"]
SEEDS = st.integers(0, 2**31)


tiny = cache(tiny_backbone)


def segmenter(absence: float | None, **fields: str) -> OpenVocabSegmenter:
    config = OvsegConfig(model="local-dir:tiny", image_size=40, templates="simple", absence=absence, **fields)
    return OpenVocabSegmenter(tiny(), config)


def advantages(seed: int) -> list[float]:
    """Of each label over the neutral prompt, at its best patch; by the plain formula."""
    coarse = segmenter(None).segment(image_of(20, 24, seed), LABELS)
    (neutral,) = segmenter(None).backbone.encode_text(["a"])
    return [float(plane.max()) for plane in coarse.logits - 20 * np.tensordot(neutral, coarse.embeddings, 1)]


def random_logits(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    logits = np.random.default_rng(seed).normal(0, 3, (count + 1, 3, 4)).astype(np.float32)
    return logits[:-1], logits[-1]


def test_neutral_prompts_are_the_templates_without_a_name() -> None:
    assert neutral_prompts(["{}", "a photo of a {}.", "the {} in a video game."]) == [
        "",
        "a photo of a.",
        "the in a video game.",
    ]
    assert not any("{" in prompt or "  " in prompt for set_ in TEMPLATES.values() for prompt in neutral_prompts(set_))


def test_absent_labels_are_told_by_their_best_patch() -> None:
    logits = np.array([[[0, 3]], [[2, 2]], [[-1, 1]]], np.float32)  # L x 1 x 2
    neutral = np.array([[0, 1]], np.float32)
    assert list(find_absent(logits, neutral, 2)) == [False, False, True]
    assert list(find_absent(logits, neutral, 2.1)) == [False, False, True]  # equal best ones both stay
    assert list(find_absent(logits, neutral, 0)) == [False, False, False]
    assert list(find_absent(logits, neutral, -1000)) == [False, False, False]


@given(SEEDS, st.integers(1, 6), st.floats(-30, 30), st.randoms())
def test_one_stays_a_higher_margin_keeps_no_more_and_the_order_does_not_matter(seed, count, margin, random) -> None:
    logits, neutral = random_logits(seed, count)
    absent = find_absent(logits, neutral, margin)
    assert not absent.all()
    assert (absent <= find_absent(logits, neutral, margin + 1)).all()
    order = random.sample(range(count), count)
    np.testing.assert_array_equal(find_absent(logits[order], neutral, margin), absent[order])


@given(SEEDS, st.integers(2, 6), st.data())
def test_left_out_labels_have_no_score_and_the_others_the_scores_of_a_softmax_without_them(seed, count, data) -> None:
    logits, _ = random_logits(seed, count)
    absent = np.array(
        data.draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(lambda gone: not all(gone)))
    )
    kept = without(logits, absent)
    assert kept.dtype == np.float32 and np.isfinite(kept).all()
    np.testing.assert_array_equal(kept[~absent], logits[~absent])
    powers = np.exp(kept - kept.max(axis=0))
    assert powers[absent].max(initial=0) < 1e-20
    fewer = np.exp(logits[~absent] - logits[~absent].max(axis=0))
    np.testing.assert_array_equal((powers / powers.sum(axis=0))[~absent], fewer / fewer.sum(axis=0))


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from(["mean", "max"]))
def test_a_very_low_margin_changes_nothing(seed: int, synonyms: str) -> None:
    image, labels = image_of(20, 24, seed), [Label("sea", ("ocean",)), *LABELS[:3]]
    plain = segmenter(None, synonyms=synonyms).segment(image, labels)
    tested = segmenter(-1000.0, synonyms=synonyms).segment(image, labels)
    assert tested.absent == ()
    np.testing.assert_array_equal(tested.label_map, plain.label_map)
    np.testing.assert_allclose(tested.logits, plain.logits, atol=1e-4)
    np.testing.assert_allclose(tested.text_embeddings, plain.text_embeddings, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(0, 4))
def test_labels_below_the_margin_are_absent_and_the_map_is_that_of_the_others(seed: int, rank: int) -> None:
    found = advantages(seed)
    margin = sorted(found)[rank] - 1e-3
    image = image_of(20, 24, seed)
    coarse = segmenter(margin).segment(image, LABELS[:3], background=LABELS[3:])
    gone = [str(label) for label in coarse.absent]
    assert gone == [name for name, advantage in zip(LABELS, found, strict=True) if advantage < margin]
    others = [name for name in LABELS if name not in gone]
    fewer = segmenter(None).segment(image, others)
    names = np.array([str(label) for label in coarse.labels])[coarse.label_map]
    assert (names == np.array(others)[fewer.label_map]).mean() > 0.99  # rounding decides at borders
    stay = [LABELS.index(name) for name in others]
    np.testing.assert_allclose(coarse.logits[stay], fewer.logits, atol=1e-4)
    np.testing.assert_allclose(coarse.scores[stay], fewer.scores, atol=1e-3)
    assert coarse.scores[[LABELS.index(name) for name in gone]].max(initial=0) < 1e-9


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.permutations(range(5)), st.integers(1, 4))
def test_a_permuted_list_permutes_the_result(seed: int, order: list[int], rank: int) -> None:
    margin = sorted(advantages(seed))[rank] - 1e-3
    image = image_of(20, 24, seed)
    straight = segmenter(margin).segment(image, LABELS)
    permuted = segmenter(margin).segment(image, [LABELS[i] for i in order])
    assert set(permuted.absent) == set(straight.absent)
    np.testing.assert_allclose(permuted.logits, straight.logits[order], atol=1e-3)


@pytest.mark.parametrize("fuse_by", ["overlap", "embedding"])
def test_no_mask_takes_an_absent_label_by_either_rule(fuse_by: str) -> None:
    logits = np.full((2, 2, 2), 5, np.float32)
    logits[0] = -43
    embeddings = np.stack([np.ones((2, 2)), np.zeros((2, 2))]).astype(np.float32)  # of the first label
    coarse = CoarseMap(("cat", "sky"), np.ones((2, 2), np.int32), logits, embeddings, np.eye(2, dtype=np.float32))
    config = FusionConfig(fuse=fuse_by)
    masks = masks_of([[0, 0], [0, 0]])
    without_cat = fuse(masks, replace(coarse, absent=(Label("cat"),)), config)
    assert [segment.label for segment in without_cat.segments] == [Label("sky", stuff=True)]
    assert without_cat.absent == (Label("cat"),) and fuse(masks, coarse, config).absent == ()
    with pytest.raises(ValueError, match="absent is dog, expected labels of the map: cat, sky"):
        replace(coarse, absent=("dog",))


def test_text_encoded_once_has_a_row_more() -> None:
    one = segmenter(1.0)
    text = one.encode_labels(LABELS)
    assert text.shape == (6, 12)
    again = one.segment(image_of(20, 24), LABELS, text_embeddings=text)
    np.testing.assert_array_equal(again.logits, one.segment(image_of(20, 24), LABELS).logits)
    with pytest.raises(ValueError, match=r"is \(5, 12\), expected \(6, 12\): a row per label, and one of the neutral"):
        one.segment(image_of(20, 24), LABELS, text_embeddings=text[:5])
