"""Views into photographed panoramas (CC0, npm's @pmndrs/assets): real places for things to stand in."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from training.free.scenes import Scene
from training.free.textures import Rng, tinted

# What is all around in each, at the height of the eyes; none of it is known pixel by pixel.
PANORAMAS: dict[str, tuple[str, ...]] = {
    "apartment": ("wall", "floor"),
    "city": ("street", "sky", "building"),
    "dawn": ("rock", "sky"),
    "forest": ("forest", "tree", "ground"),
    "hall": ("floor", "ceiling"),
    "lobby": ("floor", "wall", "ceiling"),
    "night": ("grass", "sky"),
    "park": ("grass", "sky"),
    "sunrise": ("grass", "sky"),
    "sunset": ("pavement", "sky"),
    "venice": ("pavement", "sky"),
    "warehouse": ("floor", "ceiling"),
}
# What a pixel shows that nobody has named.
UNKNOWN = ""
# Of the whole turn, in radians: how much a view shows across.
ACROSS = (1.2, 1.9)


def read_panoramas(folder: Path) -> dict[str, np.ndarray]:
    """(H, 2H, 3) float32, 0 … 255, of each of PANORAMAS; `folder` holds NAME.exr.js. Needs the package OpenEXR."""
    return {name: read_panorama(folder / f"{name}.exr.js") for name in PANORAMAS}


def read_panorama(path: Path) -> np.ndarray:
    """(H, 2H, 3) float32, 0 … 255, of an OpenEXR file, or of a JavaScript module that exports one in base 64."""
    if path.suffix != ".js":
        return _developed(_light(path))
    encoded = path.read_text(encoding="utf-8").partition("base64,")[2].partition("'")[0]
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(base64.b64decode(encoded))
        file.flush()
        return _developed(_light(Path(file.name)))


def _light(path: Path) -> np.ndarray:
    """(H, W, 3) float32: the linear light in an OpenEXR file."""
    import OpenEXR

    return np.asarray(OpenEXR.File(str(path)).channels()["RGB"].pixels, np.float32)


def _developed(light: np.ndarray) -> np.ndarray:
    """Linear light as an image: a middling exposure, with a shoulder for the brightest."""
    exposed = 0.5 * np.clip(np.nan_to_num(light), 0, 1e4) / max(float(np.percentile(light, 70)), 1e-3)
    return (255 * np.clip(exposed / (1 + 0.4 * exposed), 0, 1) ** (1 / 2.2)).astype(np.float32)


def panorama_scene(panoramas: dict[str, np.ndarray]) -> Callable[[Rng, tuple[int, int]], Scene]:
    """A maker of scenes: a random view of a random panorama, of which no pixel is named."""
    names = sorted(panoramas)

    def scene(rng: Rng, size_hw: tuple[int, int]) -> Scene:
        name = names[rng.integers(len(names))]
        across, turn, tilt = rng.uniform(*ACROSS), rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.1)
        image = tinted(rng, view(panoramas[name], size_hw, across, turn, tilt), 0.05)
        focal = size_hw[1] / 2 / np.tan(across / 2)
        horizon = size_hw[0] / 2 + focal * np.tan(tilt)
        return Scene(
            image, np.zeros(size_hw, np.int32), [UNKNOWN], float(horizon), rng.uniform(140, 180), PANORAMAS[name]
        )

    return scene


def view(
    panorama: np.ndarray,
    size_hw: tuple[int, int],
    across: float,
    turn: float,
    tilt: float,
    interpolation: int = cv2.INTER_CUBIC,
) -> np.ndarray:
    """(h, w, …): what a camera sees that shows the angle `across`, turned by `turn`, looking up by `tilt`."""
    height, width = size_hw
    focal = width / 2 / np.tan(across / 2)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = (columns - (width - 1) / 2) / focal, ((height - 1) / 2 - rows) / focal
    up, ahead = y * np.cos(tilt) + np.sin(tilt), np.cos(tilt) - y * np.sin(tilt)
    longitude = np.arctan2(x, ahead) + turn
    latitude = np.arctan2(up, np.hypot(x, ahead))
    from_left = (longitude / (2 * np.pi) % 1) * panorama.shape[1]
    from_top = (0.5 - latitude / np.pi) * (panorama.shape[0] - 1)
    return cv2.remap(
        panorama, from_left.astype(np.float32), from_top.astype(np.float32), interpolation, borderMode=cv2.BORDER_WRAP
    )
