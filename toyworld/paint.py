"""How the toy world is coloured: surface patterns, textured grounds, skies. Everything is RGB float32 in 0 … 255."""

from __future__ import annotations

import cv2
import numpy as np

from toyworld.vocabulary import COLORS

WHITE, BLACK = np.array((255.0, 252.0, 244.0)), np.array((18.0, 18.0, 28.0))


GROUND_TONES = {  # at the horizon, in front
    "grass": ((128, 176, 84), (84, 142, 58)),
    "sand": ((240, 218, 166), (226, 192, 128)),
    "water": ((112, 176, 206), (44, 112, 168)),
    "snow": ((236, 242, 250), (222, 232, 246)),
    "pavement": ((170, 162, 156), (146, 136, 130)),
    "wheat": ((238, 206, 112), (212, 162, 58)),
}
SKY_TONES = {  # from the top of the image to the horizon
    "clear sky": ((98, 166, 228), (206, 232, 244)),
    "cloudy sky": ((132, 158, 188), (212, 220, 228)),
    "sunset sky": ((104, 82, 150), (236, 134, 112), (252, 210, 128)),
    "night sky": ((14, 20, 52), (48, 60, 112)),
}
CLOUDS = {"clear sky": (0, 3), "cloudy sky": (5, 9), "sunset sky": (0, 3), "night sky": (0, 1)}  # at least, less than


def mix(a: np.ndarray, b: np.ndarray, amount: float | np.ndarray) -> np.ndarray:
    return a + (b - a) * amount


