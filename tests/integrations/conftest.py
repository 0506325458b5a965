"""For the tests of annotation tools: one image, and what `emerseg segment` writes of it, to compare with."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_cli import emerseg

from fusion.formats.panoptic import read_ids

# Before fiftyone is imported: the user's database and settings stay as they are, and nothing is reported.
_FIFTYONE = Path(tempfile.gettempdir()) / "emerseg-test-fiftyone"
os.environ["FIFTYONE_DATABASE_DIR"] = str(_FIFTYONE / "database")
os.environ["FIFTYONE_MODEL_ZOO_DIR"] = str(_FIFTYONE / "zoo")
os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"

LABELS = "cat, grass [stuff], sky [stuff]"
NAMES = ("cat", "grass", "sky")


@dataclass(frozen=True)
class Folder:
    """An image and the output folder of `emerseg segment`."""

    image: Path
    preset: Path
    annotations: list[dict]
    scores: list[float]  # of results.json, in the order of the annotations
    panoptic: np.ndarray  # (H, W) ids
    semantic: np.ndarray  # (H, W) category ids

    @property
    def masks(self) -> list[np.ndarray]:
        """(H, W) bool of each annotation, from the panoptic PNG."""
        return [self.panoptic == annotation["id"] for annotation in self.annotations]

    @property
    def names(self) -> list[str]:
        return [NAMES[annotation["category_id"] - 1] for annotation in self.annotations]

    def assert_same_pixels(self, masks: list[np.ndarray], names: list[str]) -> None:
        """Region by region as the panoptic PNG, and all of a label together as the semantic PNG."""
        assert names == self.names
        for mask, expected in zip(masks, self.masks, strict=True):
            np.testing.assert_array_equal(mask, expected)
        for number, name in enumerate(NAMES, start=1):
            of_label = [mask for mask, other in zip(masks, names, strict=True) if other == name]
            whole = np.any(of_label, axis=0) if of_label else np.zeros(self.semantic.shape, bool)
            np.testing.assert_array_equal(whole, self.semantic == number)


@pytest.fixture(scope="session")
def folder(tiny_preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("tools")
    image, output = root / "photo.png", root / "out"
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(cv2.resize(pixels, (80, 60), interpolation=cv2.INTER_CUBIC)).save(image)
    assert emerseg("segment", image, "--labels", LABELS, "--output", output, "--preset", tiny_preset) == 0
    annotations = json.loads((output / "instances.json").read_text())["annotations"]
    results = json.loads((output / "results.json").read_text())
    assert [result["segmentation"] for result in results] == [one["segmentation"] for one in annotations]
    with Image.open(output / "semantic/photo.png") as semantic:
        categories = np.asarray(semantic)
    found = Folder(
        image,
        tiny_preset,
        annotations,
        [result["score"] for result in results],
        read_ids(output / "panoptic/photo.png"),
        categories,
    )
    # Else the tests would show little.
    assert len(annotations) > 3 and len({one["category_id"] for one in annotations}) > 1
    return found
