"""Places without things: a landscape, a street or a room, with a map of what is where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from training.free import textures
from training.free.textures import FAR, FLOORS, GROUNDS, WALLS, Rng, ground, noise, sky, tinted

# What is below → what may lie far away.
LANDS = {
    "grass": ("forest", "mountain", ""),
    "sand": ("water", "", "mountain"),
    "snow": ("forest", "mountain", ""),
    "rock": ("mountain", "water", ""),
    "soil": ("forest", "", "grass"),
}
SEAS = {"water": ("mountain", "", "forest", "")}


@dataclass(eq=False)
class Scene:
    """An image and what it shows at each pixel; things are put into it from far to near."""

    image: np.ndarray  # (H, W, 3) float32, 0 … 255
    labels: np.ndarray  # (H, W) int32: indices of `names`
    names: list[str]
    horizon: float  # row at which the ground is infinitely far
    camera_cm: float  # how high above the ground the camera is
    tags: tuple[str, ...] = ()  # what else it shows, though nobody knows where

    def index(self, name: str) -> int:
        """The index of `name`, which is added to the names if it is new."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def fill(self, name: str, where: np.ndarray, colours: np.ndarray) -> None:
        """Everything at `where` (H, W) bool becomes `name` in `colours` (H, W, 3)."""
        self.image[where] = colours[where]
        self.labels[where] = self.index(name)


def land(rng: Rng, size_hw: tuple[int, int]) -> Scene:
    """Ground to the horizon under a sky, and at times something far away."""
    return _far_and_near(rng, size_hw, LANDS)


def sea(rng: Rng, size_hw: tuple[int, int]) -> Scene:
    """Water to the horizon, or to the shore beyond it."""
    return _far_and_near(rng, size_hw, SEAS)


def _far_and_near(rng: Rng, size_hw: tuple[int, int], lands: Mapping[str, tuple[str, ...]]) -> Scene:
    scene = _open_air(rng, size_hw, below := str(rng.choice(list(lands))))
    far = str(rng.choice(lands[below]))
    if far in FAR:
        _ridge(rng, scene, far)
    elif far:
        _strip(rng, scene, far)
    return scene


def street(rng: Rng, size_hw: tuple[int, int]) -> Scene:
    """A road between pavements or lawns, and buildings along the horizon."""
    scene = _open_air(rng, size_hw, "road")
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    across = (columns - size_hw[1] * rng.uniform(0.1, 0.9)) / np.maximum(rows - scene.horizon, 1)
    beside = str(rng.choice(["pavement", "pavement", "grass"]))
    surface = GROUNDS[beside][0]
    colours = tinted(rng, _below(rng, scene, surface))
    if rng.random() < 0.5:
        _buildings(rng, scene)
    else:
        _ridge(rng, scene, "forest")
    off_road = (across < -rng.uniform(0.4, 2.5)) | (across > rng.uniform(0.4, 2.5))
    off_road |= rows < scene.horizon + rng.uniform(3, 10)
    scene.fill(beside, off_road & (rows > scene.horizon), colours)
    if rng.random() < 0.7:
        _buildings(rng, scene)
    return scene


def room(rng: Rng, size_hw: tuple[int, int]) -> Scene:
    """A wall above a floor; at times a second wall and a ceiling."""
    height, width = size_hw
    wall = WALLS[rng.integers(len(WALLS))](rng, size_hw).astype(np.float32)
    light = np.linspace(rng.uniform(0.75, 1.15), rng.uniform(0.75, 1.15), width)[None, :, None]
    edge = height * rng.uniform(0.5, 0.8)
    horizon = edge - height * rng.uniform(0.15, 0.3)
    scene = Scene(tinted(rng, wall * light), np.zeros(size_hw, np.int32), ["wall"], horizon, rng.uniform(130, 190))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    corner = width * rng.uniform(-0.3, 1.3)
    slope = rng.uniform(0.1, 0.5) * np.sign(width / 2 - corner)
    beyond = np.maximum((columns - corner) * slope, 0)
    scene.image[np.broadcast_to(beyond > 0, size_hw)] *= rng.uniform(0.7, 0.95)
    floor = rows > edge + beyond
    scene.fill("floor", floor, tinted(rng, _below(rng, scene, FLOORS[rng.integers(len(FLOORS))])))
    skirting = ~floor & (rows > edge + beyond - rng.uniform(0, 5))
    scene.image[skirting] = rng.uniform(40, 250)
    if rng.random() < 0.3:
        ceiling = rows < height * rng.uniform(0.03, 0.15) - beyond
        scene.fill("ceiling", ceiling, tinted(rng, np.full((*size_hw, 3), 225, np.float32)))
    return scene


def backdrop(rng: Rng, size_hw: tuple[int, int]) -> Scene:
    """One surface alone, seen straight on or from above."""
    kinds = [*GROUNDS, "wall", "floor", "sky", "forest"]
    name = kinds[rng.integers(len(kinds))]
    surfaces = {"wall": WALLS, "floor": FLOORS, "sky": (sky,), "forest": (FAR["forest"],)} | GROUNDS
    surface = surfaces[name][rng.integers(len(surfaces[name]))]
    image = sky(rng, size_hw) if name == "sky" else surface(rng, size_hw)
    scale = rng.uniform(1, 2.5)
    image = cv2.resize(image.astype(np.float32), None, fx=scale, fy=scale)[: size_hw[0], : size_hw[1]]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 4))
    return Scene(tinted(rng, image), np.zeros(size_hw, np.int32), [name], -1e4, 160)


