"""The training loop that all three models share: a time budget, cosine schedule, EMA, checkpoints, a CSV log."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training.curves import append_csv, plot_log
from training.hardware import CPU, Hardware

Model = TypeVar("Model", bound=nn.Module)
Tensors = tuple[Tensor, ...] | list[Tensor]
# Seconds between validations from which on curves are drawn at each, not at the end alone.
RARELY = 60.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    minutes: float  # time in all, validation and resumed runs included; the learning rate falls to zero along it
    learning_rate: float  # peak
    weight_decay: float = 0.01
    warmup_steps: int = 100
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    restart: bool = False  # a resumed run keeps its weights but begins the schedule and the average anew
    end: float | None = None  # of time.perf_counter(): the time is over then, in place of `minutes`
    validate_every: float = 240.0  # seconds; a checkpoint is written at the same moments


def fit(
    model: Model,
    compute_losses: Callable[[int], dict[str, Tensor]],
    validate: Callable[[Model], dict[str, float]],
    schedule: Schedule,
    folder: Path,
    *,
    resume: bool,
    hardware: Hardware = CPU,
    working: nn.Module | None = None,
    save: Callable[[Model], None] | None = None,
) -> Model:
    """Train `model` in place for the schedule's minutes and return its exponential moving average.

    compute_losses(step): the losses of a step, scalars with gradient, which are summed. All its randomness must come
    from the step number, so that a resumed run sees the same data as an uninterrupted one. It should not ask the device
    for values, as `.item()` does: nothing here does but at validations, so that a GPU never waits for the processor.
    validate(averaged model): metrics to log. `folder` receives checkpoint.pt, log.csv and log.png.
    Both find the model on the device of `hardware`; the average that is returned is on the CPU. A run may be resumed on
    another device than the one it began on.
    working: where compute_losses uses a copy of the model in another dtype, that copy (`Hardware.working_copy`): it
    gets the weights after each step, and the model its gradients.
    save(averaged model): called after each validation, so that weights of a run that is killed are there.
    RuntimeError, before anything is written, when a loss is not a number at a validation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.info("%s on %s, %s", folder.name, hardware.device, hardware.dtype)
    model.to(hardware.device)

    # Its own update_parameters asks the device for the count at each step.
    averaged = AveragedModel(model)
    means, weights = (list[Tensor](of.parameters()) for of in (averaged.module, model))

    @torch.no_grad()
    def average() -> None:
        """Exponential moving average whose memory grows with the run: the initial weights are soon forgotten."""
        count = int(averaged.n_averaged)  # of the CPU
        decay = min(schedule.ema_decay, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(means, weights, 1 - decay)
        for kept, buffer in zip(averaged.module.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
        averaged.n_averaged += 1

    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # One kernel for all weights; on other devices than these PyTorch's own choice.
    fused = True if hardware.is_gpu else None
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98), fused=fused)
    checkpoint = folder / "checkpoint.pt"
    step, seconds = 0, 0.0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        for group in state["optimizer"]["param_groups"]:
            group["fused"] = fused  # of this device, not of the one that the run began on
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        log.info("resumed %s at step %d, minute %.1f", folder.name, step, seconds / 60)

    if schedule.restart:
        seconds = 0.0
        averaged.n_averaged.zero_()
    used, copies = (list[Tensor](p for p in of.parameters() if p.requires_grad) for of in (model, working or model))
    copied = working is not None and working is not model

    @torch.no_grad()
    def hand_over(receivers: Tensors, givers: Tensors) -> None:
        if copied:
            torch._foreach_copy_(receivers, givers)

    if copied:
        for parameter in used:
            parameter.grad = torch.zeros_like(parameter)
    hand_over(copies, used)

    def learn(losses: dict[str, Tensor]) -> None:
        """A step of the optimizer along the gradient of all losses."""
        for parameter in copies:
            parameter.grad = None
        torch.stack(list(losses.values())).sum().backward()
        hand_over(*zip(*((p.grad, q.grad) for p, q in zip(used, copies, strict=True)), strict=True))
        nn.utils.clip_grad_norm_(used, schedule.clip_norm)
        optimizer.step()
        hand_over(copies, used)
        average()

    def record(losses: dict[str, float]) -> None:
        torch.backends.cudnn.benchmark = False  # what is validated comes in other sizes
        if not all(map(math.isfinite, losses.values())):
            raise RuntimeError(f"{folder.name}: losses at step {step} are {losses}; the last checkpoint is as it was")
        metrics = validate(cast(Model, averaged.module))
        state = {
            "model": model.state_dict(),
            "averaged": averaged.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save({**state, "step": step, "seconds": seconds}, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
        row = {"step": step, "minutes": round(seconds / 60, 2), **losses, **metrics}
        append_csv(folder / "log.csv", {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
        if save:
            save(cast(Model, averaged.module))
        if seconds >= budget or schedule.validate_every >= RARELY:
            plot_log(folder)
        log.info("%s %s", folder.name, "  ".join(f"{k} {v:.4g}" for k, v in row.items()))

    began = time.perf_counter() - seconds
    budget, since, last = 60 * schedule.minutes if schedule.end is None else schedule.end - began, 0, seconds
    sums: dict[str, Tensor] = {}
    while seconds < budget:
        rate = schedule.learning_rate * min(1.0, (step + 1) / schedule.warmup_steps) * _cosine(seconds / budget)
        for group in optimizer.param_groups:
            group["lr"] = rate
        # Worth its trials where batches come in few sizes, as those of the trainers with working copies do.
        torch.backends.cudnn.benchmark = working is not None
        losses = compute_losses(step)
        learn(losses)
        for name, loss in losses.items():
            sums[name] = loss.detach() + sums.get(name, 0.0)
        step, since = step + 1, since + 1
        seconds = time.perf_counter() - began
        if seconds - last >= schedule.validate_every or seconds >= budget:
            record({name: total.item() / since for name, total in sums.items()})
            sums, since, last = {}, 0, seconds
    return cast(Model, averaged.module.cpu())


def _cosine(progress: float) -> float:
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def generators(seed: int, step: int, device: torch.device | None = None) -> tuple[int, torch.Generator]:
    """A seed for numpy and a torch.Generator of a device (the CPU) that depend on (seed, step) alone."""
    mixed = seed * 1_000_003 + step
    return mixed, torch.Generator(device or "cpu").manual_seed(mixed)
