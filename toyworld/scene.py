"""Scenes of the toy world: seed → an image, the exact region of every pixel, names and a caption."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from toyworld import paint
from toyworld.captions import describe
from toyworld.shapes import SHAPES
from toyworld.vocabulary import COLORS, GROUNDS, HELD_OUT, OBJECTS, PATTERNS, SKIES, SKY, full_name

SIZE = 256  # px, width and height
TRAIN_SEEDS = range(0, 1_000_000)
VALIDATION_SEEDS = range(1_000_000, 2_000_000)  # test seeds begin at 2,000,000
SUPERSAMPLING = 4
MIN_VISIBLE = 0.45  # a scene in which less than this of an object stays visible is drawn anew
FLYING = {
    "balloon": 0.8,
    "kite": 0.9,
    "butterfly": 0.8,
    "rocket": 0.5,
    "star": 0.7,
    "heart": 0.5,
    "fish": 0.15,
}  # chance
HEIGHTS = {
    "house": 1.15,
    "tree": 1.35,
    "ball": 0.8,
    "flower": 0.95,
    "mushroom": 0.85,
    "cup": 0.75,
    "car": 0.95,
}  # size against the others


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and all that is true about it."""

    image: np.ndarray  # (256, 256, 3) uint8, RGB
    label_map: np.ndarray  # (256, 256) int32, index into names and kinds
    names: tuple[str, ...]  # per region: "clear sky", "grass", "red striped boat"
    kinds: tuple[str, ...]  # per region: "sky", "grass", "boat"
    caption: str  # one sentence that names a random part of the image


@dataclass(frozen=True, eq=False)
class _Placed:
    """An object on the canvas: what it is and where."""

    color: str
    pattern: str
    kind: str
    foot: tuple[float, float]  # px of its base
    size: float  # px of its height
    tilt: float  # radians
    mirrored: bool
    grounded: bool  # casts a shadow on the ground

    @property
    def name(self) -> str:
        return full_name(self.color, self.pattern, self.kind)


def scene(seed: int) -> Scene:
    """Draw the scene of a seed (0 or more). Seeds below 1,000,000 train, below 2,000,000 validate, the others test.

    Training scenes hold no combination of `vocabulary.HELD_OUT`; in the others one object in eight is one of them.
    """
    if seed < 0:
        raise ValueError(
            f"scene seed is {seed}; expected 0 or more (training < 1,000,000 <= validation < 2,000,000 <= test)"
        )
    rng = np.random.default_rng(seed)
    drawn = None
    while drawn is None:  # a rare scene in which something is all but hidden is drawn anew
        drawn = _attempt(rng, held_out=0.0 if seed in TRAIN_SEEDS else 0.125)
    return drawn


def _attempt(rng: np.random.Generator, held_out: float) -> Scene | None:
    sky, ground = SKIES[rng.integers(len(SKIES))], GROUNDS[rng.integers(len(GROUNDS))]
    level = SIZE * rng.uniform(0.34, 0.62)
    horizon = level + _waves(rng, flat=ground in ("water", "pavement"))  # (256,) px
    objects = _place(rng, level, held_out)

    canvas = paint.sky(sky, SIZE, SIZE, level, rng)
    below = np.clip(np.arange(SIZE)[:, None] - horizon + 0.5, 0, 1).astype(np.float32)  # (256, 256)
    canvas += (paint.ground(ground, SIZE, SIZE, level, rng) - canvas) * below[..., None]
    label_map = (below >= 0.5).astype(np.int32)
    areas = [_draw(canvas, label_map, index, placed, below, rng) for index, placed in enumerate(objects, start=2)]
    if any((label_map == index).sum() < max(MIN_VISIBLE * area, 90) for index, area in enumerate(areas, start=2)):
        return None

    if sky == "night sky":
        canvas *= np.array((0.72, 0.74, 0.86), dtype=np.float32)
    elif sky == "sunset sky":
        canvas *= np.array((1.0, 0.94, 0.88), dtype=np.float32)
    canvas += rng.normal(0, 2.0, canvas.shape)
    names = (sky, ground, *(placed.name for placed in objects))
    kinds = (SKY, ground, *(placed.kind for placed in objects))
    image = np.clip(np.round(canvas), 0, 255).astype(np.uint8)
    return Scene(image, label_map, names, kinds, describe(names, kinds, rng).text)


def _waves(rng: np.random.Generator, flat: bool) -> np.ndarray:
    """The horizon's height (256,) px about its level."""
    x = np.arange(SIZE) / SIZE
    hills = sum(rng.uniform(0.3, a) * np.sin(2 * np.pi * (x * f + rng.random())) for a, f in ((8.0, 1.0), (3.5, 2.6)))
    return np.round(hills * (0.1 if flat else 1.0), 3)


