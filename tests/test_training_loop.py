"""The trainers' common parts: the loop goes on where it stopped, the tokenizer can say anything."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPTokenizer

from toyworld.captions import Caption, describe
from training import loop
from training.clip import Regions, name_regions, region_contrast
from training.data import HIDDEN, Crop
from training.hardware import CPU, Hardware
from training.loop import Schedule, fit
from training.tokenizer import CONTEXT_LENGTH, learn_tokenizer

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


def test_a_run_goes_on_without_the_kernel_of_the_device_that_it_began_on(tmp_path):
    line_fit(tmp_path, SHORT, resume=False)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    kernels = {group["fused"] for group in state["optimizer"]["param_groups"]}
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = True  # as on a GPU
    torch.save(state, tmp_path / "checkpoint.pt")
    _, averaged, steps = line_fit(tmp_path, replace(SHORT, minutes=0.06), resume=True)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert steps and kernels == {group["fused"] for group in state["optimizer"]["param_groups"]} == {None}
    assert abs(averaged.weight.item() - 3) < 0.1


def test_a_finished_run_does_nothing_more_when_resumed(tmp_path):
    model, _, _ = line_fit(tmp_path, SHORT, resume=False)
    again, _, steps = line_fit(tmp_path, SHORT, resume=True)
    assert steps == [] and torch.equal(again.weight, model.weight)


def test_a_working_copy_has_the_weights_after_each_step_and_the_model_its_precision(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    working = Hardware(torch.device("cpu"), torch.bfloat16).working_copy(model)
    saved = []

    def compute_losses(step):
        assert torch.equal(working.weight, model.weight.bfloat16()) and torch.equal(working.bias, model.bias.bfloat16())
        x = torch.randn(32, 1, generator=torch.Generator().manual_seed(step))
        return {"mse": (working(x.bfloat16()).float() - 3 * x).square().mean()}

    averaged = fit(
        *(model, compute_losses, lambda m: {}, SHORT, tmp_path),
        resume=False,
        working=working,
        save=lambda average: saved.append(average.weight.item()),
    )
    assert model.weight.dtype == averaged.weight.dtype == torch.float32
    assert abs(model.weight.item() - 3) < 0.05 and abs(averaged.weight.item() - 3) < 0.1
    assert len(saved) == 3 and saved[-1] == averaged.weight.item()
    assert CPU.working_copy(model) is model


def test_the_end_of_the_time_may_be_given_in_place_of_its_length(tmp_path):
    end = loop.time.perf_counter() + 1.0  # s: 100 steps
    schedule = replace(SHORT, end=end)
    _, _, steps = line_fit(tmp_path, schedule, resume=False)
    assert 90 < len(steps) <= 100


def test_losses_that_are_no_numbers_end_a_run_before_anything_is_written(tmp_path):
    model = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match=r"losses at step \d+ are {'mse': nan}"):
        fit(*(model, lambda _: {"mse": model.weight.sum() * float("nan")}, lambda m: {}, SHORT, tmp_path), resume=False)
    assert not list(tmp_path.iterdir())


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


def crop_of(regions: list[list[int]], names: list[str], kinds: list[str]) -> Crop:
    labels = np.array(regions, np.uint8)
    caption = Caption(names[0], frozenset(names[:1]))
    return Crop(np.zeros((*labels.shape, 3), np.uint8), caption, labels, names, kinds)


CROPS = (
    crop_of([[0, 0], [1, 1]], ["clear sky", "red ball"], ["sky", "ball"]),
    crop_of([[0, 0], [0, HIDDEN]], ["blue ball"], ["ball"]),
)


def test_regions_get_names_that_are_true_of_them_and_wrong_ones_that_are_of_none():
    wholes = 0
    for seed in range(20):
        regions = name_regions(CROPS, 2, np.random.default_rng(seed))
        assert regions.crops.tolist() == [0, 0, 1]
        assert regions.weights.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
        inside = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0]]).bool()
        assert not regions.weights[~inside].any()
        wholes += int((regions.weights > 0).equal(inside))
        assert regions.true[torch.arange(3), regions.named].all()
        expected = [{"clear sky", "sky"}, {"red ball", "ball", "red sphere", "sphere"}]
        for truth, texts in zip(regions.true, [*expected, {"blue ball", "ball", "blue sphere", "sphere"}], strict=True):
            said = {text for text, true in zip(regions.texts, truth, strict=True) if true}
            assert said == texts & set(regions.texts)
        assert len(regions.texts) > len(set(regions.named.tolist()))  # the wrong ones
    assert 0 < wholes < 20


def test_the_contrast_of_regions_falls_when_each_is_nearest_to_its_texts():
    texts = ("red ball", "ball", "blue ball")
    true = torch.tensor([[True, True, False], [False, True, False]])
    regions = Regions(torch.tensor([0, 1]), torch.ones(2, 1), texts, torch.tensor([0, 1]), true)
    right = torch.where(true, 20.0, -20.0)
    assert sum(region_contrast(right, regions)).item() == pytest.approx(0, abs=1e-6)
    no_negatives = region_contrast(torch.zeros(2, 3), regions)
    assert no_negatives[0].item() == pytest.approx((np.log(2) + np.log(3)) / 4)  # another true text is none
    assert no_negatives[1].item() == pytest.approx(np.log(2) / 4)
    assert sum(region_contrast(-right, regions)).item() > 10
