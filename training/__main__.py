"""Command line of the trainers; see `python -m training --help`."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from toyworld.scene import TRAIN_SEEDS, VALIDATION_SEEDS
from training.data import SceneCache, scene_cache
from training.hardware import Hardware, choose_hardware
from training.loop import Schedule
from training.photos import large_squares, squares

CLIP_WEIGHTS, PHOTO_WEIGHTS = (Path(__file__).parents[1] / "ovseg/weights" / name for name in ("mini", "photo"))
SCENES = 12_000  # to learn from, unless --scenes says it


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    try:
        check(arguments)
        hardware = choose_hardware(arguments.device, arguments.dtype)
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if arguments.model == "scenes":
        os.nice(10)  # who draws scenes beside a training does not hold it up
        _scenes(arguments)
        return
    trainer = importlib.import_module(f"training.{arguments.model.replace('-', '_')}")
    if arguments.model == "mini":
        _train_mini(trainer, arguments, hardware)
        return
    minutes = trainer.SCHEDULE.minutes if arguments.minutes is None else arguments.minutes
    schedule = replace(trainer.SCHEDULE, minutes=minutes, restart=arguments.restart)
    of_images = arguments.model in ("photo-clip", "tower")
    (_train_on_images if of_images else _train_on_scenes)(trainer, arguments, schedule, hardware)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train an embedded model on the toy world, or on your photographs."
    )
    parser.add_argument(
        "model",
        choices=("mini", "vae", "clip", "unet", "dit", "photo-clip", "tower", "scenes"),
        help="mini: vae, then unet, from nothing; unet and dit need a trained vae in the same --runs folder or in "
        "--start, photo-clip and tower a folder of --images; scenes draws the scenes alone",
    )
    parser.add_argument(
        "--minutes", type=float, help="training time in all, resumed runs included (default: the model's own)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of --runs")
    parser.add_argument(
        "--restart", action="store_true", help="with --resume: keep the weights and begin the schedule anew"
    )
    parser.add_argument("--start", type=Path, help="begin from the weights of a folder, such as emerdiff/weights/mini")
    parser.add_argument(
        "--scenes",
        type=int,
        help="training scenes to draw, 260 kB each on disk (default: 12000; photo-clip and tower: 0)",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where scenes, checkpoints, logs and weights go"
    )
    parser.add_argument(
        "--decoder-only",
        action="store_true",
        help="vae: keep the encoder as it is, for a UNet that was trained on its latents",
    )
    parser.add_argument("--batch", type=int, help="vae, unet, dit, mini: images a step (default: more on a GPU)")
    parser.add_argument("--latent-channels", type=int, help="vae: how many (default: as in --start, or 4)")
    parser.add_argument(
        "--text",
        type=Path,
        help="unet and mini: an open_clip folder whose text tower embeds the captions; dit takes its tokenizer alone "
        "(default: ovseg/weights/mini)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="a folder with captions.csv (path,tags,caption): for photo-clip, and beside scenes for mini, vae, unet "
        "and dit",
    )
    parser.add_argument(
        "--maps", default="", help="tower: sources of --images whose label maps teach, too, as NAME,NAME: composites"
    )
    parser.add_argument(
        "--views", help="tower: how many a step, of tagged images and of images with label maps (default: 96,32)"
    )
    parser.add_argument("--learning-rate", type=float, help="tower: at its highest (default: 3e-4)")
    parser.add_argument("--head-only", action="store_true", help="tower: the trunk stays as it is")
    parser.add_argument(
        "--size",
        type=int,
        help="photo-clip: px of the images' shorter side, at most (default: 448); tower: px of a view (default: 352)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps; a run may be resumed on another one")
    parser.add_argument(
        "--dtype", default="auto", help="auto, float32, bfloat16: of autocast (auto: bfloat16 where it is fast)"
    )
    return parser


def check(arguments: argparse.Namespace) -> None:
    """ValueError for options that mean nothing to the model, and folders that are not what they should be."""
    model, start, images, batch = (getattr(arguments, name) for name in ("model", "start", "images", "batch"))
    if start and not start.is_dir():
        raise ValueError(f"--start {start}: expected a folder of weights, such as emerdiff/weights/mini")
    if start and model == "mini":
        raise ValueError("--start is not for mini, which begins from nothing")
    if arguments.text and model not in ("unet", "dit", "mini"):
        raise ValueError("--text is for unet, dit and mini: the text tower that embeds the captions")
    text = arguments.text or CLIP_WEIGHTS
    if model in ("unet", "dit", "mini") and not (text / "open_clip_config.json").is_file():
        raise ValueError(f"--text {text}: expected a folder with open_clip_config.json, such as ovseg/weights/mini")
    if batch is not None and not (batch > 0 and model in ("vae", "unet", "dit", "mini")):
        raise ValueError(f"--batch {batch}: expected a number of images a step, for vae, unet, dit or mini")
    if images and model == "clip":
        raise ValueError("--images is not for clip, which learns from scenes alone: vae, unet or photo-clip expected")
    if (images or model in ("photo-clip", "tower")) and not (images and images.is_dir()):
        raise ValueError(f"--images {images}: expected a folder with captions.csv")
    for name in ("maps", "head_only", "views", "learning_rate"):
        if model != "tower" and getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} is for tower")
    if arguments.views and not re.fullmatch(r"\d+,\d+", arguments.views):
        raise ValueError(f"--views {arguments.views}: expected two numbers, as 96,32")
    if arguments.decoder_only and not (model == "vae" and start):
        raise ValueError("--decoder-only is for vae with --start: it keeps the encoder of those weights")
    if arguments.latent_channels and model != "vae":
        raise ValueError("--latent-channels is for vae; a unet has as many as its vae")
    if arguments.latent_channels and arguments.decoder_only:
        raise ValueError("--latent-channels changes the latents, which --decoder-only keeps")


def _train_mini(trainer: Any, arguments: argparse.Namespace, hardware: Hardware) -> None:
    trainer.train(
        arguments.images,
        SCENES if arguments.scenes is None else arguments.scenes,
        trainer.MINUTES if arguments.minutes is None else arguments.minutes,
        arguments.runs,
        text=arguments.text or CLIP_WEIGHTS,
        resume=arguments.resume,
        batch=arguments.batch,
        hardware=hardware,
    )


def _train_on_images(trainer: Any, arguments: argparse.Namespace, schedule: Schedule, hardware: Hardware) -> None:
    """Train photo-clip or tower."""
    if arguments.model == "photo-clip":
        options: dict[str, Any] = {"size": arguments.size or trainer.LARGEST}
    else:
        schedule = replace(schedule, learning_rate=arguments.learning_rate or schedule.learning_rate)
        options = {
            "maps": tuple(name for name in arguments.maps.split(",") if name),
            "head_only": arguments.head_only,
            "side": arguments.size or trainer.SIDE,
        }
        if arguments.views:
            options["batch"] = tuple(map(int, arguments.views.split(",")))
    trainer.train(
        arguments.images,
        schedule,
        arguments.runs / arguments.model,
        arguments.runs / "weights",
        start=arguments.start or PHOTO_WEIGHTS,
        resume=arguments.resume,
        scenes=_scenes(arguments) if arguments.scenes else None,
        hardware=hardware,
        **options,
    )


def _train_on_scenes(trainer: Any, arguments: argparse.Namespace, schedule: Schedule, hardware: Hardware) -> None:
    """Train vae, clip, unet or dit."""
    cache, count = arguments.runs / "cache", SCENES if arguments.scenes is None else arguments.scenes
    train_scenes = _scenes(arguments)
    options = {"start": arguments.start, "resume": arguments.resume, "hardware": hardware}
    if arguments.model in ("vae", "unet", "dit"):
        options["batch"] = arguments.batch
    if arguments.images:
        options["photos"] = squares(cache / "squares-256", arguments.images, count)
    if arguments.model == "vae":
        options |= {"decoder_only": arguments.decoder_only, "latent_channels": arguments.latent_channels}
    if arguments.model in ("unet", "dit"):
        options["text"] = arguments.text or CLIP_WEIGHTS
        if arguments.images:
            options["large"] = large_squares(cache, arguments.images, count)
    validation = scene_cache(cache, VALIDATION_SEEDS.start, 100)
    run = arguments.runs / arguments.model
    trainer.train(train_scenes, validation, schedule, run, arguments.runs / "weights", **options)


def _scenes(arguments: argparse.Namespace) -> SceneCache:
    count = SCENES if arguments.scenes is None else arguments.scenes
    return scene_cache(arguments.runs / "cache", TRAIN_SEEDS.start, count)


if __name__ == "__main__":
    main()
