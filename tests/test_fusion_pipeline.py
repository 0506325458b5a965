"""`fuse` on literal 4×4 maps: labels, evidence, abstention, background, both rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_fusion import coarse_of, masks_of

from fusion import FusionConfig, fuse
from fusion.models.sources import coarse_masks
from ovseg import Label

MASKS = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]]
COARSE = [[0, 0, 2, 2], [0, 1, 2, 2], [1, 1, 1, 1], [0, 0, 1, 1]]


def test_every_mask_takes_the_label_that_it_overlaps_most():
    result = fuse(masks_of(MASKS), coarse_of(COARSE))
    assert result.labels == (Label("cat"), Label("grass"), Label("sky"))
    assert result.label_map.tolist() == [[1, 1, 3, 3], [1, 1, 3, 3], [2, 2, 2, 2], [2, 2, 2, 2]]
    assert result.label_map.dtype == np.int32


def test_evidence_of_every_mask():
    coarse = coarse_of(COARSE)
    segments = fuse(masks_of(MASKS), coarse).segments
    assert [(s.mask_id, str(s.label), s.share, s.runner_up, s.margin, s.area) for s in segments] == [
        (0, "cat", 0.75, Label("grass"), 0.5, 4),
        (1, "sky", 1.0, None, 1.0, 4),
        (2, "grass", 0.75, Label("cat"), 0.5, 8),
    ]
    inside = np.array(MASKS) == 2
    assert segments[2].score == round(float(coarse.scores[1][inside].mean()), 4)


@pytest.mark.parametrize("fuse_rule", ["overlap", "embedding"])
@pytest.mark.parametrize("noise", [-1e-6, 1e-6])
def test_what_is_beyond_the_digits_that_are_written_decides_nothing(noise, fuse_rule):
    """As it differs between devices, and between numbers of threads."""
    coarse = coarse_of([[0, 1, 0, 1], [0, 1, 0, 1]])
    masks = masks_of([[0, 0, 1, 1], [0, 0, 1, 1]])
    first, second = fuse(masks, coarse, FusionConfig(fuse=fuse_rule)).segments
    config = FusionConfig(fuse=fuse_rule, min_score=first.score)
    # In the right half the noise would make another label win, or a score too low.
    tilt = np.zeros_like(coarse.logits)
    tilt[1, :, 2:], tilt[0, :, 2:] = noise, -noise
    tilted = replace(coarse, logits=coarse.logits + tilt, embeddings=coarse.embeddings + tilt / 10)
    result = fuse(masks, tilted, config)
    assert result.segments == (first, second) and first.label == second.label == Label("cat")
    assert result.label_map.min() == 1


def test_score_map_holds_the_score_of_the_label_that_was_given():
    coarse = coarse_of(COARSE, background=("sky",))
    result = fuse(masks_of(MASKS), coarse)
    padded = np.concatenate([np.zeros((1, 4, 4), np.float32), coarse.scores[:2]])
    expected = np.take_along_axis(padded, result.label_map[None].astype(int), axis=0)[0]
    np.testing.assert_array_equal(result.score_map, expected)


def test_a_tie_goes_to_the_label_with_the_higher_mean_score():
    halves = [[0, 0, 1, 1]] * 4
    one_mask = masks_of(np.zeros((4, 4)))
    surer = np.where(np.array(halves) == 1, 5.0, 1.0)
    assert fuse(one_mask, coarse_of(halves)).segments[0].label == Label("cat")
    assert fuse(one_mask, coarse_of(halves, sharpness=surer)).segments[0].label == Label("grass")


def test_masks_below_the_thresholds_abstain_but_keep_their_evidence():
    masks, coarse = masks_of(MASKS), coarse_of(COARSE)
    by_margin = fuse(masks, coarse, FusionConfig(min_margin=0.6))
    assert [s.label for s in by_margin.segments] == [None, Label("sky"), None]
    assert [s.share for s in by_margin.segments] == [0.75, 1.0, 0.75]
    assert by_margin.label_map.tolist() == [[0, 0, 3, 3], [0, 0, 3, 3], [0, 0, 0, 0], [0, 0, 0, 0]]
    sky_score = fuse(masks, coarse).segments[1].score
    by_score = fuse(masks, coarse, FusionConfig(min_score=sky_score))
    assert [s.label for s in by_score.segments] == [None, Label("sky"), None]


def test_background_labels_become_other_and_are_no_labels_of_the_result():
    result = fuse(masks_of(MASKS), coarse_of(COARSE, labels=("cat", "lawn", "sky"), background=("lawn",)))
    assert result.labels == (Label("cat"), Label("sky"))
    assert result.label_map.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert [s.label for s in result.segments] == [Label("cat"), Label("sky"), None]
    assert result.segments[0].runner_up == Label("lawn")


def test_a_mask_without_a_pixel_has_no_segment():
    assert [s.mask_id for s in fuse(masks_of([[0, 2]] * 2, num_masks=4), coarse_of([[0, 1]] * 2)).segments] == [0, 2]


def test_embedding_rule_takes_the_nearest_text_whatever_the_pixels_say():
    coarse = coarse_of([[0, 0, 0, 1]] * 4)
    # The one patch column of grass is far longer: the mean leans to it, although three columns in four are cat.
    coarse.embeddings[1] *= 9
    masks = masks_of(np.zeros((4, 4)))
    assert fuse(masks, coarse).segments[0].label == Label("cat")
    segment = fuse(masks, coarse, FusionConfig(fuse="embedding")).segments[0]
    assert (segment.label, segment.share, segment.runner_up, segment.margin) == (
        Label("grass"),
        0.25,
        Label("cat"),
        -0.5,
    )


def test_embedding_rule_weighs_patches_by_the_share_that_a_mask_covers():
    coarse = coarse_of([[0, 1]])  # a grid of 1×2 patches over an image of 2×4 px
    object.__setattr__(coarse, "label_map", np.zeros((2, 4), np.int32))
    masks = masks_of([[0, 1, 1, 1], [0, 1, 1, 1]])  # mask 1 covers half of the cat patch and all of the grass patch
    result = fuse(masks, coarse, FusionConfig(fuse="embedding"))
    assert [s.label for s in result.segments] == [Label("cat"), Label("grass")]


def test_small_components_are_absorbed_and_keep_the_partition():
    masks = masks_of([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    coarse = coarse_of([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert fuse(masks, coarse).label_map[1, 1] == 2
    cleaned = fuse(masks, coarse, FusionConfig(min_area=2))
    assert (cleaned.label_map == 1).all()
    assert cleaned.score_map[1, 1] == pytest.approx(coarse.scores[0][1, 1])


def test_the_regions_of_the_coarse_map_as_masks_give_the_coarse_map_back():
    coarse = coarse_of([[0, 0, 2, 2], [0, 2, 2, 2]])  # no grass
    masks = coarse_masks(coarse)
    assert masks.num_masks == 2
    result = fuse(masks, coarse)
    np.testing.assert_array_equal(result.label_map, coarse.label_map + 1)
    assert [(s.label, s.share, s.runner_up, s.margin) for s in result.segments] == [
        (Label("cat"), 1.0, None, 1.0),
        (Label("sky"), 1.0, None, 1.0),
    ]


def test_sizes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(2, 2\)"):
        fuse(masks_of(MASKS), coarse_of([[0, 0], [0, 0]]))


@pytest.mark.parametrize(
    "values", [{"fuse": "vote"}, {"min_score": 2}, {"min_margin": -0.1}, {"min_area": 1.5}, {"min_aera": 1}]
)
def test_bad_settings_are_named(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        FusionConfig.from_mapping(values)


def test_split_lets_each_connected_part_of_a_mask_vote_by_itself():
    masks, coarse = masks_of([[0, 1, 0], [0, 1, 0]]), coarse_of([[0, 0, 1], [0, 0, 2]])
    whole = fuse(masks, coarse)
    assert whole.label_map.tolist() == [[1, 1, 1], [1, 1, 1]]
    parted = fuse(masks, coarse, FusionConfig(split=True))
    assert parted.label_map.tolist() == [[1, 1, 2], [1, 1, 2]]
    assert [str(segment.label) for segment in parted.segments] == ["cat", "cat", "grass"]
    assert parted.mask_map.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_crumbs_of_masks_go_to_the_mask_around_them_before_masks_are_split():
    masks = masks_of([[0, 0, 0, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]])
    coarse = coarse_of([[0, 0, 0, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]])
    config = FusionConfig(split=True)
    assert fuse(masks, coarse, config).mask_map.max() == 2
    cleaned = fuse(masks, coarse, replace(config, min_area=2))
    assert cleaned.mask_map.tolist() == [[0, 0, 0, 1, 1]] * 3
    # Every pixel still belongs to one mask, and the crumb's pixel votes with the mask that took it.
    assert [(segment.area, segment.share) for segment in cleaned.segments] == [(9, 0.8889), (6, 1.0)]