def tones(color: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The tones (3,) of a named colour: base (slightly varied), light, deep, and the second tone of its patterns."""
    base = np.clip(np.array(COLORS[color], dtype=np.float64) + rng.uniform(-9, 9, 3), 0, 255)
    light, deep = mix(base, WHITE, 0.62), mix(base, BLACK, 0.42)
    bright = base @ (0.299, 0.587, 0.114) > 150
    return {
        "base": base,
        "light": light,
        "deep": deep,
        "second": deep if bright or (color != "black" and rng.random() < 0.25) else light,
    }


def pattern_weight(pattern: str, x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
    """Where the second tone shows, 0 … 1, with edges softened over about a pixel.

    x, y: pixel coordinates (h, w) in the object's own, turned frame. period: px of one repeat.
    """
    sharp = period / np.pi
    if pattern == "striped":
        field = sharp * np.sin(2 * np.pi * x / period)
    elif pattern == "checkered":
        field = sharp * 1.6 * np.sin(np.pi * x / period) * np.sin(np.pi * y / period)
    elif pattern == "dotted":
        shifted = x + period / 2 * (np.floor(y / period) % 2)
        field = 0.31 * period - np.hypot(shifted % period - period / 2, y % period - period / 2)
    elif pattern == "zigzag":
        wave = np.abs((x / (1.6 * period)) % 1.0 - 0.5) * 1.6 * period
        field = sharp * np.sin(2 * np.pi * (y + wave) / period)
    else:  # plain
        return np.zeros_like(x)
    return np.clip(field + 0.5, 0, 1)


def value_noise(height: int, width: int, cell_x: float, cell_y: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (height, width), about −1 … 1, with blobs of cell_x × cell_y px."""
    grid = rng.uniform(-1, 1, (int(height / cell_y) + 2, int(width / cell_x) + 2)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _strokes(
    canvas: np.ndarray,
    count: int,
    rng: np.random.Generator,
    color: np.ndarray,
    spread: float,
    dx: float,
    dy: float,
    depth: np.ndarray,
) -> None:
    """Draw `count` short lines, longer in front; each is the colour made lighter or darker by up to `spread`."""
    height, width = canvas.shape[:2]
    ys = np.sort(rng.integers(0, height, count))
    xs = rng.integers(0, width, count)
    shifts = rng.uniform(-spread, spread, count)
    leans = rng.uniform(-1, 1, count)
    for x, y, shift, lean in zip(xs, ys, shifts, leans, strict=True):
        size = 0.35 + depth[y]
        end = (int(x + size * (dx + lean * dy * 0.3)), int(y - size * dy))
        tone = tuple(float(v) for v in np.clip(color + shift, 0, 255))
        cv2.line(canvas, (int(x), int(y)), end, tone, 1, cv2.LINE_AA)


def ground(kind: str, height: int, width: int, horizon: float, rng: np.random.Generator) -> np.ndarray:
    """A textured ground (height, width, 3) over the whole image; its texture grows from the horizon (px) down."""
    x = np.arange(width, dtype=np.float32)[None] + np.zeros((height, 1), dtype=np.float32)
    depth = np.clip((np.arange(height) - horizon) / (height - horizon), 0.0, 1.0)  # 0 at the horizon, 1 in front
    column = depth[:, None]
    far, near = (np.array(tone, dtype=np.float64) + rng.uniform(-8, 8, 3) for tone in GROUND_TONES[kind])
    canvas = (far + (near - far) * column[..., None] + np.zeros((height, width, 1))).astype(np.float32)
    canvas += 7 * value_noise(height, width, 48, 20, rng)[..., None]
    rows = np.log1p(6 * column) / np.log(7) * 26 + np.zeros_like(x)  # perspective: rows lie denser near the horizon
    if kind == "grass":
        _strokes(canvas, 700, rng, near, 34, 1, 7, depth)
    elif kind == "wheat":
        _strokes(canvas, 800, rng, near, 44, 0, 13, depth)
    elif kind == "sand":
        ripple = np.sin(2 * np.pi * (rows * 0.55 + 0.6 * value_noise(height, width, 60, 60, rng)))
        canvas += (7 * ripple * column + rng.normal(0, 6, (height, width)))[..., None]
    elif kind == "water":
        swell = np.sin(2 * np.pi * (rows * 0.8 + 0.55 * value_noise(height, width, 34, 16, rng)))
        canvas += (np.clip(swell - 0.25, 0, 1) * 46 - np.clip(-swell - 0.4, 0, 1) * 24)[..., None]
    elif kind == "snow":
        drift = value_noise(height, width, 90, 22, rng)
        canvas -= np.clip(drift, 0, 1)[..., None] * np.array((34, 22, 8))
        sparkle = rng.random((height, width)) < 0.004
        canvas[sparkle] = 255
    else:  # pavement: rows of stones, wider in front, every other row shifted
        row, across = np.floor(rows * 0.5), (x - width / 2) / (10 + 26 * column)
        stone = np.floor(across + 0.5 * (row % 2))
        joint = np.minimum(np.abs((rows * 0.5) % 1 - 0.5), np.abs((across + 0.5 * (row % 2)) % 1 - 0.5) * 1.3)
        shade = np.sin(row * 12.9898 + stone * 78.233) * 0.5
        canvas += (shade * 26 - 52 * np.clip((joint - 0.4) * 14, 0, 1))[..., None]
    return canvas


def sky(name: str, height: int, width: int, horizon: float, rng: np.random.Generator) -> np.ndarray:
    """A sky (height, width, 3) of one of the names in SKIES, drawn over the whole image."""
    stops = SKY_TONES[name]
    fall = np.clip(np.arange(height) / max(horizon, 1), 0, 1) * (len(stops) - 1)
    columns = [np.interp(fall, np.arange(len(stops)), [stop[c] for stop in stops]) for c in range(3)]
    canvas = (np.stack(columns, axis=1)[:, None] + rng.uniform(-7, 7, 3) + np.zeros((1, width, 1))).astype(np.float32)
    if name == "night sky":
        for _ in range(rng.integers(40, 90)):
            center = (int(rng.integers(0, width)), int(rng.integers(0, max(int(horizon), 1))))
            cv2.circle(canvas, center, int(rng.integers(0, 2)), (250, 244, 214), -1, cv2.LINE_AA)
        _disc(canvas, rng, horizon, 0.35, 13, (246, 240, 212), (60, 66, 104))
    elif name == "sunset sky":
        _disc(canvas, rng, horizon, 0.95, 24, (255, 232, 156), (252, 186, 112))
    elif name == "clear sky" and rng.random() < 0.6:
        _disc(canvas, rng, horizon, 0.35, 15, (255, 238, 150), (224, 226, 206))
    tint = np.array((240, 176, 160) if name == "sunset sky" else (250, 250, 252), dtype=np.float32)
    for _ in range(rng.integers(*CLOUDS[name])):
        veil = np.zeros((height, width), dtype=np.float32)
        cx, cy, size = rng.uniform(0, width), rng.uniform(0.05, 0.8) * horizon, rng.uniform(9, 22)
        for _ in range(rng.integers(4, 8)):
            puff = (int(cx + rng.uniform(-2.2, 2.2) * size), int(cy + rng.uniform(-0.35, 0.35) * size))
            cv2.circle(veil, puff, int(size * rng.uniform(0.5, 1.0)), 1.0, -1, cv2.LINE_AA)
        soft = cv2.GaussianBlur(veil, (0, 0), size * 0.16)
        shade = np.clip((np.arange(height) - cy) / (2 * size), 0, 0.5)[:, None, None]
        canvas += (tint * (1 - 0.35 * shade) - canvas) * (0.86 * soft[..., None])
    return canvas


def _disc(
    canvas: np.ndarray,
    rng: np.random.Generator,
    horizon: float,
    level: float,
    radius: float,
    color: tuple,
    glow: tuple,
) -> None:
    """A sun or a moon with a halo, at about `level` × horizon."""
    height, width = canvas.shape[:2]
    cx, cy = rng.uniform(0.1, 0.9) * width, horizon * level * rng.uniform(0.8, 1.1)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(x - cx, y - cy)
    halo = np.exp(-((distance / (2.4 * radius)) ** 2))[..., None]
    canvas += (np.array(glow, dtype=np.float32) - canvas) * 0.7 * halo
    disc = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    canvas += (np.array(color, dtype=np.float32) - canvas) * disc
