"""The whole image tower of the photographic dual encoder, trained on at a finer stride: images and tags → its weights.

Where `photo_clip` trains the head on feature maps that are computed once, this trains every layer, on a GPU if there is
one; the text tower stays as it is. Three teachers, as there:

- tags: those of an image compete for its places with labels that the image does not show (`tower_losses`);
- composites and drawn scenes, whose label maps are known since they were made: each place learns its label;
- distillation: the likeliest of a thousand classes at each place, by the tower's own classifier or by the tower before
  training, so that labels that are no image's tag still find their places.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data import SceneCache
from training.hardware import CPU, Hardware
from training.loop import Schedule, fit, generators
from training.tower_folder import prepare
from training.tower_lessons import moved
from training.tower_model import Teacher, Tower, average, fold, load_tower, put_together, save, save_overlay
from training.tower_teaching import Eyes, MapLesson, TagLesson

SCHEDULE = Schedule(minutes=60, learning_rate=3e-4, weight_decay=0.02, warmup_steps=200, ema_decay=0.998)
SIDE = 352  # px of the square views
# Views a step: of tagged images, and of images with label maps.
TAGGED, MAPPED = 96, 32


def train(
    images: Path,
    schedule: Schedule,
    run: Path,
    weights: Path,
    *,
    start: Path,
    resume: bool,
    maps: Sequence[str] = (),
    scenes: SceneCache | None = None,
    hardware: Hardware = CPU,
    batch: tuple[int, int] = (TAGGED, MAPPED),
    side: int = SIDE,
    head_only: bool = False,
) -> None:
    """Train on the folder `images` (see training.photos) from the open_clip local-dir `start`; writes weights/tower.

    `maps`: sources whose label maps teach (see tower_folder.prepare); `scenes`: of the toy world, to learn from as
    well; `batch`: views a step, of tagged images and of images with label maps; `side`: px of a view;
    `head_only`: the trunk stays as it is, where images are few or drawn and would spoil it. The tower's average is
    written at every validation, so that a run may end at any time.
    """
    words, tagged, mapped = prepare(images, maps, run, start, scenes)
    words = moved(words, hardware.device)
    tower = load_tower(start).to(memory_format=torch.channels_last).to(hardware.device)
    eyes = Eyes(start, side, hardware)
    lessons: list[TagLesson | MapLesson] = []
    teacher = Teacher(tower, start, words.names)
    if head_only:
        tower.freeze_trunk()
    if tagged and batch[0]:
        lessons.append(TagLesson(moved(tagged, hardware.device), words, eyes, teacher, batch[0]))
    if mapped and batch[1]:
        lessons.append(MapLesson(moved(mapped, hardware.device), words, eyes, teacher, batch[1]))
    if not lessons:
        raise ValueError(f"{images} teaches nothing: expected tags in captions.csv, label maps or scenes")

    def compute_losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(generators(7, step)[0])
        return {name: loss for lesson in lessons for name, loss in lesson.learn(tower, rng, step).items()}

    @torch.inference_mode()
    def validate(averaged: Tower) -> dict[str, float]:
        return {name: value for lesson in lessons for name, value in lesson.check(averaged).items()}

    def keep(averaged: Tower) -> None:
        save(averaged, start, weights / "tower")

    fit(tower, compute_losses, validate, schedule, run, resume=resume, hardware=hardware, save=keep)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.tower", description="What becomes of trained towers.")
    commands = parser.add_subparsers(dest="command", required=True)
    together = commands.add_parser("together", help=put_together.__doc__)
    for name in ("tower", "start", "output"):
        together.add_argument(name, type=Path)
    overlay = commands.add_parser("overlay", help=save_overlay.__doc__)
    for name in ("model", "base", "file"):
        overlay.add_argument(name, type=Path)
    folded = commands.add_parser("fold", help=fold.__doc__)
    for name in ("base", "file", "output"):
        folded.add_argument(name, type=Path)
    between = commands.add_parser("average", help=average.__doc__)
    for name in ("first", "second"):
        between.add_argument(name, type=Path)
    between.add_argument("share", type=float, help="0: the first, 1: the second")
    between.add_argument("output", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "together":
        put_together(arguments.tower, arguments.start, arguments.output)
    elif arguments.command == "average":
        average(arguments.first, arguments.second, arguments.share, arguments.output)
    elif arguments.command == "fold":
        fold(arguments.base, arguments.file, arguments.output)
    else:
        save_overlay(arguments.model, arguments.base, arguments.file)


if __name__ == "__main__":
    main()
