"""Command line of the trainers; see `python -m training --help`."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
from dataclasses import replace
from pathlib import Path

from toyworld.scene import TRAIN_SEEDS, VALIDATION_SEEDS
from training.data import scene_cache
from training.hardware import choose_hardware
from training.photos import large_squares, squares

CLIP_WEIGHTS, PHOTO_WEIGHTS = (Path(__file__).parents[1] / "ovseg/weights" / name for name in ("mini", "photo"))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train an embedded model on the toy world, or on your photographs."
    )
    parser.add_argument(
        "model",
        choices=("mini", "vae", "clip", "unet", "photo-clip", "tower", "scenes"),
        help="mini: vae, then unet, from nothing; unet needs a trained vae in the same --runs folder, photo-clip and "
        "tower a folder of --images; scenes draws the scenes alone",
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
    parser.add_argument("--batch", type=int, help="vae, unet, mini: images a step (default: more on a GPU)")
    parser.add_argument("--latent-channels", type=int, help="vae: how many (default: as in --start, or 4)")
    parser.add_argument(
        "--text",
        type=Path,
        help="unet and mini: an open_clip folder whose text tower embeds the captions (default: ovseg/weights/mini)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="a folder with captions.csv (path,tags,caption): for photo-clip, and beside scenes for mini, vae and unet",
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
    arguments = parser.parse_args()
    if arguments.start and not arguments.start.is_dir():
        parser.error(f"--start {arguments.start}: expected a folder of weights, such as emerdiff/weights/mini")
    if arguments.text and arguments.model not in ("unet", "mini"):
        parser.error("--text is for unet and mini: the text tower that embeds the captions")
    text = arguments.text or CLIP_WEIGHTS
    if arguments.model in ("unet", "mini") and not (text / "open_clip_config.json").is_file():
        parser.error(f"--text {text}: expected a folder with open_clip_config.json, such as ovseg/weights/mini")
    try:
        hardware = choose_hardware(arguments.device, arguments.dtype)
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    run, weights, cache = (arguments.runs / name for name in (arguments.model, "weights", "cache"))
    count = 12_000 if arguments.scenes is None else arguments.scenes
    if arguments.batch is not None and not (arguments.batch > 0 and arguments.model in ("vae", "unet", "mini")):
        parser.error(f"--batch {arguments.batch}: expected a number of images a step, for vae, unet or mini")
    if arguments.model == "scenes":
        os.nice(10)  # who draws scenes beside a training does not hold it up
        scene_cache(cache, TRAIN_SEEDS.start, count)
        return
    if arguments.start and arguments.model == "mini":
        parser.error("--start is not for mini, which begins from nothing")
    trainer = importlib.import_module(f"training.{arguments.model.replace('-', '_')}")
    if arguments.images and arguments.model == "clip":
        parser.error("--images is not for clip, which learns from scenes alone: vae, unet or photo-clip expected")
    of_towers = ("maps", "head_only", "views", "learning_rate")
    if arguments.model != "tower" and (given := [name for name in of_towers if getattr(arguments, name)]):
        parser.error(f"--{given[0].replace('_', '-')} is for tower")
    if (arguments.images or arguments.model in ("photo-clip", "tower")) and not (
        arguments.images and arguments.images.is_dir()
    ):
        parser.error(f"--images {arguments.images}: expected a folder with captions.csv")
    if arguments.decoder_only and not (arguments.model == "vae" and arguments.start):
        parser.error("--decoder-only is for vae with --start: it keeps the encoder of those weights")
    if arguments.latent_channels:
        if arguments.model != "vae":
            parser.error("--latent-channels is for vae; a unet has as many as its vae")
        if arguments.decoder_only:
            parser.error("--latent-channels changes the latents, which --decoder-only keeps")
    if arguments.model == "mini":
        minutes = trainer.MINUTES if arguments.minutes is None else arguments.minutes
        trainer.train(
            arguments.images,
            count,
            minutes,
            arguments.runs,
            text=text,
            resume=arguments.resume,
            batch=arguments.batch,
            hardware=hardware,
        )
        return
    minutes = trainer.SCHEDULE.minutes if arguments.minutes is None else arguments.minutes
    schedule = replace(trainer.SCHEDULE, minutes=minutes, restart=arguments.restart)
    if arguments.model == "photo-clip":
        trainer.train(
            arguments.images,
            schedule,
            run,
            weights,
            start=arguments.start or PHOTO_WEIGHTS,
            resume=arguments.resume,
            size=arguments.size or trainer.LARGEST,
            scenes=scene_cache(cache, TRAIN_SEEDS.start, arguments.scenes) if arguments.scenes else None,
            hardware=hardware,
        )
        return
    if arguments.model == "tower":
        try:
            tagged, mapped = map(int, (arguments.views or f"{trainer.TAGGED},{trainer.MAPPED}").split(","))
        except ValueError:
            parser.error(f"--views {arguments.views}: expected two numbers, as 96,32")
        schedule = replace(schedule, learning_rate=arguments.learning_rate or schedule.learning_rate)
        trainer.train(
            arguments.images,
            schedule,
            run,
            weights,
            start=arguments.start or PHOTO_WEIGHTS,
            resume=arguments.resume,
            maps=tuple(name for name in arguments.maps.split(",") if name),
            head_only=arguments.head_only,
            batch=(tagged, mapped),
            side=arguments.size or trainer.SIDE,
            scenes=scene_cache(cache, TRAIN_SEEDS.start, arguments.scenes) if arguments.scenes else None,
            hardware=hardware,
        )
        return
    train_scenes = scene_cache(cache, TRAIN_SEEDS.start, count)
    validation = scene_cache(cache, VALIDATION_SEEDS.start, 100)
    options = {"start": arguments.start, "resume": arguments.resume, "hardware": hardware}
    if arguments.model in ("vae", "unet"):
        options["batch"] = arguments.batch
    if arguments.images:
        options["photos"] = squares(cache / "squares-256", arguments.images, count)
    if arguments.model == "vae":
        options |= {"decoder_only": arguments.decoder_only, "latent_channels": arguments.latent_channels}
    if arguments.model == "unet":
        options["text"] = text
        if arguments.images:
            options["large"] = large_squares(cache, arguments.images, count)
    trainer.train(train_scenes, validation, schedule, run, weights, **options)


if __name__ == "__main__":
    main()