def _place(rng: np.random.Generator, level: float, held_out: float) -> list[_Placed]:
    """1 – 5 objects, the farthest first: smaller near the horizon, and not hiding one another all too much."""
    wanted = rng.integers(1, 6)
    placed: list[_Placed] = []
    for _ in range(40):
        if len(placed) == wanted:
            break
        color, pattern, kind = _combination(rng, held_out)
        grounded = rng.random() >= FLYING.get(kind, 0.0)
        if grounded:
            depth = rng.uniform(0.12, 1.0) ** 0.8
            foot_y = level + 6 + depth * (SIZE - 8 - level)
            size = (34 + 78 * depth) * rng.uniform(0.85, 1.15)
        else:
            size = rng.uniform(34, 84)
            foot_y = rng.uniform(size + 4, max(level + 4, size + 12))
        size = min(size * HEIGHTS.get(kind, 0.9), foot_y - 2)
        foot_x = rng.uniform(0.45 * size, SIZE - 0.45 * size)
        tilt = rng.uniform(-0.08, 0.08) if grounded else rng.uniform(-0.4, 0.4)
        new = _Placed(color, pattern, kind, (foot_x, foot_y), size, tilt, bool(rng.random() < 0.5), grounded)
        if all(_distance(new, other) > 0.62 * max(new.size, other.size) for other in placed):
            placed.append(new)
    return sorted(placed, key=lambda p: (p.grounded, p.foot[1]))


def _combination(rng: np.random.Generator, held_out: float) -> tuple[str, str, str]:
    """(colour, pattern, kind): one of HELD_OUT with that probability, otherwise any of the others."""
    if rng.random() < held_out:
        color, pattern, kind = sorted(HELD_OUT)[rng.integers(len(HELD_OUT))]
        return color, pattern, kind
    while True:
        chosen = (
            tuple(COLORS)[rng.integers(len(COLORS))],
            PATTERNS[rng.integers(len(PATTERNS))],
            OBJECTS[rng.integers(len(OBJECTS))],
        )
        if chosen not in HELD_OUT:
            return chosen


def _distance(a: _Placed, b: _Placed) -> float:
    """Pixels between the centres of two objects."""
    return float(np.hypot(a.foot[0] - b.foot[0], (a.foot[1] - a.size / 2) - (b.foot[1] - b.size / 2)))


def _draw(
    canvas: np.ndarray,
    label_map: np.ndarray,
    index: int,
    placed: _Placed,
    below: np.ndarray,
    rng: np.random.Generator,
) -> int:
    """Paint an object and its shadow and write its index into the label map, in place. Returns its area in pixels."""
    parts = SHAPES[placed.kind](rng)
    tone = paint.tones(placed.color, rng)
    cos, sin = np.cos(placed.tilt), np.sin(placed.tilt)
    flip = -1.0 if placed.mirrored else 1.0
    turn, period = rng.uniform(-0.5, 0.5), max(placed.size * rng.uniform(0.15, 0.24), 6.0)
    if placed.pattern == "striped" and rng.random() < 0.5:
        turn += np.pi / 2
    if placed.grounded:
        _cast_shadow(canvas, placed, below)

    outlines = []  # image frame
    for part in parts:
        unit = part.outline * placed.size
        outlines.append(
            np.stack(
                [
                    flip * (unit[:, 0] * cos - unit[:, 1] * sin) + placed.foot[0],
                    unit[:, 0] * sin + unit[:, 1] * cos + placed.foot[1],
                ],
                axis=1,
            )
        )
    corners = np.concatenate(outlines)
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 3, SIZE)
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
    u, v = x - placed.foot[0], y - placed.foot[1] + placed.size / 2
    weight = paint.pattern_weight(
        placed.pattern, u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn), period
    )[..., None]
    patterned = paint.mix(tone["base"], tone["second"], weight)  # (h, w, 3)
    light = (1.1 - 0.3 * np.clip((u * 0.55 + v) / placed.size + 0.5, 0, 1))[..., None]  # from the upper left

    window = canvas[y0:y1, x0:x1]
    silhouette = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    for part, outline in zip(parts, outlines, strict=True):
        alpha = _coverage(outline - (x0, y0), y1 - y0, x1 - x0)
        inner = _coverage(outline - (x0, y0), y1 - y0, x1 - x0, inset=1.1)[..., None]
        color = (
            patterned
            if part.paint == "pattern"
            else tone[part.paint]
            if isinstance(part.paint, str)
            else np.array(part.paint, dtype=np.float64)
        )
        inked = color * light * (0.66 + 0.34 * inner)  # a thin darker contour, as drawn with a pen
        window += ((inked - window) * alpha[..., None]).astype(np.float32)
        silhouette = np.maximum(silhouette, alpha)
    covered = silhouette >= 0.5
    label_map[y0:y1, x0:x1][covered] = index
    return int(covered.sum())


def _coverage(outline: np.ndarray, height: int, width: int, inset: float = 0.0) -> np.ndarray:
    """How much of each pixel (height, width) a polygon (N, 2), made thinner by `inset` px first, covers: 0 … 1."""
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), dtype=np.uint8)
    points = np.round((outline + 0.5) * SUPERSAMPLING - 0.5).astype(np.int32)
    cv2.fillPoly(fine, [points], 255)
    if inset:
        cv2.polylines(fine, [points], True, 0, thickness=int(2 * inset * SUPERSAMPLING))
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _cast_shadow(canvas: np.ndarray, placed: _Placed, below: np.ndarray) -> None:
    """Darken the ground to the right of the object's base, in place; a shadow belongs to the region it falls on."""
    shadow = np.zeros((SIZE, SIZE), dtype=np.float32)
    center = (int(placed.foot[0] + 0.16 * placed.size), int(placed.foot[1] - 1))
    cv2.ellipse(
        shadow,
        center,
        (int(0.46 * placed.size), max(int(0.085 * placed.size), 2)),
        0,
        0,
        360,
        1.0,
        -1,
        cv2.LINE_AA,
    )
    shadow = cv2.GaussianBlur(shadow, (0, 0), 1.6) * below
    canvas *= 1 - 0.34 * shadow[..., None]
