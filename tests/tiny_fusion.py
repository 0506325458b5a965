"""Small inputs of the fusion step: literal masks and coarse maps, and a preset of tiny random models on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from emerdiff import Masks
from ovseg import CoarseMap, Label


def masks_of(label_map: list[list[int]] | np.ndarray, num_masks: int | None = None) -> Masks:
    """Masks whose label map is given; the rest is filled in."""
    label_map = np.asarray(label_map, np.int32)
    count = int(label_map.max()) + 1 if num_masks is None else num_masks
    return Masks(label_map=label_map, low_res=label_map, features=np.zeros((count, 1), np.float32))


def coarse_of(
    label_map: list[list[int]] | np.ndarray,
    labels: tuple[str | Label, ...] = ("cat", "grass", "sky"),
    background: tuple[str, ...] = (),
    sharpness: float | np.ndarray = 4.0,
) -> CoarseMap:
    """A coarse map at full resolution: every pixel is sure of its label by `sharpness` (H, W) over all others.

    Its embeddings are unit vectors, one per label.
    """
    label_map = np.asarray(label_map, np.int32)
    one_hot = (label_map == np.arange(len(labels))[:, None, None]).astype(np.float32)  # L x H x W
    named = tuple(label if isinstance(label, Label) else Label(label) for label in labels)
    return CoarseMap(
        labels=named,
        label_map=label_map,
        logits=(one_hot * sharpness).astype(np.float32),
        embeddings=one_hot,
        text_embeddings=np.eye(len(labels), dtype=np.float32),
        background=tuple(label for label in named if label.name in background),
    )


def save_preset(folder: Path, layout: str = "mini") -> Path:
    """Write tiny models and a preset of them into `folder`; the path of the preset. An image takes about 0.2 s.

    `layout` is one of `tiny_emerdiff.UNETS`; CLIP is shaped as open_clip's ViT-B-16.
    """
    from tiny_emerdiff import save_folder
    from tiny_ovseg import save_with_own_tokenizer

    save_with_own_tokenizer(folder / "clip")
    emerdiff = {
        "model": str(save_folder(folder / "sd", layout)),
        "image_size": 64 if layout == "mini" else 128,
        "num_timesteps": 100,
        "timestep_modulate": 11,
        "clusters": 3,
        "batch_size": 8,
    }
    ovseg = {"model": f"local-dir:{folder / 'clip'}", "image_size": 64}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"description": "tiny", "emerdiff": emerdiff, "ovseg": ovseg}))
    return path
