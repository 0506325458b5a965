"""The embedded diffusion model from nothing, in one go and a given time: scenes → VAE → equal latents → UNet.

    python -m training mini --images FOLDER --scenes 40000 --minutes 7 --runs RUNS

Scenes are drawn by processes of their own while the VAE learns from those that are there already. RUNS/weights/sd is of
use as soon as the UNet has begun, and gets better at each validation.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from toyworld.scene import TRAIN_SEEDS, VALIDATION_SEEDS
from training import unet, vae
from training.data import SceneCache, drawn_scenes, scene_cache
from training.hardware import Hardware
from training.photos import large_squares, squares
from training.weights import write_model
from training.whiten import IMAGES, whiten

# By the clock where none is given: of a few processors.
MINUTES = 180.0
# Share of the time that is the VAE's, and seconds that are kept for the last validation.
VAE_SHARE, RESERVE = 0.2, 6.0
CHANNELS = 8
# Scenes that the VAE waits for, and those of the validation.
FIRST, VALIDATION = 3072, 100
# Validations of a model in its time.
VALIDATIONS = 6
# After the interpreter: what draws scenes.
COMMAND = ["-m", "training", "scenes"]
log = logging.getLogger(__name__)


def train(
    images: Path | None,
    scenes: int,
    minutes: float,
    runs: Path,
    *,
    text: Path,
    resume: bool,
    batch: int | None = None,
    hardware: Hardware,
) -> None:
    """Train a VAE, then a UNet on its latents, in so many minutes of the clock, all but a few seconds of them.

    images: a folder of photographs with captions.csv; scenes: how many to draw, as far as there is time while the VAE
    learns. With `resume` a run that was stopped goes on where it was, for `minutes` more. text, batch: as for the UNet.
    """
    end = time.perf_counter() + 60 * minutes - RESERVE
    begun = runs / "mini.json"  # the UNet has: the VAE is what it will be, and these are the scenes
    if not resume:
        begun.unlink(missing_ok=True)
    cache, sd = runs / "cache", runs / "weights" / "sd"
    with drawing(scenes, runs) if not begun.exists() else contextlib.nullcontext() as process:
        # Processes first, threads and the GPU afterwards.
        validation = scene_cache(cache, VALIDATION_SEEDS.start, VALIDATION)
        photos = squares(cache / "squares-256", images, scenes) if images else None
        large = large_squares(cache, images, scenes) if images else None
        if process:
            some = wait_for_scenes(cache, scenes, process)
            schedule = replace(vae.SCHEDULE, minutes=VAE_SHARE * minutes, validate_every=_interval(VAE_SHARE * minutes))
            vae.train(
                some,
                validation,
                schedule,
                runs / "vae",
                runs / "weights",
                photos=photos,
                start=None,
                latent_channels=CHANNELS,
                resume=resume,
                hardware=hardware,
            )
            seen = [some.images, *([photos.images] if photos else [])]
            _whiten(sd / "vae", np.concatenate([part[: IMAGES // len(seen)] for part in seen]))
            count = len(drawn_scenes(cache, TRAIN_SEEDS.start, scenes))
            begun.write_text(json.dumps({"scenes": count}))
    drawn = drawn_scenes(cache, TRAIN_SEEDS.start, scenes).first(json.loads(begun.read_text())["scenes"])
    log.info("the UNet learns from %d scenes and %d squares of photographs", len(drawn), len(photos) if photos else 0)
    unet.train(
        drawn,
        validation,
        replace(unet.SCHEDULE, end=end, validate_every=_interval((end - time.perf_counter()) / 60)),
        runs / "unet",
        runs / "weights",
        photos=photos,
        large=large,
        text=text,
        start=None,
        resume=resume,
        batch=batch,
        hardware=hardware,
    )


@contextlib.contextmanager
def drawing(scenes: int, runs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Draws scenes in other processes, until the context ends."""
    command = [sys.executable, *COMMAND, "--scenes", str(scenes), "--runs", str(runs)]
    # A session of its own: its end is that of its processes.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_for_scenes(cache: Path, scenes: int, process: subprocess.Popen[bytes]) -> SceneCache:
    """The scenes drawn by now, FIRST at least; RuntimeError if `process` has failed to draw them."""
    while len(drawn := drawn_scenes(cache, TRAIN_SEEDS.start, scenes)) < min(FIRST, scenes):
        if process.poll():
            raise RuntimeError(f"scenes in {cache}: {len(drawn)} drawn, then the drawing ended with {process.poll()}")
        time.sleep(0.2)
    return drawn


def _whiten(folder: Path, images: np.ndarray) -> None:
    model = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
    values = whiten(model, None, images)
    log.info("eigenvalues of the latents' covariance before: %s", ", ".join(f"{value:.2g}" for value in values))
    write_model(model, folder)


def _interval(minutes: float) -> float:
    """Seconds between validations."""
    return 60 * minutes / VALIDATIONS
