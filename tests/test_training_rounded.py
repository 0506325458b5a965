"""Rounded text towers: float8 within its law, all else untouched, and any reader loads them."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_ovseg import save_with_bert
from torch import Tensor

from ovseg import OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import load_backbone
from ovseg.fetch import WEIGHTS_FILE
from training import rounded
from training.tower_model import save_overlay

VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64}
WORDS = "text.transformer.embeddings.word_embeddings.weight"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A local-dir whose text tower is a tiny BERT, with matrices that count as large."""
    monkeypatch.setattr(rounded, "SMALLEST", 11 * 16)  # the embeddings of its words, and every layer
    save_with_bert(tmp_path / "model", VISION)
    return tmp_path / "model"


def test_numbers_keep_four_bits_and_small_ones_a_fixed_step() -> None:
    weights = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) * 0.05
    weights[0, :3] = torch.tensor([0.0, 448.0, -448.0])
    own = {"text.transformer.w": weights, "text.transformer.bias": weights[0], "visual.w": weights}
    made = rounded.rounded(own, {})
    assert made["visual.w"] is weights and made["text.transformer.bias"] is own["text.transformer.bias"]
    found = made["text.transformer.w"].float()
    assert ((found - weights).abs() <= torch.maximum(weights.abs() / 16, torch.tensor(2.0**-10))).all()
    assert made["text.transformer.w"].element_size() == 1
    assert torch.equal(rounded.rounded(made, {})["text.transformer.w"].float(), found)  # and twice is once


def test_inputs_that_are_alike_lose_less_and_equal_ones_next_to_nothing() -> None:
    """Where all inputs are one number in all places, what one column is off another can give back."""
    noise = torch.Generator().manual_seed(0)
    weights = torch.randn(8, 32, generator=noise, dtype=torch.float64)
    apart = torch.randn(500, 32, generator=noise, dtype=torch.float64)
    alike = apart[:, :4] @ torch.randn(4, 32, generator=noise, dtype=torch.float64)

    def error(made: Tensor, inputs: Tensor) -> float:
        return float((inputs @ (made.double() - weights).T).square().mean())

    plain = rounded.nearest(weights)
    for inputs, share in ((apart, 1.0), (alike, 0.3)):
        assert error(rounded.compensated(weights, inputs.T @ inputs), inputs) < share * error(plain, inputs)
    # Inputs of equal strength that have nothing to do with each other: each number is rounded by itself.
    assert torch.equal(rounded.compensated(weights, torch.eye(32)).float(), plain.float())


def test_moments_are_those_of_all_tokens_and_nothing_stays_on_the_model(folder) -> None:
    backbone = load_backbone(OvsegConfig(model=f"local-dir:{folder}"), device="cpu", dtype="float32")
    layer = backbone.model.text.transformer.encoder.layer[0]
    seen = []
    with layer.intermediate.dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0])):
        for text in ("cat", "a photo of grass"):  # one by one, without padding
            backbone.encode_text([text])
    found = rounded.input_moments(backbone, ["cat", "a photo of grass"])
    assert [len(rows) for rows in seen] == [3, 6]
    rows = torch.cat(seen).double()
    torch.testing.assert_close(found["text.transformer.encoder.layer.0.intermediate.dense.weight"], rows.T @ rows)
    assert len(found) == 6 and not layer.intermediate.dense._forward_pre_hooks


@pytest.mark.parametrize("bad", [449.0, float("nan")])
def test_what_float8_cannot_hold_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^text.transformer.w has numbers beyond 448"):
        rounded.rounded({"text.transformer.w": torch.full((256, 256), bad)}, {})
    with pytest.raises(ValueError, match="expected a text tower of Hugging Face"):
        rounded.rounded({"visual.w": torch.ones(256, 256)}, {})


def test_a_rounded_folder_is_a_model_as_any(folder, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(rounded, "class_names", lambda: ["cat", "grass", "sky"])
    monkeypatch.setattr(sys, "argv", ["rounded", str(folder), str(tmp_path / "small")])
    rounded.main()
    assert re.search(
        r"small: \d+\.\d MB, deflated \d+\.\d MB\nDifference\(texts=3, mean_cosine=", capsys.readouterr().out
    )
    before, after = (load_file(path / WEIGHTS_FILE) for path in (folder, tmp_path / "small"))
    assert before.keys() == after.keys() and after[WORDS].dtype == torch.float8_e4m3fn
    kept = [name for name in before if after[name].dtype == before[name].dtype]
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert {name.partition(".")[0] for name in before if name not in kept} == {"text"}
    for path in (folder, tmp_path / "small"):
        segmenter = OpenVocabSegmenter.from_preset("mini", model=f"local-dir:{path}", output_stride=None, device="cpu")
        assert next(segmenter.backbone.model.parameters()).dtype in (torch.float32, torch.bfloat16)
    difference = rounded.compared(folder, tmp_path / "small", ["cat", "grass"])
    assert 0.99 < difference.least_cosine <= difference.mean_cosine < 1
    assert rounded.compared(folder, folder, ["cat", "grass"]).largest_change == 0
    # An overlay of a rounded model is what differs from it, as numbers.
    state = load_file(tmp_path / "small" / WEIGHTS_FILE)
    (tmp_path / "other").mkdir()
    save_file({**state, "logit_scale": state["logit_scale"] + 1}, tmp_path / "other" / WEIGHTS_FILE)
    save_overlay(tmp_path / "other", tmp_path / "small", tmp_path / "overlay.safetensors")
    assert list(load_file(tmp_path / "overlay.safetensors")) == ["logit_scale"]


def test_nothing_half_made_is_left(folder, tmp_path, monkeypatch, capsys) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    save_file({**state, WORDS: state[WORDS] + 500}, folder / WEIGHTS_FILE)
    monkeypatch.setattr(sys, "argv", ["rounded", str(folder), str(tmp_path / "small")])
    with pytest.raises(SystemExit):
        rounded.main()
    assert "numbers beyond 448" in capsys.readouterr().err and not (tmp_path / "small").exists()
    monkeypatch.setattr(sys, "argv", ["rounded", str(folder), str(tmp_path)])
    with pytest.raises(SystemExit):
        rounded.main()
    assert "is there already" in capsys.readouterr().err


def test_differences_are_those_of_the_embeddings(folder, tmp_path) -> None:
    rounded.round_folder(folder, tmp_path / "small", ["cat", "grass"])
    old, new = (rounded.embedded(path, ["cat", "sky"]) for path in (folder, tmp_path / "small"))
    np.testing.assert_allclose(np.linalg.norm(old, axis=1), 1, rtol=1e-6)
    difference = rounded.compared(folder, tmp_path / "small", ["cat", "sky"])
    assert difference.texts == 2
    assert difference.least_cosine == pytest.approx(min(old[0] @ new[0], old[1] @ new[1]), rel=1e-6)
    assert difference.largest_change == pytest.approx(
        max(abs(new[0] @ new[1] - old[0] @ old[1]), *(abs(new[i] @ new[i] - old[i] @ old[i]) for i in (0, 1))), abs=1e-7
    )
