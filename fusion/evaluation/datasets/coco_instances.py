"""COCO's instance annotations, drawn as a label map: what COCO-Object is made from where there are no label maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.datasets.base import Dataset, Sample
from fusion.evaluation.datasets.coco_ids import IDS, NUM_THINGS
from fusion.evaluation.datasets.files import check_files, read_records
from fusion.evaluation.datasets.indices import class_regions
from ground.images import read_image
from ovseg.labels import Label

INSTANCES = "annotations/instances_val2017.json"


def from_instances(path: Path, images: Path, labels: tuple[Label, ...], background: tuple[Label, ...] = ()) -> Dataset:
    """COCO's 80 things over the background 0; of objects that overlap the later one is on top, and crowds lie below."""
    records = read_records(path, "images", "annotations")
    classes = {id_: index for index, id_ in enumerate(IDS[:NUM_THINGS], start=1)}
    try:
        files = {Path(image["file_name"]).stem: (image["id"], Path(image["file_name"]).name) for image in records[0]}
        drawn: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        for annotation in sorted(records[1], key=lambda annotation: not annotation.get("iscrowd", 0)):
            drawn[annotation["image_id"]].append((classes[annotation["category_id"]], annotation["segmentation"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no file of COCO instances ({type(error).__name__}: {error})") from None
    check_files([images / file for _, file in files.values()])

    def load(name: str) -> Sample:
        image_id, file = files[name]
        image = read_image(images / file)
        try:
            truth = draw(drawn[image_id], image.shape[:2])
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ValueError(f"{path}: objects of {file} cannot be drawn: {' '.join(str(error).split())}") from None
        return Sample(name, image, truth, class_regions(truth))

    return Dataset(labels, tuple(files), load, background)


def draw(objects: Sequence[tuple[int, Any]], size_hw: tuple[int, ...]) -> NDArray[np.int32]:
    """(H, W) int32: objects (class, COCO's segmentation: polygons or RLE) one over the other; 0 where there is none.

    ValueError on a segmentation of another size.
    """
    from pycocotools import mask as coco_mask

    truth = np.zeros(size_hw, np.int32)
    for class_id, segmentation in objects:
        if isinstance(segmentation, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size_hw))
        elif isinstance(segmentation["counts"], list):
            rle = coco_mask.frPyObjects(segmentation, *segmentation["size"])
        else:
            rle = segmentation
        if tuple(rle["size"]) != tuple(size_hw):
            raise ValueError(f"RLE of size {tuple(rle['size'])}, expected its image's size {tuple(size_hw)}")
        truth[coco_mask.decode(rle).astype(bool)] = class_id
    return truth
