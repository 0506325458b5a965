"""Exports beside COCO → whether they are there, and say what instances.json and the pixels do."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fusion.formats.labelstudio import brush_rle
from fusion.formats.parquet import check_parquet
from fusion.formats.schema import (
    INSTANCES,
    LABELSTUDIO,
    LABELSTUDIO_CONFIG,
    PARQUET,
    POLYGON,
    POLYGON_CENTERS,
    RUN,
    YOLO_DATA,
)
from fusion.formats.yolo import drawn
from fusion.runs.choices import Export
from fusion.runs.outputs import output_file, yolo_image
from fusion.validate.documents import load
from fusion.validate.faults import Check, Fault, Json, difference, is_there
from fusion.validate.images import ImageFacts
from fusion.validate.regions import decode_polygons
from ground.files import read_own
from ground.label_maps import pixel_counts

_POLYGONS = {Export.POLYGON: POLYGON, Export.POLYGON_CENTERS: POLYGON_CENTERS}


@dataclass(frozen=True)
class Extras:
    """What the files about all images say, as far as they can be read."""

    exports: tuple[Export, ...] = ()
    shapes: Mapping[Export, Mapping[int, Any]] = field(default_factory=dict)  # annotation → its polygons
    tasks: Mapping[str, Json] | None = None  # output name of the image → its task


def read_extras(output: Path, run: Json, instances: Json, results: list[Json] | None) -> Check[Extras]:
    """The files about all images of the exports that run.json names, compared with instances.json."""
    for name in run.get("exports", ()):
        if name not in Export.values():
            yield Fault(RUN, f"exports name {name!r}, expected some of {', '.join(Export.values())}")
    exports = tuple(export for export in Export if export in run.get("exports", ()))
    if Export.YOLO in exports:
        yield from _yolo_faults(output, instances)
    if Export.PARQUET in exports and results is not None:
        yield from _parquet_faults(output, instances, results)
    shapes = {}
    for export in exports:
        if export in _POLYGONS:
            shapes[export] = yield from _read_polygons(output, _POLYGONS[export], instances)
    tasks = (yield from _read_tasks(output, run, instances)) if Export.LABELSTUDIO in exports else None
    return Extras(exports, shapes, tasks)


def extra_image_faults(
    output: Path, image: ImageFacts, owners: NDArray[np.int32], extras: Extras, categories: Sequence[Json]
) -> Iterator[Fault]:
    """What an image has of exports, against its px: `owners` (H, W) is i where annotations[i - 1] is, else 0."""
    if Export.YOLO in extras.exports:
        yield from _label_faults(output, image, owners)
    areas = pixel_counts(owners, len(image.annotations) + 1)
    for export, shapes in extras.shapes.items():
        path = output_file(Path(), str(export), image.name).as_posix()
        found = [shapes.get(annotation["id"]) for annotation in image.annotations]
        if (kept := (yield from _json_of(output, path))) is not None:
            yield from difference(path, f"polygons, against {_POLYGONS[export]}", kept, found)
        for number, shape in enumerate(found, start=1):
            where = f"annotation {image.annotations[number - 1]['id']}"
            yield from _polygon_faults(_POLYGONS[export], where, shape, owners, number, int(areas[number]))
    if extras.tasks is not None:
        path = output_file(Path(), "labelstudio", image.name).as_posix()
        task = extras.tasks.get(image.name, {})
        if (kept := (yield from _json_of(output, path))) is not None and kept != task.get("predictions"):
            yield Fault(LABELSTUDIO, f"image {image.name}: its predictions are not those of {path}")
        yield from _task_faults(image, owners, task, {one["id"]: one["name"] for one in categories})


def _yolo_faults(output: Path, instances: Json) -> Iterator[Fault]:
    if not (yield from is_there(output, YOLO_DATA)):
        return
    expected = {
        "train": "images",
        "val": "images",
        "names": {one["id"] - 1: one["name"] for one in instances["categories"]},
    }
    try:
        data = yaml.safe_load(read_own(output / YOLO_DATA).decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield Fault(YOLO_DATA, f"cannot be read: {error}")
        return
    if data != expected:
        yield Fault(YOLO_DATA, f"says {reprlib.repr(data)}, expected {reprlib.repr(expected)}")


def _label_faults(output: Path, image: ImageFacts, owners: NDArray[np.int32]) -> Iterator[Fault]:
    """Its label file, drawn: the category of every px, and none twice; its image beside it."""
    path = output_file(Path(), "yolo/labels", image.name).as_posix()
    shown = yolo_image(Path(), image.name, image.source)
    if not os.path.lexists(output / shown):
        yield Fault(shown.as_posix(), "missing: the next run puts it there")
    if not (yield from is_there(output, path)):
        return
    try:
        classes, twice = drawn(read_own(output / path).decode("ascii"), image.size_hw)
    except (OSError, ValueError) as error:
        yield Fault(path, str(error))
        return
    expected = np.array([0, *(annotation["category_id"] for annotation in image.annotations)], np.int32)[owners]
    if wrong := np.count_nonzero(classes != expected):
        yield Fault(path, f"{wrong} px differ, as they are drawn, from the masks of the annotations")
    if twice:
        yield Fault(path, f"{twice} px are drawn twice, expected no overlap")


def _read_polygons(output: Path, name: str, instances: Json) -> Check[Mapping[int, Any]]:
    """Annotation → its polygons; what else is in the file must be that of instances.json."""
    document = yield from load(output, name, dict)
    if document is None:
        return {}
    for key in ("info", "licenses", "images", "categories"):
        if document.get(key) != instances[key]:
            yield Fault(name, f"{key} are not those of {INSTANCES}")
    try:
        bare = [{**one, "segmentation": None} for one in document["annotations"]]
        shapes = {one["id"]: one["segmentation"] for one in document["annotations"]}
    except (KeyError, TypeError):
        yield Fault(name, "has annotations that are none")
        return {}
    expected = [{**one, "segmentation": None} for one in instances["annotations"]]
    yield from difference(name, f"annotations, against {INSTANCES}", bare, expected)
    return shapes


def _polygon_faults(
    name: str, where: str, shape: Any, owners: NDArray[np.int32], number: int, area: int
) -> Iterator[Fault]:
    """Whether polygons are the px of a `number` in `owners` (H, W), of which there are `area`."""
    try:
        if not isinstance(shape, list):
            raise ValueError(f"segmentation is {reprlib.repr(shape)}, expected polygons")
        height, width = owners.shape
        region = decode_polygons(shape, (height, width), centers=name == POLYGON_CENTERS)
    except ValueError as error:
        yield Fault(name, f"{where}: {error}")
        return
    if region.area != area or ((owners[region.window] == number) != region.inside).any():
        yield Fault(name, f"{where}: its polygons are not its mask")


def _read_tasks(output: Path, run: Json, instances: Json) -> Check[Mapping[str, Json] | None]:
    yield from is_there(output, LABELSTUDIO_CONFIG)
    tasks = yield from load(output, LABELSTUDIO, list)
    if tasks is None:
        return None
    names = {image["file_name"]: image["name"] for image in run["images"]}
    listed = [names.get(image["file_name"], "") for image in instances["images"]]
    if len(tasks) != len(listed) or not all(isinstance(task, dict) for task in tasks):
        yield Fault(LABELSTUDIO, f"holds {len(tasks)} tasks, expected {len(listed)}, one per image of {INSTANCES}")
        return None
    return dict(zip(listed, tasks, strict=True))


def _task_faults(image: ImageFacts, owners: NDArray[np.int32], task: Json, names: Mapping[int, str]) -> Iterator[Fault]:
    """Its brush regions: the labels and masks of the annotations, in their order."""
    try:
        (prediction,) = task["predictions"]
        values = [region["value"] for region in prediction["result"]]
        found = [(value["brushlabels"], value["rle"]) for value in values]
    except (KeyError, TypeError, ValueError):
        yield Fault(LABELSTUDIO, f"image {image.name}: its task is {reprlib.repr(task)}, expected one prediction")
        return
    expected = [
        ([names.get(annotation["category_id"])], brush_rle(owners == number))
        for number, annotation in enumerate(image.annotations, start=1)
    ]
    yield from difference(LABELSTUDIO, f"image {image.name}: labels and masks, against {INSTANCES}", found, expected)


def _parquet_faults(output: Path, instances: Json, results: list[Json]) -> Iterator[Fault]:
    """Its rows, if pyarrow is there: the annotations, one by one."""
    if not (yield from is_there(output, PARQUET)):
        return
    try:
        check_parquet()
        from pyarrow import parquet

        found = parquet.read_table(output / PARQUET).to_pylist()
    except ValueError as error:
        if "pip install" not in str(error):
            yield Fault(PARQUET, f"cannot be read: {error}")
        return
    except OSError as error:
        yield Fault(PARQUET, f"cannot be read: {error}")
        return
    images = {image["id"]: image for image in instances["images"]}
    expected = []
    for annotation, result in zip(instances["annotations"], results, strict=False):
        image, evidence = images.get(annotation["image_id"], {}), annotation["evidence"]
        expected.append(
            {
                "key": str(image.get("file_name")).encode("utf-8", "backslashreplace").decode("utf-8"),
                "size": [image.get("height"), image.get("width")],
                "category_id": annotation["category_id"],
                "rle": result["segmentation"].get("counts") if isinstance(result["segmentation"], dict) else None,
                "bbox": annotation["bbox"],
                "area": annotation["area"],
                **{key: evidence[key] for key in ("score", "share", "runner_up", "margin", "mask_ids")},
            }
        )
    yield from difference(PARQUET, f"rows, against annotations of {INSTANCES}", found, expected)


def _json_of(output: Path, path: str) -> Check[Any]:
    """What the file of an image holds; None, and a fault, if that cannot be read."""
    return (yield from load(output, path, list))
