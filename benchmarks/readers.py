"""What other programs read from our files: their masks against our panoptic PNGs, for every style of segmentation.

    pip install -e ".[readers]"
    python -m benchmarks.readers PHOTOS [--labels "dog, grass, sky [stuff]"] [--masks slic] [--limit 6]

`emerseg segment` runs once for each style; then each reader reads the folder by its own code. IoU is that of a region
as the reader has it with the region in our PNG: the mean over all regions, and the worst. "refused" says what the
reader raised. Readers that are not installed are named and left out. COCOeval and panopticapi compare our predictions
with our ground truth: all is equal, so that both must say 1. Run it from the root of the repository.

Of ultralytics its converter alone is used, which needs few of its dependencies: docs/readers.md has the commands that
install all readers, and the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.draw import polygon as inner_pixels

from emerseg import RunSpec, run_folder
from fusion.cli.labels import labels_of
from fusion.formats.panoptic import read_ids
from fusion.step.choices import MaskSource, SegmentationStyle
from ground.weights import one_line

# Else it would install what it misses by itself.
os.environ["YOLO_AUTOINSTALL"] = "false"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Folder:
    """What was written for one style, as readers are given it."""

    output: Path
    images: Path  # folder that file names are relative to
    coco: COCO

    @property
    def instances(self) -> Path:
        return self.output / "instances.json"

    def size_hw(self, image_id: int) -> tuple[int, int]:
        image = self.coco.imgs[image_id]
        return image["height"], image["width"]

    def drawn(self, draw: Callable[[NDArray[np.float64], tuple[int, int]], Mask]) -> Iterator[tuple[int, Mask]]:
        """Every annotation as the union of its polygons, each drawn by itself."""
        for number, annotation in self.coco.anns.items():
            shapes = annotation["segmentation"]
            if isinstance(shapes, dict):
                raise ValueError("knows no RLE")
            size_hw = self.size_hw(annotation["image_id"])
            yield number, np.any([draw(np.reshape(shape, (-1, 2)), size_hw) for shape in shapes], axis=0)


def pycocotools(folder: Folder) -> Iterator[tuple[int, Mask]]:
    for number, annotation in folder.coco.anns.items():
        yield number, folder.coco.annToMask(annotation) > 0


def torchvision(folder: Folder) -> Iterator[tuple[int, Mask]]:
    from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2

    data = CocoDetection(str(folder.images), str(folder.instances))
    for image_id, (_, target) in zip(data.ids, wrap_dataset_for_transforms_v2(data, ["masks"]), strict=True):
        numbers = folder.coco.getAnnIds(image_id)
        yield from zip(numbers, target["masks"].numpy() > 0 if numbers else (), strict=True)


def supervision(folder: Folder) -> Iterator[tuple[int, Mask]]:
    from supervision import DetectionDataset

    data = DetectionDataset.from_coco(str(folder.images), str(folder.instances), force_masks=True)
    for image_id, image in folder.coco.imgs.items():
        numbers = folder.coco.getAnnIds(image_id)
        yield from zip(numbers, data.annotations[str(folder.images / image["file_name"])].mask, strict=True)


def ultralytics(folder: Folder) -> Iterator[tuple[int, Mask]]:
    """COCO → YOLO's label files by its converter, and masks from these by its loader."""
    from ultralytics.data.converter import convert_coco
    from ultralytics.data.utils import polygon2mask

    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "coco")
        source.mkdir()
        (source / "instances.json").symlink_to(folder.instances.resolve())
        convert_coco(str(source), str(Path(temporary, "yolo")), use_segments=True, cls91to80=False)
        files = {path.stem: path for path in Path(temporary, "yolo").rglob("*.txt")}
        for image_id, image in folder.coco.imgs.items():
            numbers = folder.coco.getAnnIds(image_id)
            rows = files[Path(image["file_name"]).stem].read_text().splitlines() if numbers else []
            height, width = folder.size_hw(image_id)
            for number, row in zip(numbers, rows, strict=True):
                points = np.array(row.split()[1:], np.float32).reshape(-1, 2) * (width, height)
                yield number, polygon2mask((height, width), [points.ravel()]) > 0


def label_studio(folder: Folder) -> Iterator[tuple[int, Mask]]:
    """COCO → its tasks, with a polygon for each of ours, which a browser fills."""
    from label_studio_sdk.converter.imports.coco import convert_coco_to_ls

    with tempfile.TemporaryDirectory() as temporary:
        tasks = Path(temporary, "tasks.json")
        convert_coco_to_ls(str(folder.instances), str(tasks))
        for image_id, task in zip(sorted(folder.coco.imgs), json.loads(tasks.read_text()), strict=True):
            size_hw = folder.size_hw(image_id)
            found = [one["value"] for one in task["annotations"][0]["result"] if one["type"] == "polygonlabels"]
            drawn = iter([on_canvas(np.array(one["points"]) * size_hw[::-1] / 100, size_hw) for one in found])
            for annotation in folder.coco.imgToAnns[image_id]:
                yield annotation["id"], np.any([next(drawn) for _ in annotation["segmentation"]], axis=0)


