"""The whole step: an image and labels in, a coarse map of exactly these labels out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_ovseg import tiny_backbone

import ovseg
from ovseg import Label, OpenVocabSegmenter, OvsegConfig, as_labels

LABELS = ["red ball", "grass", "sky", "Ärmel", "sea"]


@pytest.fixture(scope="module")
def segmenter() -> OpenVocabSegmenter:
    config = OvsegConfig(model="local-dir:tiny", image_size=40, templates="simple")
    return OpenVocabSegmenter(tiny_backbone(), config)


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blobs rather than noise, so that patches differ after the resizing."""
    blobs = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size_hw", [(40, 40), (1, 1), (1, 300), (61, 47), (200, 3), (33, 128)])
def test_shapes_dtypes_and_names_at_any_size(segmenter: OpenVocabSegmenter, size_hw: tuple[int, int]) -> None:
    coarse = segmenter.segment(image_of(*size_hw), LABELS)
    assert coarse.labels == as_labels(LABELS) and coarse.background == ()
    assert coarse.label_map.shape == size_hw and coarse.label_map.dtype == np.int32
    grid_hw = coarse.logits.shape[1:]
    assert min(grid_hw) == 5 and (size_hw[0] > size_hw[1]) == (grid_hw[0] > grid_hw[1])
    assert coarse.logits.shape == (5, *grid_hw) and coarse.logits.dtype == np.float32
    assert coarse.embeddings.shape == (12, *grid_hw) and coarse.text_embeddings.shape == (5, 12)
    np.testing.assert_allclose(np.linalg.norm(coarse.embeddings, axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(coarse.text_embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(coarse.scores.sum(axis=0), 1, atol=1e-5)


def test_logits_are_scaled_cosines_and_the_map_is_their_upsampled_argmax(
    segmenter: OpenVocabSegmenter,
) -> None:
    coarse = segmenter.segment(image_of(64, 96), LABELS)
    logits = torch.einsum("lc,chw->lhw", *map(torch.from_numpy, (coarse.text_embeddings, coarse.embeddings))) * 20
    np.testing.assert_allclose(coarse.logits, logits, atol=1e-4)
    planes = F.interpolate(torch.from_numpy(coarse.logits)[None], (64, 96), mode="bilinear")[0]
    first, second = planes.topk(2, dim=0).values
    sure = (first - second).numpy() > 1e-4  # elsewhere rounding decides
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(coarse.label_map[sure], planes.argmax(0).numpy()[sure])


def test_the_configs_logit_scale_takes_the_place_of_the_models(segmenter: OpenVocabSegmenter) -> None:
    config = OvsegConfig(model="local-dir:tiny", image_size=40, templates="simple", logit_scale=2.0)
    scaled = OpenVocabSegmenter(segmenter.backbone, config).segment(image_of(30, 30), LABELS)
    np.testing.assert_allclose(scaled.logits * 10, segmenter.segment(image_of(30, 30), LABELS).logits, atol=1e-4)


def test_a_permuted_list_permutes_the_result(segmenter: OpenVocabSegmenter) -> None:
    order = [3, 0, 4, 2, 1]
    straight = segmenter.segment(image_of(50, 70), LABELS)
    permuted = segmenter.segment(image_of(50, 70), [LABELS[i] for i in order])
    np.testing.assert_allclose(permuted.logits, straight.logits[order], atol=1e-4)
    names = np.array([str(label) for label in permuted.labels])[permuted.label_map]
    expected = np.array(LABELS)[straight.label_map]
    assert (names == expected).mean() > 0.999  # a pixel may lie on a border to the last bit
    assert len(set(expected.ravel())) > 1


def test_background_labels_compete_and_are_marked(segmenter: OpenVocabSegmenter) -> None:
    together = segmenter.segment(image_of(50, 70), LABELS)
    split = segmenter.segment(image_of(50, 70), LABELS[:3], background=LABELS[3:])
    assert split.labels == as_labels(LABELS) and split.background == as_labels(LABELS[3:])
    np.testing.assert_array_equal(split.label_map, together.label_map)


def test_text_encoded_once_gives_the_same_map(segmenter: OpenVocabSegmenter) -> None:
    text = segmenter.encode_labels(LABELS[:3], background=LABELS[3:])
    once = segmenter.segment(image_of(30, 44), LABELS[:3], background=LABELS[3:], text_embeddings=text)
    each = segmenter.segment(image_of(30, 44), LABELS[:3], background=LABELS[3:])
    np.testing.assert_array_equal(once.logits, each.logits)
    with pytest.raises(ValueError, match=r"text_embeddings is \(5, 12\), expected \(2, 12\)"):
        segmenter.segment(image_of(30, 44), LABELS[:2], text_embeddings=text)
    with pytest.raises(ValueError, match=r"text_embeddings is \(5, 11\), expected \(5, 12\)"):
        segmenter.segment(image_of(30, 44), LABELS, text_embeddings=text[:, :11])


@pytest.mark.parametrize(("tower", "what"), [("visual", "the image"), ("transformer", "text")])
def test_weights_that_are_no_numbers_are_said_and_give_no_result(tower: str, what: str) -> None:
    damaged = OpenVocabSegmenter(tiny_backbone(), OvsegConfig(model="local-dir:tiny", image_size=40))
    next(getattr(damaged.backbone.model, tower).parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match=f"embeddings of {what} are not finite: expected whole weights, or try dtype"):
        damaged.segment(image_of(30, 44), LABELS)


def test_synonyms_move_the_embedding_and_never_appear_as_labels(segmenter: OpenVocabSegmenter) -> None:
    with_synonym = segmenter.segment(image_of(30, 30), [Label("sea", ("ocean",)), "sky"])
    assert [str(label) for label in with_synonym.labels] == ["sea", "sky"]
    plain = segmenter.encode_labels(["sea", "ocean"])
    np.testing.assert_allclose(
        with_synonym.text_embeddings[0], plain.sum(axis=0) / np.linalg.norm(plain.sum(axis=0)), atol=1e-5
    )


def test_names_that_compete_are_labels_whose_best_counts(segmenter: OpenVocabSegmenter) -> None:
    config = replace(segmenter.config, synonyms="max")
    competing = OpenVocabSegmenter(segmenter.backbone, config)
    labels = [Label("sea", ("ocean", "water")), "sky", Label("ball", ("globe",))]
    merged = competing.segment(image_of(30, 44), labels)
    apart = segmenter.segment(image_of(30, 44), ["sea", "ocean", "water", "sky", "ball", "globe"])
    expected = [apart.logits[:3].max(0), apart.logits[3], apart.logits[4:].max(0)]
    np.testing.assert_allclose(merged.logits, expected, atol=1e-4)
    assert [str(label) for label in merged.labels] == ["sea", "sky", "ball"]
    np.testing.assert_allclose(
        merged.text_embeddings, segmenter.encode_labels(labels), atol=0.1
    )  # means of unit vectors and of those before
    text = competing.encode_labels(labels)
    assert text.shape == (6, 12)
    again = competing.segment(image_of(30, 44), labels, text_embeddings=text)
    np.testing.assert_array_equal(again.logits, merged.logits)
    with pytest.raises(ValueError, match=r"text_embeddings is \(3, 12\), expected \(6, 12\): a row per name"):
        competing.segment(image_of(30, 44), labels, text_embeddings=text[:3])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31))
def test_an_irrelevant_label_changes_no_ranking_of_the_others(segmenter: OpenVocabSegmenter, seed: int) -> None:
    image = image_of(20, 24, seed)
    fewer, more = segmenter.segment(image, LABELS), segmenter.segment(image, [*LABELS, "xylophone"])
    np.testing.assert_allclose(more.logits[:5], fewer.logits, atol=1e-4)
    first, second = np.sort(fewer.scores, axis=0)[-2:][::-1]
    sure = first - second > 1e-4  # elsewhere rounding decides
    np.testing.assert_array_equal(more.scores[:5].argmax(0)[sure], fewer.label_map[sure])


def test_a_thousand_labels_are_the_same_labels_in_batches(segmenter: OpenVocabSegmenter) -> None:
    names = [f"{kind} {number}" for number in range(200) for kind in LABELS]
    image = image_of(24, 40)
    whole = segmenter.segment(image, names)
    parts = [segmenter.segment(image, names[start : start + 250]) for start in range(0, 1000, 250)]
    np.testing.assert_allclose(whole.logits, np.concatenate([part.logits for part in parts]), atol=1e-4)
    assert whole.label_map.max() < 1000 and whole.labels == as_labels(names)


def test_pil_images_and_arrays_are_the_same(segmenter: OpenVocabSegmenter) -> None:
    rgb = image_of(35, 52)
    from_array, from_pil = segmenter.segment(rgb, LABELS), segmenter.segment(Image.fromarray(rgb), LABELS)
    np.testing.assert_array_equal(from_array.logits, from_pil.logits)


def test_the_variant_of_the_config_is_used(segmenter: OpenVocabSegmenter) -> None:
    config = OvsegConfig(model="local-dir:tiny", image_size=40, templates="simple", dense="clip")
    standard = OpenVocabSegmenter(segmenter.backbone, config).segment(image_of(40, 40), LABELS)
    assert np.abs(standard.embeddings - segmenter.segment(image_of(40, 40), LABELS).embeddings).max() > 0.05


def test_bad_images_and_labels_are_refused_before_any_work(segmenter: OpenVocabSegmenter) -> None:
    with pytest.raises(ValueError, match="image is NoneType"):
        segmenter.segment(None, LABELS)
    with pytest.raises(ValueError, match="more than once"):
        segmenter.segment(image_of(9, 9), ["cat", "CAT"])
    with pytest.raises(ValueError, match="no labels"):
        segmenter.segment(image_of(9, 9), [])


def test_a_preset_file_loads_with_overrides(tmp_path: Path) -> None:
    from tiny_ovseg import VIT_B16_SHAPED, save_local_dir

    save_local_dir(tmp_path / "model", VIT_B16_SHAPED)
    preset = tmp_path / "mine.yaml"
    preset.write_text(f"ovseg:\n  model: local-dir:{tmp_path / 'model'}\n  image_size: 224\n")
    loaded = OpenVocabSegmenter.from_preset(preset, device="cpu", image_size=64, dense="clip")
    assert (loaded.config.image_size, loaded.config.dense) == (64, "clip")
    assert loaded.segment(image_of(30, 20), ["cat", "dog"]).logits.shape == (2, 6, 4)
    preset.write_text("emerdiff: {}\n")
    with pytest.raises(ValueError, match="section ovseg is None, expected a mapping"):
        OpenVocabSegmenter.from_preset(preset)


def test_importing_the_package_is_light() -> None:
    code = "import sys, ovseg; print(sorted({'torch', 'numpy', 'open_clip', 'cv2', 'PIL'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_exist_and_others_do_not() -> None:
    assert all(getattr(ovseg, name).__name__ == name for name in ovseg.__all__)
    assert dir(ovseg) == ovseg.__all__
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ovseg.nonsense
