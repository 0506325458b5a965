"""Refinement and scope of the whole step: what another model and masks say of where labels are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_ovseg_segment import LABELS, image_of
from tiny_ovseg import tiny_backbone
from torch import Tensor

from ovseg import OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import Backbone
from ovseg.refine import refined


class Doubling:
    """Twice as many positions, and half of what each says goes to the left neighbour."""

    def spread(self, planes: Tensor) -> Tensor:
        larger = planes.repeat_interleave(2, 1).repeat_interleave(2, 2) if planes.shape[1] < 9 else planes
        return (larger + larger.roll(-1, 2)) / 2


@pytest.fixture(scope="module")
def plain() -> OpenVocabSegmenter:
    return OpenVocabSegmenter(tiny_backbone(), OvsegConfig(model="local-dir:tiny", image_size=40, dense="clearclip"))


def with_config(segmenter: OpenVocabSegmenter, **changes: object) -> OpenVocabSegmenter:
    return OpenVocabSegmenter(segmenter.backbone, replace(segmenter.config, **changes))


def test_logits_are_carried_by_the_affinity_as_often_as_asked(plain: OpenVocabSegmenter) -> None:
    image = image_of(40, 40)
    before = plain.segment(image, LABELS)
    after = with_config(plain, refine="affinity", refine_times=2).segment(image, LABELS, affinity=Doubling())
    once = Doubling().spread(torch.from_numpy(before.logits))
    np.testing.assert_allclose(after.logits, Doubling().spread(once), rtol=1e-6)
    assert after.logits.shape == (5, 10, 10) and after.embeddings.shape[1:] == (5, 5)
    np.testing.assert_array_equal(after.label_map, after.scores.argmax(axis=0))
    # One that is not asked for is not looked at, and where there is none patches speak for themselves.
    alone = with_config(plain, refine="affinity").segment(image, LABELS)
    np.testing.assert_array_equal(alone.logits, before.logits)
    np.testing.assert_array_equal(plain.segment(image, LABELS, affinity=Doubling()).logits, before.logits)


def test_another_label_changes_nothing_for_the_others() -> None:
    logits = np.random.default_rng(0).standard_normal((4, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(refined(logits, Doubling(), 3)[:3], refined(logits[:3], Doubling(), 3))


def test_regions_of_pixels_become_those_of_patches(plain: OpenVocabSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in two halves: what the right one shows does not reach the left one in the last block."""
    scoped = with_config(plain, scope="masks", image_size=80, window=40, stride=40)
    image = image_of(80, 80)
    regions = np.zeros((80, 80), np.int32)
    regions[:, 40:] = 7
    seen = []
    original = Backbone.encode_patches

    def recorded(self: Backbone, pixels: np.ndarray, variant: str, within: np.ndarray | None = None) -> np.ndarray:
        seen.append(within)
        return original(self, pixels, variant, within)

    monkeypatch.setattr(Backbone, "encode_patches", recorded)
    scoped.segment(image, LABELS, regions=regions)
    (within,) = seen
    assert within.shape == (4, 5, 5)  # four windows of five by five patches
    np.testing.assert_array_equal(within[:, 0, 0], [0, 7, 0, 7])
    assert (within[0] == 0).all() and (within[1] == 7).all()


def test_help_is_used_where_there_is_some_and_it_fits(plain: OpenVocabSegmenter) -> None:
    image = image_of(40, 48)
    scoped = with_config(plain, scope="masks")
    np.testing.assert_array_equal(scoped.segment(image, LABELS).logits, plain.segment(image, LABELS).logits)
    with pytest.raises(ValueError, match=r"regions are \(8, 8\), expected \(H, W\) = \(40, 48\)"):
        scoped.segment(image, LABELS, regions=np.zeros((8, 8), np.int32))
    apart = np.arange(40 * 48, dtype=np.int32).reshape(40, 48)
    for dense in ("clip", "maskclip"):  # no patch attends to another by their rules
        one, other = with_config(plain, scope="masks", dense=dense), with_config(plain, dense=dense)
        found = one.segment(image, LABELS, regions=apart).logits
        np.testing.assert_array_equal(found, other.segment(image, LABELS).logits)
