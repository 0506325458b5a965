"""The outlines of the toy world's objects: unit-sized polygons, each with the paint it takes.

An object stands on the origin: x in about −0.5 … 0.5, y from −1 (top) to 0 (base). Parts are listed back to front;
later ones cover earlier ones. A part's paint is "pattern" (the object's colour and pattern), "base" / "light" / "deep"
(plain tones of the colour) or an RGB triple.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Rgb = tuple[int, int, int]

WOOD: Rgb = (112, 76, 48)
STEM: Rgb = (62, 122, 58)
DARK: Rgb = (48, 48, 56)
CREAM: Rgb = (242, 232, 208)
GLASS: Rgb = (190, 222, 236)
GLOW: Rgb = (250, 222, 120)


class Part(NamedTuple):
    """One filled polygon of an object."""

    outline: np.ndarray  # (N, 2) float64, unit frame
    paint: str | Rgb


def ellipse(
    cx: float, cy: float, rx: float, ry: float, *, turn: float = 0.0, start: float = 0.0, end: float = 1.0
) -> np.ndarray:
    """Points (N, 2) of an ellipse turned by `turn` radians, or of its arc from `start` to `end`, as parts of 1."""
    t = 2 * np.pi * np.linspace(start, end, 49)
    x, y = rx * np.cos(t), ry * np.sin(t)
    return np.stack([cx + x * np.cos(turn) - y * np.sin(turn), cy + x * np.sin(turn) + y * np.cos(turn)], axis=1)


def polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def stroke(points: np.ndarray | Sequence[tuple[float, float]], width: float) -> np.ndarray:
    """The outline (2N, 2) of a line of even width along points."""
    line = np.asarray(points, dtype=np.float64)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(
        np.linalg.norm(along, axis=1, keepdims=True), 1e-9
    )
    return np.concatenate([line + normal * width / 2, (line - normal * width / 2)[::-1]])


def ball(rng: np.random.Generator) -> list[Part]:
    return [Part(ellipse(0, -0.5, 0.5, 0.5), "pattern")]


def house(rng: np.random.Generator) -> list[Part]:
    door = rng.choice([-0.2, 0.0, 0.2])
    windows = [x for x in (-0.2, 0.2) if abs(x - door) > 0.3] or [-0.28, 0.28]
    return [
        Part(rectangle(0.2, -0.98, 0.32, -0.7), WOOD),
        Part(rectangle(-0.44, -0.6, 0.44, 0.0), "pattern"),
        Part(polygon((-0.56, -0.58), (0.0, -1.0), (0.56, -0.58)), "deep"),
        Part(rectangle(door - 0.08, -0.3, door + 0.08, 0.0), WOOD),
        *(Part(rectangle(x - 0.08, -0.48, x + 0.08, -0.32), GLOW) for x in windows),
    ]


def tree(rng: np.random.Generator) -> list[Part]:
    trunk = Part(polygon((-0.05, -0.55), (0.05, -0.55), (0.075, 0.0), (-0.075, 0.0)), WOOD)
    if rng.random() < 0.5:
        tiers = [(-0.3, 0.4, -0.68), (-0.52, 0.33, -0.86), (-0.7, 0.25, -1.02)]
        return [
            trunk,
            *(Part(polygon((-half, foot), (0.0, top), (half, foot)), "pattern") for foot, half, top in tiers),
        ]
    leaves = [(-0.2, -0.58, 0.2), (0.2, -0.58, 0.2), (0.0, -0.76, 0.25), (0.0, -0.55, 0.2)]
    return [trunk, *(Part(ellipse(x, y, r, r), "pattern") for x, y, r in leaves)]


def boat(rng: np.random.Generator) -> list[Part]:
    return [
        Part(rectangle(-0.02, -1.0, 0.02, -0.2), WOOD),
        Part(polygon((0.05, -0.95), (0.05, -0.3), (0.46, -0.3)), "pattern"),
        Part(polygon((-0.05, -0.85), (-0.05, -0.3), (-0.34, -0.3)), CREAM),
        Part(polygon((-0.56, -0.24), (0.56, -0.24), (0.36, 0.0), (-0.36, 0.0)), "pattern"),
    ]


def car(rng: np.random.Generator) -> list[Part]:
    body = polygon(
        (-0.66, -0.12),
        (-0.68, -0.3),
        (-0.5, -0.36),
        (-0.34, -0.6),
        (0.18, -0.6),
        (0.4, -0.36),
        (0.64, -0.3),
        (0.68, -0.12),
    )
    wheels = [(x, r, paint) for x in (-0.38, 0.38) for r, paint in ((0.14, DARK), (0.06, CREAM))]
    return [
        Part(body, "pattern"),
        Part(polygon((-0.38, -0.37), (-0.28, -0.54), (-0.1, -0.54), (-0.1, -0.37)), GLASS),
        Part(polygon((-0.03, -0.37), (-0.03, -0.54), (0.14, -0.54), (0.28, -0.37)), GLASS),
        *(Part(ellipse(x, -0.14, r, r), paint) for x, r, paint in wheels),
    ]


def flower(rng: np.random.Generator) -> list[Part]:
    bend = rng.uniform(-0.12, 0.12)
    y = np.linspace(0.0, -0.7, 12)
    stem = stroke(np.stack([bend * np.sin(-y * 4.4), y], axis=1), 0.05)
    turns = 2 * np.pi * (np.arange(6) + rng.random()) / 6
    petals = [ellipse(0.2 * np.cos(t), -0.7 + 0.2 * np.sin(t), 0.17, 0.11, turn=t) for t in turns]
    return [
        Part(stem, STEM),
        Part(ellipse(0.13, -0.25, 0.14, 0.055, turn=-0.6), STEM),
        *(Part(petal, "pattern") for petal in petals),
        Part(ellipse(0.0, -0.7, 0.1, 0.1), GLOW),
    ]


def star(rng: np.random.Generator) -> list[Part]:
    t = -np.pi / 2 + np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2 == 0, 0.54, 0.24)
    return [Part(np.stack([radius * np.cos(t), -0.5 + radius * np.sin(t)], axis=1), "pattern")]


def heart(rng: np.random.Generator) -> list[Part]:
    t = 2 * np.pi * np.linspace(0, 1, 60)
    x = 16 * np.sin(t) ** 3 / 33
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 31 - 0.56
    return [Part(np.stack([x, y], axis=1), "pattern")]


def fish(rng: np.random.Generator) -> list[Part]:
    return [
        Part(polygon((0.3, -0.4), (0.66, -0.68), (0.58, -0.4), (0.66, -0.12)), "base"),
        Part(polygon((-0.15, -0.62), (0.12, -0.86), (0.22, -0.55)), "base"),
        Part(ellipse(-0.08, -0.4, 0.5, 0.29), "pattern"),
        Part(ellipse(-0.36, -0.47, 0.065, 0.065), CREAM),
        Part(ellipse(-0.37, -0.47, 0.032, 0.032), DARK),
    ]


def mushroom(rng: np.random.Generator) -> list[Part]:
    return [
        Part(polygon((-0.12, -0.5), (0.12, -0.5), (0.18, 0.0), (-0.18, 0.0)), CREAM),
        Part(ellipse(0.0, -0.45, 0.52, 0.5, start=0.5, end=1.0), "pattern"),
        Part(ellipse(0.0, -0.45, 0.52, 0.08, start=0.0, end=0.5), "deep"),
    ]


def balloon(rng: np.random.Generator) -> list[Part]:
    return [
        *(Part(stroke([(x, -0.5), (x * 0.4, -0.18)], 0.018), WOOD) for x in (-0.24, 0.24)),
        Part(
            np.concatenate(
                [ellipse(0.0, -0.64, 0.4, 0.37, start=0.43, end=1.07), polygon((0.1, -0.28), (-0.1, -0.28))]
            ),
            "pattern",
        ),
        Part(polygon((-0.11, -0.18), (0.11, -0.18), (0.08, 0.0), (-0.08, 0.0)), WOOD),
    ]


def cup(rng: np.random.Generator) -> list[Part]:
    return [
        Part(stroke(ellipse(0.34, -0.4, 0.2, 0.2, start=0.72, end=1.28), 0.08), "base"),
        Part(polygon((-0.4, -0.78), (0.4, -0.78), (0.32, 0.0), (-0.32, 0.0)), "pattern"),
        Part(ellipse(0.0, -0.78, 0.4, 0.08), "deep"),
    ]


def kite(rng: np.random.Generator) -> list[Part]:
    y = np.linspace(-0.36, 0.0, 16)
    tail = np.stack([0.09 * np.sin((y + 0.36) * 18), y], axis=1)
    bows = [
        polygon((x - 0.09, v - 0.045), (x + 0.09, v + 0.045), (x + 0.09, v - 0.045), (x - 0.09, v + 0.045))
        for x, v in tail[5::5]
    ]
    return [
        Part(stroke(tail, 0.022), WOOD),
        *(Part(bow, "deep") for bow in bows),
        Part(polygon((0.0, -1.0), (0.36, -0.7), (0.0, -0.33), (-0.36, -0.7)), "pattern"),
    ]


def umbrella(rng: np.random.Generator) -> list[Part]:
    hook = ellipse(0.08, -0.08, 0.08, 0.08, start=0.5, end=0.0)
    scallops = [ellipse(x, -0.52, 0.142, 0.09, start=1.0, end=0.5) for x in (0.426, 0.142, -0.142, -0.426)]
    canopy = np.concatenate([ellipse(0.0, -0.52, 0.568, 0.44, start=0.5, end=1.0), *scallops])
    return [
        Part(stroke(np.concatenate([polygon((0.0, -0.98), (0.0, -0.6), (0.0, -0.3)), hook]), 0.04), WOOD),
        Part(canopy, "pattern"),
    ]


def rocket(rng: np.random.Generator) -> list[Part]:
    y = np.linspace(-1.0, -0.16, 24)
    half = 0.2 * np.sin(np.clip((y + 1.0) / 0.55, 0, 1) * np.pi / 2) ** 0.8
    body = np.concatenate([np.stack([half, y], axis=1), np.stack([-half, y], axis=1)[::-1]])
    return [
        Part(polygon((-0.1, -0.18), (0.1, -0.18), (0.0, 0.02)), GLOW),
        *(Part(polygon((side * 0.15, -0.46), (side * 0.38, -0.08), (side * 0.15, -0.16)), "deep") for side in (-1, 1)),
        Part(body, "pattern"),
        Part(ellipse(0.0, -0.62, 0.09, 0.09), GLASS),
    ]


def butterfly(rng: np.random.Generator) -> list[Part]:
    wings = [(0.27, -0.66, 0.28, 0.2, -0.55), (0.22, -0.3, 0.21, 0.16, 0.55)]
    feelers = [stroke([(0.0, -0.72), (side * 0.07, -0.86), (side * 0.15, -0.94)], 0.022) for side in (-1, 1)]
    return [
        *(
            Part(ellipse(side * x, y, rx, ry, turn=side * turn), "pattern")
            for side in (-1, 1)
            for x, y, rx, ry, turn in wings
        ),
        *(Part(feeler, DARK) for feeler in feelers),
        Part(ellipse(0.0, -0.48, 0.045, 0.28), DARK),
    ]


SHAPES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    shape.__name__: shape
    for shape in (
        ball,
        house,
        tree,
        boat,
        car,
        flower,
        star,
        heart,
        fish,
        mushroom,
        balloon,
        cup,
        kite,
        umbrella,
        rocket,
        butterfly,
    )
}
