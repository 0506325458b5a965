"""Cut-outs put into scenes: images whose every pixel is named, since it was put there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.free.cutouts import Cutout
from training.free.scenes import Scene
from training.free.textures import Rng

# Things of less height stand on tables: they are shown at any size.
LOWEST_CM = 35.0
# Heights in px of things on the ground, and of those shown at any size, as shares of the image's height.
ON_GROUND, ANYWHERE = (0.18, 1.1), (0.25, 0.8)
# Share of the image below which a thing is not named.
MIN_SHARE = 0.005


@dataclass(frozen=True, eq=False)
class Composite:
    """An image and the truth about it."""

    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) int32: indices of `names`
    names: list[str]  # an empty one is unknown
    tags: list[str]  # what covers at least MIN_SHARE of the image, the largest first, and what the scene has beside


Load = Callable[[Cutout], np.ndarray]


def loader(folder: Path) -> Load:
    """Reads cut-outs of `folder` as (H, W, 4) uint8."""
    return lambda cutout: np.asarray(Image.open(folder / cutout.path).convert("RGBA"))


def compose(rng: Rng, scene: Scene, things: Sequence[Cutout], load: Load) -> Composite:
    """Puts `things` into `scene`, the farthest first, and takes the photograph."""
    light = rng.uniform(0.88, 1.12, 3)
    placed = [_place(rng, scene, thing, load(thing)) for thing in things]
    for thing, (image, top, left) in sorted(zip(things, placed, strict=True), key=lambda pair: _foot(pair[1])):
        if thing.place == "ground":
            _shadow(rng, scene, top + image.shape[0], left, image.shape[1])
        paste(scene, thing.label, _lit(rng, image, light), top, left)
    areas = np.bincount(scene.labels.ravel(), minlength=len(scene.names))
    order = np.argsort(-areas, kind="stable")
    tags = [scene.names[i] for i in order if scene.names[i] and areas[i] >= MIN_SHARE * scene.labels.size]
    tags = list(dict.fromkeys([*tags, *scene.tags]))
    return Composite(_photographed(rng, scene.image), scene.labels, scene.names, tags)


def paste(scene: Scene, label: str, cutout: np.ndarray, top: int, left: int) -> None:
    """`cutout` (h, w, 4) uint8 into the scene; it owns the pixels that it covers by more than half."""
    height, width = scene.labels.shape
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + cutout.shape[0]), min(width, left + cutout.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = cutout[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    opacity = part[..., 3:] / 255
    scene.image[y0:y1, x0:x1] = scene.image[y0:y1, x0:x1] * (1 - opacity) + part[..., :3] * opacity
    scene.labels[y0:y1, x0:x1][opacity[..., 0] > 0.5] = scene.index(label)


def _foot(placed: tuple[np.ndarray, int, int]) -> int:
    image, top, _ = placed
    return top + image.shape[0]


def _place(rng: Rng, scene: Scene, thing: Cutout, image: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The thing at the size that it has where it stands, and its top left corner."""
    height, width = scene.labels.shape
    if rng.random() < 0.5 and thing.place != "wall":
        image = image[:, ::-1]
    standing = thing.place == "ground" and thing.height_cm >= LOWEST_CM and scene.horizon > 0
    low, high = ON_GROUND if standing else ANYWHERE
    tall = height * low * (high / low) ** rng.random()
    if standing:
        # Of what stands on the ground, so many px per cm as the ground has at its foot.
        deepest = (height * 1.15 - scene.horizon) / scene.camera_cm * thing.height_cm
        tall = min(tall, deepest)
        foot = scene.horizon + tall * scene.camera_cm / thing.height_cm
    elif thing.place == "ground" and scene.horizon > 0:
        foot = rng.uniform(max(scene.horizon + 4, tall * 0.6), height * 1.05)
    else:
        upper = scene.horizon if thing.place == "wall" and scene.horizon > 0 else height * 1.05
        foot = rng.uniform(min(tall * 0.8, upper - 1), upper)
    tall = min(tall, 1.6 * width * image.shape[0] / image.shape[1])
    image = resized(image, tall / image.shape[0])
    left = rng.uniform(-0.3 * image.shape[1], width - 0.7 * image.shape[1])
    return image, int(foot) - image.shape[0], int(left)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """(h, w, 4) uint8: `scale` times as large; what is transparent lends no colour to the edges."""
    size = max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale))
    opacity = image[..., 3:].astype(np.float32) / 255
    weighted = np.concatenate([image[..., :3] * opacity, opacity], axis=2)
    small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    colours = small[..., :3] / np.maximum(small[..., 3:], 1e-3)
    return np.concatenate([np.clip(colours, 0, 255), small[..., 3:] * 255], axis=2).round().astype(np.uint8)


def _lit(rng: Rng, image: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The thing in the light of the scene, in a slightly other colour."""
    turned = image[..., :3].astype(np.float32)
    grey = turned.mean(axis=2, keepdims=True)
    turned = (grey + (turned - grey) * rng.uniform(0.5, 1.05)) * light * rng.uniform(0.75, 1.15)
    return np.concatenate([np.clip(turned, 0, 255).astype(np.uint8), image[..., 3:]], axis=2)


def _shadow(rng: Rng, scene: Scene, foot: int, left: int, wide: int) -> None:
    """A soft dark patch beneath a thing; it changes no label."""
    height, width = scene.labels.shape
    rows, columns = np.mgrid[:height, :width]
    flat = max(2.0, wide * rng.uniform(0.06, 0.16))
    shift = wide * rng.uniform(-0.3, 0.3)
    away = ((columns - left - wide / 2 - shift) / (0.6 * wide)) ** 2 + ((rows - foot + 0.3 * flat) / flat) ** 2
    scene.image *= (1 - rng.uniform(0.25, 0.6) * np.exp(-(away**2)))[..., None].astype(np.float32)


def _photographed(rng: Rng, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a lens, a sensor and an exposure."""
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 0.8))
    height, width = image.shape[:2]
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = image * (1 - rng.uniform(0, 0.25) * (rows**2 + columns**2) / 2)[..., None]
    image = 255 * (np.clip(image, 0, 255) / 255) ** rng.uniform(0.8, 1.25)
    return np.clip(image + rng.normal(0, rng.uniform(0.5, 3), image.shape), 0, 255).astype(np.uint8)
