"""Modes: rows of choices, each of which the config can say otherwise; all run on every layout, at the cost they say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from tiny_emerdiff import UNETS, picture, tiny_backbone, tiny_config

from emerdiff import EmerDiff, EmerDiffConfig, Masks
from emerdiff.cluster import one_hot
from emerdiff.frame import resized_planes
from emerdiff.speed import SPEEDS, Choices, Speed

OTHERS = {
    "modulation": False,
    "spread": True,
    "one_step": True,
    "differences": "latents",
    "one_side": True,
    "passes": 2,
    "guided_radius": 1.5,
}


def calls_of(segmenter: EmerDiff, **arguments: object) -> tuple[list[int], object]:
    """The batches of the UNet's calls, and the masks."""
    batches: list[int] = []
    hook = segmenter.backbone.unet.register_forward_pre_hook(lambda module, args: batches.append(len(args[0])))
    masks = segmenter.segment(picture(64, 64), **arguments)
    hook.remove()
    return batches, masks


def test_every_mode_has_a_row():
    assert tuple(SPEEDS) == Speed.values() == ("exact", "fast", "instant")


def test_exact_is_the_default_and_the_paper():
    config = EmerDiffConfig(model="some/model")
    assert config.speed == "exact"
    assert config.choices == Choices(True, False, False, "images", False, 0, 0.0)


@pytest.mark.parametrize("speed", SPEEDS)
def test_each_choice_can_be_set_alone(speed):
    assert set(OTHERS) == {field.name for field in fields(Choices)}
    row = asdict(EmerDiffConfig(model="some/model", speed=speed).choices)
    assert row == asdict(SPEEDS[speed])
    for name, other in OTHERS.items():
        assert asdict(EmerDiffConfig(model="some/model", speed=speed, **{name: other}).choices) == {**row, name: other}
        back = EmerDiffConfig(model="some/model", speed=speed, **{name: row[name]}).choices
        assert asdict(back) == row
    nothing = EmerDiffConfig(model="some/model", speed=speed, one_step=False, passes=0, guided_radius=0).choices
    assert (nothing.one_step, nothing.passes, nothing.guided_radius) == (False, 0, 0.0)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("layout", UNETS)
def test_every_mode_runs_on_every_layout(layout, speed):
    config = tiny_config(image_size=128, speed=speed)
    masks = EmerDiff(tiny_backbone(layout), config).segment(picture(90, 120), keep_difference=True)
    assert masks.label_map.shape == (90, 120) and masks.num_masks == 3
    assert set(np.unique(masks.label_map)) <= {0, 1, 2}
    assert masks.difference.shape == (3, 90, 120) and np.isfinite(masks.difference).all()


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("layout", ["mini", "sd1"])
def test_each_choice_alone_keeps_the_clusters_and_matters(layout, name):
    backbone = tiny_backbone(layout)
    plain, other = (
        EmerDiff(backbone, tiny_config(image_size=128, **changes)).segment(picture(128, 128), keep_difference=True)
        for changes in ({}, {name: OTHERS[name]})
    )
    assert np.array_equal(plain.low_res, other.low_res) and np.array_equal(plain.features, other.features)
    assert (plain.label_map != other.label_map).any()


def test_what_each_mode_calls():
    """Three masks, three timesteps from t_m down, batches large enough for all."""
    backbone = tiny_backbone()

    def batches(**changes):
        return calls_of(EmerDiff(backbone, tiny_config(batch_size=16, **changes)))[0]

    assert batches() == [1, 1, 6, 7, 7]  # features; t_m without offsets, with ±λ for three; with the unmodulated pass
    assert batches(one_side=True) == [1, 1, 3, 4, 4]
    assert batches(one_step=True) == [1, 1, 6]
    assert batches(speed="fast") == [1, 1, 1, 3]  # features, affinity; then t_m as before
    assert batches(speed="fast", passes=2) == [1, 1, 1, 2]
    assert batches(speed="fast", spread=False) == [1, 1, 3]
    assert batches(speed="instant") == [1, 1]
    assert batches(speed="instant", spread=False) == [1]
    assert batches(speed="instant", timestep_feature=101, feature_draws=5) == [5]


