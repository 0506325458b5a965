"""The trainers' common parts: the loop goes on where it stopped, the tokenizer can say anything."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPTokenizer

from toyworld.captions import describe
from toyworld.train import loop
from toyworld.train.clip import claims
from toyworld.train.loop import Schedule, fit
from toyworld.train.tokenizer import CONTEXT_LENGTH, learn_tokenizer
from toyworld.vocabulary import KINDS

SHORT = Schedule(minutes=0.05, learning_rate=0.05, warmup_steps=5, validate_every=1.0)  # 300 steps of the clock below


@pytest.fixture(autouse=True)
def steady_clock(monkeypatch):
    """Every step takes 0.01 s."""
    monkeypatch.setattr(loop.time, "perf_counter", itertools.count(0.0, 0.01).__next__)


def line_fit(folder, schedule, resume):
    """Learn y = 3 x; returns the model, its average, and the steps whose data was asked for."""
    torch.manual_seed(0)
    model, steps = nn.Linear(1, 1), []

    def compute_losses(step):
        steps.append(step)
        x = torch.randn(32, 1, generator=torch.Generator().manual_seed(step))
        return {"mse": (model(x) - 3 * x).square().mean()}

    averaged = fit(model, compute_losses, lambda m: {"weight": m.weight.item()}, schedule, folder, resume=resume)
    return model, averaged, steps


def test_the_loop_learns_and_its_average_follows(tmp_path):
    model, averaged, _ = line_fit(tmp_path, SHORT, resume=False)
    assert abs(model.weight.item() - 3) < 0.05
    assert abs(averaged.weight.item() - 3) < 0.1


def test_a_resumed_run_goes_on_at_the_next_step(tmp_path):
    _, _, first = line_fit(tmp_path, SHORT, resume=False)
    longer = Schedule(minutes=0.1, learning_rate=0.05, warmup_steps=5, validate_every=1.0)
    resumed_model, _, second = line_fit(tmp_path, longer, resume=True)
    assert first[0] == 0 and second[0] == first[-1] + 1
    assert abs(resumed_model.weight.item() - 3) < 0.05
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == sorted({int(row["step"]) for row in rows})
    assert int(rows[-1]["step"]) == second[-1] + 1


def test_a_finished_run_does_nothing_more_when_resumed(tmp_path):
    model, _, _ = line_fit(tmp_path, SHORT, resume=False)
    again, _, steps = line_fit(tmp_path, SHORT, resume=True)
    assert steps == [] and torch.equal(again.weight, model.weight)


def test_the_tokenizer_says_anything_and_ends_in_its_highest_id(tmp_path):
    rng = np.random.default_rng(0)
    corpus = [
        describe(("clear sky", "grass", "red striped boat"), ("sky", "grass", "boat"), rng).text for _ in range(50)
    ]
    size = learn_tokenizer(corpus, tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length == CONTEXT_LENGTH
    for text in ("a red striped boat", "Übergrößenträger 🎈", ""):
        ids = tokenizer(text).input_ids
        assert ids[-1] == size - 1 == max(ids) and ids[0] == size - 2
    assert (
        tokenizer.decode(tokenizer("a red striped boat").input_ids, skip_special_tokens=True).strip()
        == "a red striped boat"
    )


def test_every_kind_of_a_picture_must_win_some_of_its_patches():
    shown = [frozenset({"red ball", "ball", "clear sky", "sky"})]
    ball, sky = KINDS.index("ball"), KINDS.index("sky")

    def lack(balls: int) -> float:
        probabilities = torch.full((1, 16, len(KINDS)), 1e-4)
        probabilities[0, :balls, ball] = probabilities[0, balls:, sky] = 0.99
        return claims(probabilities, shown).item()

    assert lack(3) == pytest.approx(lack(8)) == pytest.approx(-np.log(0.99), rel=1e-3)
    assert lack(0) > 4 and lack(1) > 0.3 > lack(2)
    assert lack(16) > 4
