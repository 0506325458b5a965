"""The training loop that all three models share: a time budget, cosine schedule, EMA, checkpoints, a CSV log."""

from __future__ import annotations

import csv
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

from training.hardware import CPU, Hardware

Model = TypeVar("Model", bound=nn.Module)
Tensors = tuple[Tensor, ...] | list[Tensor]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    minutes: float  # time budget in all, resumed runs included; the learning rate falls to zero along it
    learning_rate: float  # peak
    weight_decay: float = 0.01
    warmup_steps: int = 100
    ema_decay: float = 0.999
    clip_norm: float = 1.0
    restart: bool = False  # a resumed run keeps its weights but begins the schedule and the average anew
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
) -> Model:
    """Train `model` in place for the schedule's minutes and return its exponential moving average.

    compute_losses(step): the losses of a step, scalars with gradient, which are summed. All its randomness must come
    from the step number, so that a resumed run sees the same data as an uninterrupted one.
    validate(averaged model): metrics to log. `folder` receives checkpoint.pt, log.csv and log.png.
    Both find the model on the device of `hardware`; the average that is returned is on the CPU. A run may be resumed on
    another device than the one it began on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log.info("%s on %s, autocast %s", folder.name, hardware.device, hardware.dtype)
    model.to(hardware.device)

    @torch.no_grad()
    def average(means: Tensors, current: Tensors, count: Tensor | int) -> None:
        """Exponential moving average whose memory grows with the run: the initial weights are soon forgotten."""
        decay = min(schedule.ema_decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(means, current, 1 - decay)

    averaged = AveragedModel(model, multi_avg_fn=average)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=(0.9, 0.98))
    checkpoint = folder / "checkpoint.pt"
    step, seconds = 0, 0.0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        log.info("resumed %s at step %d, minute %.1f", folder.name, step, seconds / 60)

    if schedule.restart:
        seconds = 0.0
        averaged.n_averaged.zero_()

    def record(losses: dict[str, float]) -> None:
        metrics = validate(cast(Model, averaged.module))
        state = {
            "model": model.state_dict(),
            "averaged": averaged.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save({**state, "step": step, "seconds": seconds}, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
        row = {"step": step, "minutes": round(seconds / 60, 2), **losses, **metrics}
        _append_csv(folder / "log.csv", {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
        plot_log(folder)
        log.info("%s %s", folder.name, "  ".join(f"{k} {v:.4g}" for k, v in row.items()))

    budget, since, last = schedule.minutes * 60, 0, seconds
    sums: dict[str, float] = {}
    while seconds < budget:
        began = time.perf_counter()
        rate = schedule.learning_rate * min(1.0, (step + 1) / schedule.warmup_steps) * _cosine(seconds / budget)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = compute_losses(step)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
        optimizer.step()
        averaged.update_parameters(model)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss.item()
        step, since = step + 1, since + 1
        seconds += time.perf_counter() - began
        if seconds - last >= schedule.validate_every or seconds >= budget:
            record({name: total / since for name, total in sums.items()})
            sums, since, last = {}, 0, seconds
    return cast(Model, averaged.module.cpu())


def _cosine(progress: float) -> float:
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _append_csv(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def plot_log(folder: Path) -> None:
    """Draw folder/log.csv as folder/log.png, a panel per column over the minutes; does nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "minutes")]
    figure = Figure(figsize=(12, 3 * -(-len(names) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(names) // 3), 3, squeeze=False).ravel()
    for name, panel in zip(names, panels, strict=False):
        panel.plot([float(row["minutes"]) for row in rows], [float(row[name]) for row in rows], marker=".")
        panel.set(title=name, xlabel="minutes")
        panel.grid(alpha=0.3)
    for panel in panels[len(names) :]:
        panel.remove()
    figure.savefig(folder / "log.png", dpi=80)


def generators(seed: int, step: int) -> tuple[int, torch.Generator]:
    """A seed for numpy and a torch.Generator that depend on (seed, step) alone."""
    mixed = seed * 1_000_003 + step
    return mixed, torch.Generator().manual_seed(mixed)