@pytest.mark.parametrize("speed", SPEEDS)
def test_seeds_and_batches(speed):
    segmenters = [EmerDiff(tiny_backbone(), tiny_config(speed=speed, batch_size=size)) for size in (1, 16)]
    first, again, other = (segmenters[0].segment(picture(), seed=seed, keep_difference=True) for seed in (0, 0, 1))
    wide = segmenters[1].segment(picture(), keep_difference=True)
    assert np.array_equal(first.difference, again.difference)
    assert not np.array_equal(first.difference, other.difference)
    np.testing.assert_allclose(first.difference, wide.difference, rtol=1e-2, atol=1e-3)
    assert (first.label_map == wide.label_map).mean() > 0.999


@pytest.mark.parametrize("layout", ["mini", "sd1"])
def test_the_affinity_is_handed_over_and_changes_nothing_else(layout):
    segmenters = {
        speed: EmerDiff(tiny_backbone(layout), tiny_config(image_size=128, speed=speed))
        for speed in ("fast", "instant")
    }
    image, handed = picture(128, 128), {}
    for speed, segmenter in segmenters.items():
        plain = segmenter.segment(image, keep_difference=True)
        kept = segmenter.segment(image, keep_difference=True, keep_affinity=True)
        assert plain.affinity is None
        assert np.array_equal(plain.label_map, kept.label_map) and np.array_equal(plain.difference, kept.difference)
        handed[speed] = kept
    with torch.inference_mode():
        planes = [masks.affinity.spread(one_hot(masks.low_res)) for masks in handed.values()]
    torch.testing.assert_close(planes[0], planes[1])  # whatever the mode
    expected = list(resized_planes(planes[1], (128, 128)))
    np.testing.assert_allclose(handed["instant"].difference, expected, atol=1e-3)


@pytest.mark.parametrize("source", ["features", "attention"])
def test_the_affinity_of_features_is_kept_in_the_file(tmp_path, source):
    config = tiny_config(speed="instant", affinity=source)
    masks = EmerDiff(tiny_backbone("sd1"), replace(config, image_size=128)).segment(picture(), keep_affinity=True)
    masks.save(tmp_path / "masks.npz")
    loaded = Masks.load(tmp_path / "masks.npz")
    if source == "attention":  # too large
        assert loaded.affinity is None and masks.affinity is not None
        return
    planes = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.affinity.spread(planes), masks.affinity.spread(planes))
    assert Masks.load(tmp_path / "masks.npz", affinity=False).affinity is None


def test_without_modulation_and_affinity_masks_are_the_naive_ones():
    config = tiny_config(modulation=False)
    segmenter = EmerDiff(tiny_backbone(), config)
    assert np.array_equal(segmenter.segment(picture(50, 70)).label_map, segmenter.naive(picture(50, 70)).label_map)


def test_the_table_imports_nothing_heavy():
    code = (
        "import sys; from emerdiff.speed import SPEEDS; from emerdiff.config import EmerDiffConfig; "
        "print(sorted({'torch', 'numpy', 'diffusers', 'cv2'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("same_timestep", [True, False])
def test_the_affinity_alone_is_that_of_the_masks(same_timestep):
    config = tiny_config(speed="instant")
    if not same_timestep:
        config = replace(config, timestep_affinity=config.timestep_feature + 20)
    model = EmerDiff(tiny_backbone(), config)
    kept = model.segment(picture(), seed=3, keep_affinity=True).affinity
    planes = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.affinity(picture(), seed=3).spread(planes), kept.spread(planes))
    assert not torch.equal(model.affinity(picture(), seed=4).spread(planes), kept.spread(planes))
