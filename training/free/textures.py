"""Surfaces made by noise: grass, sand, water, bricks, planks …, flat or as ground that runs to the horizon."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator
Colour = tuple[int, int, int]
# Px of the square that a ground repeats.
TILE = 384


def noise(rng: Rng, size_hw: tuple[int, int], roughness: float, stretch: float = 1.0) -> np.ndarray:
    """(H, W) float32 of mean 0.5 and deviation 0.2, within 0 … 1; it repeats at its edges.

    The spectrum falls as frequency to the power -`roughness`: 0 is white noise, 2 clouds. Structures are `stretch`
    times as wide as high.
    """
    height, width = size_hw
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.sqrt(fy**2 + (fx * stretch) ** 2)
    frequency[0, 0] = np.inf
    spectrum = rng.normal(size=(2, *frequency.shape)) * frequency**-roughness
    field = np.fft.irfft2(spectrum[0] + 1j * spectrum[1], s=size_hw)
    return np.clip(0.5 + 0.2 * field / field.std(), 0, 1).astype(np.float32)


def paint(values: np.ndarray, colours: list[Colour]) -> np.ndarray:
    """(H, W, 3) float32, 0 … 255: values of 0 … 1 as colours, from the first to the last."""
    places = np.linspace(0, 1, len(colours))
    channels = [np.interp(values, places, [colour[channel] for colour in colours]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _grass(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    dry = rng.random()
    colours = [(28, 48, 18), (70, 100, 38), (int(110 + 70 * dry), 140, int(60 + 20 * dry))]
    return paint(0.45 * noise(rng, size, 1.3) + 0.55 * noise(rng, size, 0.4, 0.35), colours)


def _sand(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    ripples = noise(rng, size, 1.8, 3.0) if rng.random() < 0.5 else noise(rng, size, 1.8)
    return paint(0.6 * ripples + 0.4 * noise(rng, size, 0.3), [(150, 122, 88), (205, 180, 140), (236, 220, 188)])


def _water(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    palettes = [[(18, 48, 70), (50, 100, 130), (150, 190, 205)], [(30, 60, 58), (70, 110, 100), (160, 185, 175)]]
    values = 0.7 * noise(rng, size, 1.4, 4.0) + 0.3 * noise(rng, size, 0.7, 3.0)
    return paint(np.clip(1.4 * values - 0.2, 0, 1), palettes[rng.integers(2)])


def _snow(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    values = 0.8 * noise(rng, size, 1.8) + 0.2 * noise(rng, size, 0.3)
    return paint(values, [(170, 185, 210), (228, 234, 244), (252, 252, 255)])


def _rock(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    ridges = 1 - np.abs(2 * noise(rng, size, 1.5) - 1)
    colours = [[(50, 48, 46), (118, 112, 106), (190, 184, 176)], [(60, 42, 30), (130, 98, 72), (196, 164, 130)]]
    return paint(0.6 * ridges + 0.4 * noise(rng, size, 0.7), colours[rng.integers(2)])


def _soil(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    values = 0.6 * noise(rng, size, 1.2) + 0.4 * noise(rng, size, 0.2)
    return paint(values, [(52, 36, 24), (104, 78, 54), (158, 128, 96)])


def _road(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    low = int(rng.integers(55, 95))
    values = 0.5 * noise(rng, size, 1.6) + 0.5 * noise(rng, size, 0.1)
    return paint(values, [(low, low, low + 3), (low + 32, low + 32, low + 34), (low + 70, low + 68, low + 66)])


def _forest(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    leaves = 1 - np.abs(2 * noise(rng, size, 1.2) - 1)
    values = np.clip(1.9 * leaves * noise(rng, size, 0.9) - 0.1, 0, 1)
    return paint(values, [(10, 20, 10), (42, 66, 30), (110, 130, 62)])


def _plaster(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    base = rng.integers(110, 245) + rng.integers(-30, 31, 3)
    return base + 18 * (noise(rng, size, 1.8)[..., None] - 0.5) + 10 * (noise(rng, size, 0.4)[..., None] - 0.5)


def _joints(size: tuple[int, int], brick_hw: tuple[int, int], joint: int, shift: bool) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) bool: the joints between bricks; (H, W) int: the number of each brick."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    row = rows // brick_hw[0]
    moved = columns + (row % 2) * (brick_hw[1] // 2 if shift else 0)
    return (rows % brick_hw[0] < joint) | (moved % brick_hw[1] < joint), row * 97 + moved // brick_hw[1]


def _bricks(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    height = int(rng.integers(8, 16))
    joints, bricks = _joints(size, (height, int(height * 2.6)), 2, shift=True)
    colours = [[(110, 52, 38), (160, 84, 62), (196, 126, 98)], [(120, 104, 84), (164, 146, 120), (206, 190, 164)]]
    own = rng.random(4096)[bricks % 4096]
    image = paint(0.6 * own + 0.4 * noise(rng, size, 0.6), colours[rng.integers(2)])
    image[joints] = rng.integers(120, 200)
    return image


def _slabs(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    side = int(rng.integers(24, 64))
    joints, slabs = _joints(size, (side, side), 1, shift=rng.random() < 0.5)
    low = int(rng.integers(90, 140))
    values = 0.3 * rng.random(4096)[slabs % 4096] + 0.7 * noise(rng, size, 0.7)
    image = paint(values, [(low, low - 3, low - 8), (low + 40, low + 38, low + 32), (low + 80, low + 76, low + 70)])
    image[joints] *= 0.65
    return image


def _planks(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    joints, planks = _joints(size, (int(rng.integers(80, 192)), int(rng.integers(14, 30))), 1, shift=True)
    colours = [[(70, 42, 22), (136, 92, 54), (186, 142, 96)], [(120, 96, 70), (178, 150, 116), (216, 194, 164)]]
    values = 0.35 * rng.random(4096)[planks % 4096] + 0.65 * noise(rng, size, 1.1, 0.12)
    image = paint(values, colours[rng.integers(2)])
    image[joints] *= 0.6
    return image


def _muted(rng: Rng) -> np.ndarray:
    """(3,) a colour of middling saturation."""
    return rng.uniform(50, 235) + rng.uniform(-1, 1, 3) * rng.uniform(0, 60)


def _tiles(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    side = int(rng.integers(16, 48))
    joints, tiles = _joints(size, (side, side), 2, shift=False)
    two = np.stack([_muted(rng), _muted(rng)])
    checked = (tiles // 97 + tiles % 97) % 2 if rng.random() < 0.4 else np.zeros(size, int)
    image = two[checked] + 14.0 * (noise(rng, size, 1.2)[..., None] - 0.5)
    image[joints] = rng.integers(90, 230)
    return image


def _carpet(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    return _muted(rng) + 60 * (noise(rng, size, 0.2)[..., None] - 0.5) + 20 * (noise(rng, size, 1.6)[..., None] - 0.5)


def _stripes(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    two, width = rng.integers(120, 245, 3) + rng.integers(-25, 26, (2, 3)), int(rng.integers(8, 30))
    return two[np.broadcast_to(np.arange(size[1]) // width % 2, size)] + 10.0 * (noise(rng, size, 1.0)[..., None] - 0.5)


# What may be below, behind a room, and far away: label → its surfaces.
Surface = Callable[[Rng, tuple[int, int]], np.ndarray]
GROUNDS: dict[str, tuple[Surface, ...]] = {
    "grass": (_grass,),
    "sand": (_sand,),
    "water": (_water,),
    "snow": (_snow,),
    "rock": (_rock,),
    "soil": (_soil,),
    "road": (_road,),
    "pavement": (_slabs,),
}
FLOORS: tuple[Surface, ...] = (_planks, _tiles, _carpet, _slabs)
WALLS: tuple[Surface, ...] = (_plaster, _plaster, _bricks, _stripes, _planks, _tiles)
FAR: dict[str, Surface] = {"forest": _forest, "mountain": _rock}
PLASTER, BRICKS = _plaster, _bricks


def tinted(rng: Rng, image: np.ndarray, strength: float = 0.12) -> np.ndarray:
    """(H, W, 3) float32: another light: brighter or darker, warmer or colder."""
    light = rng.uniform(1 - strength, 1 + strength, 3) * rng.uniform(0.8, 1.15)
    return np.clip(image * light, 0, 255).astype(np.float32)


def ground(rng: Rng, surface: Surface, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32: `surface` from the horizon, at the top, to the feet of the camera, in perspective."""
    tile = surface(rng, (TILE, TILE)).astype(np.float32)
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    # How many px of the tile one px of the image is wide; about 1 at the bottom.
    coarse = size_hw[0] * rng.uniform(0.6, 1.3) / (rows + 1)
    across, along = (columns - size_hw[1] / 2) * coarse, size_hw[0] * coarse
    image = np.zeros((*size_hw, 3), np.float32)
    # The farther, the blunter: three steps, mixed by how coarse they are.
    for level, blur in ((1.0, 0.0), (4.0, 2.0), (16.0, 8.0)):
        soft = cv2.GaussianBlur(tile, (0, 0), blur, borderType=cv2.BORDER_REFLECT) if blur else tile
        seen = cv2.remap(soft, across % TILE, along % TILE, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        share = np.clip(1 - np.abs(np.log(np.clip(coarse, 1, 16) / level)) / np.log(4), 0, 1)
        image += share[..., None] * seen
    return image


def sky(rng: Rng, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32: clear, clouded, grey or at sunset."""
    tops = [(70, 120, 190), (110, 160, 215), (165, 175, 185), (90, 90, 130), (200, 205, 210)]
    lows = [(175, 205, 230), (210, 225, 238), (205, 208, 212), (240, 170, 110), (236, 236, 234)]
    kind = rng.integers(len(tops))
    down = np.linspace(0, 1, size_hw[0])[:, None, None]
    clear = np.array(tops[kind]) * (1 - down) + np.array(lows[kind]) * down
    clear = np.broadcast_to(clear, (*size_hw, 3))
    cover = np.clip((noise(rng, size_hw, 1.9, 1.8) - rng.uniform(0.35, 0.9)) * rng.uniform(2, 5), 0, 1)[..., None]
    clouds = paint(noise(rng, size_hw, 1.6, 1.6), [(165, 170, 180), (235, 236, 240), (255, 255, 255)])
    return (clear * (1 - cover) + clouds * cover).astype(np.float32)
