"""The auto rule against a slow, obvious computation; laws that all rules keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_fusion import coarse_of, masks_of

from fusion import FusionConfig, fuse
from fusion.formats import coco
from fusion.step.auto import left_to_pixels
from fusion.step.choices import FuseRule
from fusion.validate.evidence import evidence_faults, region_faults
from fusion.validate.images import ImageFacts
from ground.label_maps import contingency
from ovseg import CoarseMap, Label

RULES = FuseRule.values()
NAMES = ("cat", "grass", "sky", "dog")


def unsure(seed: int, shape: tuple[int, int], block: int = 1) -> CoarseMap:
    """A coarse map of random logits, in blocks of px that agree but for a little noise."""
    rng = np.random.default_rng(seed)
    small = rng.normal(size=(len(NAMES), -(-shape[0] // block), -(-shape[1] // block)))
    logits = small.repeat(block, axis=1).repeat(block, axis=2)[:, : shape[0], : shape[1]]
    logits = (logits + 0.1 * rng.normal(size=logits.shape)).astype(np.float32)
    return replace(coarse_of(logits.argmax(axis=0), NAMES), logits=logits, embeddings=np.exp(logits))


def random_masks(seed: int, shape: tuple[int, int], count: int = 3, block: int = 1) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, count, (-(-shape[0] // block), -(-shape[1] // block)))
    return small.repeat(block, axis=0).repeat(block, axis=1)[: shape[0], : shape[1]].astype(np.int32)


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5))
SEEDS = st.integers(0, 2**32 - 2)


@given(SEEDS, SHAPES, st.lists(st.booleans(), min_size=3, max_size=3))
def test_unclear_masks_take_at_every_pixel_the_best_product_of_score_and_share(seed, shape, unclear):
    coarse, masks = unsure(seed, shape), random_masks(seed + 1, shape)
    counts = contingency(masks, coarse.label_map, (3, len(NAMES)))
    winners = counts.argmax(axis=1)
    pieces = left_to_pixels(masks, coarse.score_tiles(), counts, winners, np.array(unclear))
    scores = coarse.scores
    for y in range(shape[0]):
        for x in range(shape[1]):
            mask, piece = masks[y, x], pieces.piece_map[y, x]
            assert pieces.masks[piece] == mask
            products = [float(scores[label, y, x]) * counts[mask, label] for label in range(len(NAMES))]
            label = pieces.labels[piece]
            if unclear[mask]:
                assert products[label] >= 0.999 * max(products)
            else:
                assert label == winners[mask]
    assert len(set(zip(pieces.masks.tolist(), pieces.labels.tolist(), strict=True))) == len(pieces.masks)
    assert np.unique(pieces.piece_map).tolist() == list(range(len(pieces.masks)))


def test_a_mask_of_two_halves_is_divided_with_the_evidence_of_each():
    masks = masks_of(np.zeros((4, 5)))
    coarse = coarse_of([[0, 0, 0, 1, 1]] * 4)
    result = fuse(masks, coarse, FusionConfig(fuse="auto"))
    assert result.label_map.tolist() == [[1, 1, 1, 2, 2]] * 4
    assert [(s.mask_id, str(s.label), s.share, s.runner_up, s.margin, s.area) for s in result.segments] == [
        (0, "cat", 0.6, Label("grass"), 0.2, 20),
        (0, "grass", 0.4, Label("cat"), -0.2, 20),
    ]


def test_pixels_that_are_hardly_for_another_label_follow_their_mask():
    halves = np.array([[0, 0, 0, 1, 1]] * 4)
    # Half of the likelihood ratio that shares of 0.6 and 0.4 ask for.
    sharpness = np.where(halves == 1, np.log(1.25), 4.0)
    result = fuse(masks_of(np.zeros((4, 5))), coarse_of(halves, sharpness=sharpness), FusionConfig(fuse="auto"))
    assert np.unique(result.label_map).tolist() == [1]
    assert len(result.segments) == 1


def test_small_parts_of_a_divided_mask_take_its_winner():
    coarse = coarse_of([[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [2, 0, 0, 1, 1], [0, 0, 0, 1, 1]])
    masks = masks_of(np.zeros((4, 5)))
    assert fuse(masks, coarse, FusionConfig(fuse="auto")).label_map[2, 0] == 3
    tidy = fuse(masks, coarse, FusionConfig(fuse="auto", min_area=2))
    assert tidy.label_map.tolist() == [[1, 1, 1, 2, 2]] * 4
    assert [str(segment.label) for segment in tidy.segments] == ["cat", "grass"]


def test_thresholds_hold_for_each_piece():
    masks, coarse = masks_of(np.zeros((4, 5))), coarse_of([[0, 0, 0, 1, 1]] * 4, background=("cat",))
    no_background = fuse(masks, coarse, FusionConfig(fuse="auto"))
    assert no_background.label_map.tolist() == [[0, 0, 0, 1, 1]] * 4
    abstaining = fuse(masks, coarse, FusionConfig(fuse="auto", min_margin=0.1))
    assert [segment.label for segment in abstaining.segments] == [None, None]
    assert not abstaining.label_map.any()


@settings(max_examples=50)
@given(SEEDS, SHAPES)
def test_with_a_margin_of_0_auto_is_overlap(seed, shape):
    masks, coarse = masks_of(random_masks(seed, shape)), unsure(seed + 1, shape)
    auto, overlap = (fuse(masks, coarse, FusionConfig(fuse=rule, clear_margin=0.0)) for rule in ("auto", "overlap"))
    np.testing.assert_array_equal(auto.label_map, overlap.label_map)
    assert auto.segments == overlap.segments


@settings(max_examples=50)
@given(SEEDS, SHAPES)
def test_auto_leaves_masks_of_one_pixel_as_they_are(seed, shape):
    coarse = unsure(seed, shape)
    single = masks_of(np.arange(coarse.label_map.size).reshape(shape))
    result = fuse(single, coarse, FusionConfig(fuse="auto"))
    np.testing.assert_array_equal(result.label_map - 1, coarse.label_map)
    assert [segment.share for segment in result.segments] == [1.0] * coarse.label_map.size


@settings(max_examples=50)
@given(SEEDS, SHAPES)
def test_where_the_coarse_map_is_certain_and_masks_are_of_one_label_all_rules_agree(seed, shape):
    masks = random_masks(seed, shape)
    label_of_mask = np.random.default_rng(seed + 1).integers(0, len(NAMES), 3)
    coarse = coarse_of(label_of_mask[masks], NAMES, sharpness=50.0)
    for rule in RULES:
        result = fuse(masks_of(masks, 3), coarse, FusionConfig(fuse=rule))
        np.testing.assert_array_equal(result.label_map - 1, coarse.label_map)
        assert all((s.share, s.margin, s.runner_up) == (1.0, 1.0, None) for s in result.segments)


# The same examples each time: among random ones there is now and then a tie to the digits that are written.
@settings(derandomize=True, max_examples=30)
@pytest.mark.parametrize("rule", RULES)
@given(SEEDS, SHAPES, st.permutations(range(len(NAMES))))
def test_the_order_of_labels_does_not_matter(rule, seed, shape, order):
    masks, coarse = masks_of(random_masks(seed, shape)), unsure(seed + 1, shape)
    order = np.array(order)
    permuted = CoarseMap(
        labels=tuple(coarse.labels[index] for index in order),
        label_map=np.argsort(order)[coarse.label_map].astype(np.int32),
        logits=coarse.logits[order],
        embeddings=coarse.embeddings,
        text_embeddings=coarse.text_embeddings[order],
    )
    first, second = (fuse(masks, each, FusionConfig(fuse=rule)) for each in (coarse, permuted))
    np.testing.assert_array_equal(first.label_map - 1, order[second.label_map - 1])


@pytest.mark.parametrize("rule", ["overlap", "auto"])
@settings(max_examples=50)
@given(SEEDS, SHAPES)
def test_no_pixel_has_a_label_that_no_pixel_of_its_mask_voted_for(rule, seed, shape):
    masks, coarse = random_masks(seed, shape), unsure(seed + 1, shape)
    result = fuse(masks_of(masks), coarse, FusionConfig(fuse=rule, clear_margin=1.0))
    for mask in np.unique(masks):
        assert set(result.label_map[masks == mask] - 1) <= set(coarse.label_map[masks == mask].tolist())


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=50)
@given(SEEDS, SHAPES)
def test_absent_labels_never_win(rule, seed, shape):
    coarse = unsure(seed, shape)
    logits = coarse.logits.copy()
    logits[1] -= 1000
    absent = replace(coarse, logits=logits, label_map=logits.argmax(axis=0).astype(np.int32), absent=("grass",))
    result = fuse(masks_of(random_masks(seed + 1, shape)), absent, FusionConfig(fuse=rule))
    assert not (result.label_map == 2).any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("min_area", [0, 6])
def test_what_validate_checks_of_masks_and_annotations_holds(rule, seed, min_area):
    """Shapes of noise, crumbs among them, so that pieces, parts and what absorbs them meet in all manners."""
    shape, config = (20, 24), FusionConfig(fuse=rule, split=bool(seed % 2), min_area=min_area)
    masks, coarse = masks_of(random_masks(seed, shape, block=5)), unsure(seed + 1, shape, block=3)
    result = fuse(masks, coarse, config)
    document = coco.instances(result)
    _, owners = coco.regions(result)
    facts = ImageFacts("x", shape, document["annotations"], None, None, centers=False)
    assert list(region_faults(facts, owners, document["categories"])) == []
    assert list(evidence_faults(facts, owners, masks, config)) == []
    if rule == "auto":
        pairs = [(segment.mask_id, segment.label) for segment in result.segments]
        assert len(set(pairs)) == len(pairs) > len({mask for mask, _ in pairs})
