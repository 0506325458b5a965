"""A user's folder of noise images, and a preset of tiny random models that can be adapted to it within a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from tiny_emerdiff import save_folder
from tiny_ovseg import save_with_bert

_VISION = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": None, "image_size": 64}
NAMES = ("road", "sky")


def save_images(folder: Path, names: list[str], size_wh: tuple[int, int] = (70, 40)) -> None:
    """Noise images at those paths in `folder`."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size_wh[::-1], 3), np.uint8)).save(folder / name)


def save_user_folder(folder: Path) -> Path:
    """40 images in two sources, tagged in captions.csv; the 20 streets have label maps: sky above road."""
    streets = [f"images/streets/{index:02}.png" for index in range(20)]
    pets = [f"images/pets/{index:02}.png" for index in range(20)]
    save_images(folder, streets + pets)
    rows = [f"{path},road;sky," for path in streets]
    rows += [f"{path},{'cat' if index % 2 else 'dog'},a {index % 4} in a photo" for index, path in enumerate(pets)]
    (folder / "captions.csv").write_text("\n".join(["path,tags,caption", *rows]) + "\n")
    maps = folder / "labels/streets"
    maps.mkdir(parents=True)
    (maps / "names.txt").write_text("\n".join(NAMES) + "\n")
    truth = np.repeat(np.uint8([1, 0]), 20)[:, None].repeat(70, axis=1)
    for index in range(20):
        Image.fromarray(truth).save(maps / f"{index:02}.png")
    return folder


def save_start(folder: Path) -> Path:
    """A preset of tiny models that the trainers can adapt; its path."""
    save_with_bert(folder / "clip", _VISION)
    emerdiff = {
        "model": str(save_folder(folder / "sd", "mini")),
        "license": "nobody's",
        "image_size": 64,
        "num_timesteps": 100,
        "timestep_modulate": 11,
        "clusters": 3,
        "speed": "instant",
    }
    ovseg = {"model": f"local-dir:{folder / 'clip'}", "license": "everybody's", "image_size": 64}
    path = folder / "start.yaml"
    path.write_text(yaml.safe_dump({"description": "tiny", "emerdiff": emerdiff, "ovseg": ovseg}))
    return path


def save_label_maps(folder: Path, source: str, names: list[str], truth: np.ndarray, count: int = 10) -> None:
    """`count` times the same label map (H, W) uint8, labels/SOURCE/00.png and so on, with the names of its labels."""
    target = folder / "labels" / source
    target.mkdir(parents=True)
    (target / "names.txt").write_text("".join(f"{name}\n" for name in names))
    for index in range(count):
        Image.fromarray(truth).save(target / f"{index:02}.png")