def _open_air(rng: Rng, size_hw: tuple[int, int], below: str) -> Scene:
    height, _ = size_hw
    horizon = float(height * rng.uniform(0.2, 0.65))
    image = tinted(rng, sky(rng, size_hw), 0.06)
    scene = Scene(image, np.zeros(size_hw, np.int32), ["sky"], horizon, rng.uniform(90, 260))
    rows = np.arange(height)[:, None]
    colours = tinted(rng, _below(rng, scene, GROUNDS[below][0]))
    scene.fill(below, np.broadcast_to(rows > horizon, size_hw), colours)
    return scene


def _below(rng: Rng, scene: Scene, surface: textures.Surface) -> np.ndarray:
    """(H, W, 3) float32: a ground below the horizon."""
    height, width = scene.labels.shape
    top = max(0, int(scene.horizon))
    image = np.zeros((height, width, 3), np.float32)
    image[top:] = ground(rng, surface, (height - top, width))
    return image


def _ridge(rng: Rng, scene: Scene, name: str) -> None:
    """Mountains or woods along the horizon, hazy with distance."""
    height, width = scene.labels.shape
    rough = 1.6 if name == "mountain" else 0.9
    line = noise(rng, (1, 2 * width), rough)[0, :width] - 0.3
    tops = scene.horizon - np.clip(line, 0.02, 1) * height * rng.uniform(0.15, 0.6)
    rows = np.arange(height)[:, None]
    colours = tinted(rng, FAR[name](rng, (height, width)))
    if name == "mountain" and rng.random() < 0.4:
        white = rows < tops + (scene.horizon - tops.min()) * rng.uniform(0.1, 0.4)
        colours = np.where(white[..., None], 0.25 * colours + 185, colours)
    haze = rng.uniform(0, 0.5) if name == "mountain" else rng.uniform(0, 0.25)
    colours = colours * (1 - haze) + np.array((175, 190, 205)) * haze
    scene.fill(name, (rows > tops) & (rows <= scene.horizon + 1), colours.astype(np.float32))


def _strip(rng: Rng, scene: Scene, name: str) -> None:
    """Another ground between the horizon and what is near."""
    height, width = scene.labels.shape
    rows = np.arange(height)[:, None]
    shore = scene.horizon + (height - scene.horizon) * rng.uniform(0.1, 0.5)
    shore = shore + 6 * (noise(rng, (1, 2 * width), 1.8)[:, :width] - 0.5)
    colours = tinted(rng, _below(rng, scene, GROUNDS[name][0]))
    scene.fill(name, (rows > scene.horizon) & (rows < shore), colours)


def _buildings(rng: Rng, scene: Scene) -> None:
    """A row of fronts with windows and doors whose feet stand a little below the horizon."""
    _, width = scene.labels.shape
    foot = scene.horizon + rng.uniform(2, 12)
    left = rng.uniform(-60, 40)
    while left < width and foot > 24:
        wide, high = rng.uniform(40, 150), foot * rng.uniform(0.45, 1.15)
        if rng.random() < 0.85:
            _front(rng, scene, int(left), int(left + wide), int(foot - high), int(foot))
        left += wide + (rng.uniform(4, 50) if rng.random() < 0.4 else 0)


def _front(rng: Rng, scene: Scene, left: int, right: int, top: int, foot: int) -> None:
    height, width = scene.labels.shape
    size = (foot - top, right - left)
    surface = textures.BRICKS if rng.random() < 0.4 else textures.PLASTER
    front = tinted(rng, surface(rng, size).astype(np.float32))
    pane = rng.uniform(20, 90) + rng.uniform(-5, 30, 3)
    step_y, step_x = rng.integers(16, 34), rng.integers(12, 30)
    frame = rng.uniform(60, 250)
    for y in range(int(rng.integers(4, 10)), size[0] - 12, step_y):
        for x in range(int(rng.integers(3, 8)), size[1] - 8, step_x):
            y1, x1 = y + int(step_y * 0.55), x + int(step_x * 0.5)
            front[y - 1 : y1 + 1, x - 1 : x1 + 1] = frame
            front[y:y1, x:x1] = pane * rng.uniform(0.7, 1.3)
    rows, columns = np.mgrid[:height, :width]
    where = (rows >= top) & (rows < foot) & (columns >= left) & (columns < right)
    colours = np.zeros((height, width, 3), np.float32)
    colours[where] = front[(rows - top)[where], (columns - left)[where]]
    roof = np.zeros_like(where)
    if rng.random() < 0.5:
        rise = rng.uniform(0.3, 1.0) * size[1] / 2
        middle = (left + right) / 2
        roof = (rows < top) & (rows > top - rise * (1 - np.abs(columns - middle) / (size[1] / 2 + 3)))
        colours[roof] = np.array([(120, 62, 48), (80, 78, 80), (110, 88, 70)][rng.integers(3)]) * rng.uniform(0.7, 1.2)
    scene.fill("building", where | roof, colours)
