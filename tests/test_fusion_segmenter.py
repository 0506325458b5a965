"""The whole flow for one image: presets and overrides, where masks come from, and weights that are no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_emerdiff import picture

from fusion import Segmenter
from fusion.models.load import load_clip
from fusion.models.presets import load_preset, mask_hash
from fusion.models.sources import coarse_masks, mask_maker
from fusion.step.pipeline import fuse

LABELS = ["cat", "grass", "sky"]


@pytest.mark.parametrize("loaded", [True, False])
def test_overrides_count_for_a_name_and_for_a_loaded_preset(tiny_preset: Path, loaded: bool) -> None:
    preset = load_preset(tiny_preset) if loaded else tiny_preset
    segmenter = Segmenter.from_preset(
        preset, masks="grid", device="cpu", overrides=["emerdiff.clusters=4", "fusion.min_area=9", "ovseg.dense=clip"]
    )
    assert (segmenter.preset.emerdiff.clusters, segmenter.fusion.min_area) == (4, 9)
    assert segmenter.ovseg.config.dense == "clip"
    assert len(segmenter.segment(picture(), LABELS).segments) == 4


def test_unknown_sources_of_masks_list_the_choices(tiny_preset: Path) -> None:
    config = load_preset(tiny_preset).emerdiff
    choices = "masks is 'foo', expected one of emerdiff, naive, slic, grid, none"
    for wrong in (
        lambda: mask_maker("foo", config, None),
        lambda: mask_hash(config, "foo"),
        lambda: Segmenter.from_preset(tiny_preset, masks="foo"),
        lambda: Segmenter(load_preset(tiny_preset), None, None, "foo"),
    ):
        with pytest.raises(ValueError, match=choices):
            wrong()
    with pytest.raises(ValueError, match="masks is 'none': these are of the coarse map"):
        mask_maker("none", config, None)
    with pytest.raises(ValueError, match="the diffusion model is not loaded"):
        mask_maker("naive", config, None)


def test_masks_none_are_those_of_the_coarse_map(tiny_preset: Path) -> None:
    segmenter = Segmenter.from_preset(tiny_preset, masks="none", device="cpu")
    found = segmenter.segment(picture(), LABELS)
    masks = coarse_masks(segmenter.ovseg.segment(picture(), LABELS))
    assert len(found.segments) == masks.num_masks
    assert len(np.unique(found.mask_map)) == len(np.unique(masks.label_map))
    with pytest.raises(ValueError, match="masks is 'none': these are of the coarse map"):
        segmenter.make_masks(picture(), seed=0)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_diffusion_weights_that_are_no_numbers_give_an_error_and_no_masks(tiny_preset: Path, part: str) -> None:
    segmenter = Segmenter.from_preset(tiny_preset, device="cpu")
    for parameter in getattr(segmenter.emerdiff.backbone, part).parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        segmenter.segment(picture(), LABELS)


def test_clip_weights_that_are_no_numbers_end_a_run_before_its_first_image(tiny_preset: Path) -> None:
    clip = load_clip(load_preset(tiny_preset), device="cpu")
    clip.backbone.model.text_projection.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="embeddings of text are not finite"):
        clip.encode_labels(LABELS)


GUIDED = ["ovseg.refine=affinity", "emerdiff.affinity=features", "ovseg.scope=masks", "ovseg.dense=clearclip"]


@pytest.mark.parametrize("masks", ["emerdiff", "naive", "grid"])
def test_masks_and_the_diffusion_model_help_to_find_labels(tiny_preset: Path, masks: str) -> None:
    guided = Segmenter.from_preset(tiny_preset, masks=masks, device="cpu", overrides=GUIDED)
    found = guided.make_masks(picture(), seed=3)
    coarse = guided.coarse_map(picture(), found, LABELS, seed=3)
    affinity = guided.emerdiff.affinity(picture(), seed=3)
    expected = guided.ovseg.segment(picture(), LABELS, regions=found.label_map, affinity=affinity)
    np.testing.assert_allclose(coarse.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert coarse.logits.shape[1:] != coarse.embeddings.shape[1:]
    whole = guided.segment(picture(), LABELS, seed=3)
    np.testing.assert_array_equal(whole.label_map, fuse(found, coarse, guided.fusion).label_map)


def test_help_that_is_not_to_be_had_is_one_line(tiny_preset: Path) -> None:
    alone = Segmenter.from_preset(tiny_preset, masks="none", device="cpu", overrides=GUIDED)
    assert alone.emerdiff is not None  # for its affinity
    assert alone.segment(picture(), LABELS).label_map.shape == picture().shape[:2]  # there is nothing to scope by
    refined = Segmenter.from_preset(tiny_preset, masks="none", device="cpu", overrides=GUIDED[:2])
    assert refined.segment(picture(), LABELS).label_map.shape == picture().shape[:2]
    without = Segmenter(refined.preset, refined.ovseg, None, "none")
    with pytest.raises(ValueError, match=r"ovseg.refine is 'affinity', and the diffusion model is not loaded"):
        without.segment(picture(), LABELS)