def on_canvas(points: NDArray[np.float64], size_hw: tuple[int, int]) -> Mask:
    """The pixels whose centres lie within a polygon (N, 2) of the plane, as browsers fill it."""
    mask = np.zeros(size_hw, bool)
    mask[inner_pixels(points[:, 1] - 0.5, points[:, 0] - 0.5, size_hw)] = True
    return mask


def by_opencv(points: NDArray[np.float64], size_hw: tuple[int, int]) -> Mask:
    mask = np.zeros(size_hw, np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask > 0


def by_pillow(points: NDArray[np.float64], size_hw: tuple[int, int]) -> Mask:
    mask = Image.new("1", size_hw[::-1])
    ImageDraw.Draw(mask).polygon([tuple(point) for point in np.round(points)], fill=1, outline=1)
    return np.array(mask)


READERS: dict[str, Callable[[Folder], Iterator[tuple[int, Mask]]]] = {
    "pycocotools": pycocotools,
    "torchvision": torchvision,
    "supervision": supervision,
    "ultralytics, converter": ultralytics,
    "Label Studio, converter": label_studio,
    "a browser's canvas": lambda folder: folder.drawn(on_canvas),
    "OpenCV, fillPoly": lambda folder: folder.drawn(by_opencv),
    "Pillow, polygon": lambda folder: folder.drawn(by_pillow),
}


def agreement(folder: Folder, reader: Callable[[Folder], Iterator[tuple[int, Mask]]]) -> str:
    """The mean and the worst IoU over all annotations, or what there is instead."""
    expected = {
        entry["image_id"]: read_ids(folder.output / "panoptic" / entry["file_name"])
        for entry in json.loads((folder.output / "panoptic.json").read_text())["annotations"]
    }
    found: dict[int, float] = {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for number, mask in reader(folder):
                ours = expected[folder.coco.anns[number]["image_id"]] == number
                found[number] = (mask & ours).sum() / (mask | ours).sum()
    except ModuleNotFoundError as error:
        return f"not installed: {error.name}"
    except Exception as error:  # whatever another program raises is the answer
        return f"refused: {type(error).__name__} {one_line(error)}"[:70]
    if found.keys() != folder.coco.anns.keys():
        return f"{len(found)} of {len(folder.coco.anns)} annotations"
    values = np.array(list(found.values()))
    return f"mean {values.mean():.4f}  worst {values.min():.4f}"


def cocoeval(folder: Folder) -> str:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(folder.coco, folder.coco.loadRes(str(folder.output / "results.json")), "segm")
        # An image may have more regions than the usual 100.
        evaluation.params.maxDets = [10_000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return f"AP {precision[precision > -1].mean():.4f}"


def panopticapi(folder: Folder) -> str:
    try:
        from panopticapi.evaluation import pq_compute_single_core
    except ModuleNotFoundError as error:
        return f"not installed: {error.name}"
    document: dict[str, Any] = json.loads((folder.output / "panoptic.json").read_text())
    categories = {category["id"]: category for category in document["categories"]}
    pairs = [(entry, entry) for entry in document["annotations"]]
    pngs = str(folder.output / "panoptic")
    with contextlib.redirect_stdout(io.StringIO()):
        stat = pq_compute_single_core(0, pairs, pngs, pngs, categories)
    return f"PQ {stat.pq_average(categories, isthing=None)[0]['pq']:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of images")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--labels", default="person, dog, car, tree, building, road, grass, water, sky")
    parser.add_argument("--masks", default="slic", choices=MaskSource.values())
    parser.add_argument("--limit", type=int, default=6, help="images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for style in SegmentationStyle.values():
            output = Path(temporary, style)
            spec = RunSpec(arguments.preset, labels_of(arguments.labels), masks=arguments.masks, segmentation=style)
            outcomes = run_folder(spec, arguments.photos, output, limit=arguments.limit)
            with contextlib.redirect_stdout(io.StringIO()):
                folder = Folder(
                    output,
                    Path(os.path.commonpath([Path(one.source).parent for one in outcomes])),
                    COCO(output / "instances.json"),
                )
            print(f"\n{style}: {len(folder.coco.imgs)} images, {len(folder.coco.anns)} annotations")
            for name, reader in READERS.items():
                print(f"  {name:24} {agreement(folder, reader)}", flush=True)
            for name, evaluate in (("COCOeval, results.json", cocoeval), ("panopticapi", panopticapi)):
                print(f"  {name:24} {evaluate(folder)}", flush=True)


if __name__ == "__main__":
    main()
