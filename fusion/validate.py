"""Is an output folder whole, and do all its files say the same? A folder of `emerseg segment` → its faults.

Documents are read first, then compared with each other, then with the pixels, one picture in memory at a time. Every
step yields the faults that it finds, and returns what the next ones can use: None where that is damaged.
"""

from __future__ import annotations

import io
import json
import os
import re
import reprlib
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from scipy.ndimage import binary_fill_holes

from emerdiff import Masks
from fusion.batch import JOURNAL, PENDING, RUN
from fusion.config import MASK_SOURCES, NO_MASKS, SEGMENTATIONS
from fusion.outputs import INSTANCES, PANOPTIC, REPORT, RESULTS, folders, output_file
from fusion.panoptic import MAX_ID, read_ids
from fusion.semantic import MAX_PALETTE_LABELS

T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with an output folder."""

    path: str  # of the file, relative to the folder, with "/"
    message: str  # what is wrong: found and expected


Check = Generator[Fault, None, T]  # yields faults, returns what it has read


def validate(output: Path) -> Iterator[Fault]:
    """The faults of the folder `output`; none if it is valid.

    What a missing or damaged file would be needed for is not looked at: the faults that are left show when that file
    is whole again. Raises ValueError if `output` is no folder, or one without any file of `emerseg segment`.
    """
    _check_folder(output)
    yield from _unfinished(output)
    run = yield from _read_run(output)
    instances = yield from _read_document(output, INSTANCES, _ANNOTATION)
    results = yield from _read_results(output)
    panoptic = yield from _read_document(output, PANOPTIC, _PANOPTIC_ENTRY)
    if not (output / REPORT).is_file():
        yield Fault(REPORT, "missing")
    if run is not None:
        yield from _run_faults(run)
        yield from _journal_faults(output, run)
        yield from _strays(output, run)
    if instances is None:
        return
    yield from _instances_faults(instances)
    if results is not None:
        yield from _results_faults(results, instances)
    if panoptic is not None:
        yield from _panoptic_faults(panoptic, instances)
    yield from _pycocotools_faults(output, with_results=bool(results))
    if run is not None:
        yield from _agreement_with_run(run, instances, panoptic)
        for picture in _pictures(run, instances, results, panoptic):
            yield from _picture_faults(output, picture, instances["categories"], with_masks=run["masks"] != NO_MASKS)


def count(output: Path) -> tuple[int, int]:
    """How many (images, annotations) a valid folder holds."""
    instances = json.loads((output / INSTANCES).read_bytes())
    return len(instances["images"]), len(instances["annotations"])


def _check_folder(output: Path) -> None:
    ours = (INSTANCES, RESULTS, PANOPTIC, RUN, REPORT, JOURNAL)
    if not output.is_dir():
        raise ValueError(f"{'no folder' if not output.exists() else 'no folder but a file:'} {output}")
    if not any((output / name).exists() for name in ours):
        raise ValueError(f"no results of `emerseg segment` in {output}: expected {', '.join(ours[:4])}")


# Documents: what must stand in them, each value by itself

_Kind = tuple[Callable[[Any], bool], str]  # whether a value fits; what is expected


def _is_number(value: object) -> bool:
    whole = type(value) is int and abs(value) <= 2**53  # JSON may hold thousands of digits
    return whole or isinstance(value, float)


def _is_name(value: object) -> bool:
    """Whether files can be called so, in their folder and not elsewhere."""
    if not isinstance(value, str) or value in ("", ".", "..") or {"/", "\0", os.sep} & set(value):
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _list_of(kind: _Kind, length: int | None = None) -> _Kind:
    fits, expected = kind

    def all_fit(value: object) -> bool:
        return isinstance(value, list) and length in (None, len(value)) and all(map(fits, value))

    return all_fit, f"a list of {length or 'any number'} × {expected}"


_OBJECT: _Kind = (lambda value: isinstance(value, dict), "an object")
_LIST: _Kind = (lambda value: isinstance(value, list), "a list")
_TEXT: _Kind = (lambda value: isinstance(value, str), "text")
_TEXT_OR_NULL: _Kind = (lambda value: value is None or isinstance(value, str), "text or null")
_NAME: _Kind = (_is_name, "the name of a file, without folder and suffix")
_NUMBER: _Kind = (_is_number, "a number")
_WHOLE: _Kind = (lambda value: type(value) is int and 0 <= value <= 2**53, "a whole number from 0")
_SIDE: _Kind = (lambda value: type(value) is int and 1 <= value < 2**31, "a whole number of px from 1")
_ID: _Kind = (lambda value: type(value) is int and 0 <= value <= MAX_ID, f"a whole number up to {MAX_ID}")
_BYTE: _Kind = (lambda value: type(value) is int and 0 <= value <= 255, "a whole number from 0 to 255")
_BIT: _Kind = (lambda value: type(value) is int and value in (0, 1), "0 or 1")
_BOX = _list_of(_NUMBER, 4)
_PLACE: _Kind = (lambda value: isinstance(value, (dict, list)), "an RLE or a list of polygons")
_SOURCE: _Kind = (lambda value: value in MASK_SOURCES, f"one of {', '.join(MASK_SOURCES)}")
_SHAPE: _Kind = (lambda value: value in SEGMENTATIONS, " or ".join(SEGMENTATIONS))

_DOCUMENT = {"info": _OBJECT, "licenses": _LIST, "images": _LIST, "annotations": _LIST, "categories": _LIST}
_IMAGE = {"id": _ID, "file_name": _TEXT, "height": _SIDE, "width": _SIDE}
_CATEGORY = {"id": _ID, "name": _TEXT, "supercategory": _TEXT, "isthing": _BIT, "color": _list_of(_BYTE, 3)}
_SEGMENT = {"id": _ID, "category_id": _ID, "area": _WHOLE, "bbox": _BOX, "iscrowd": _WHOLE}
_EVIDENCE = {"score": _NUMBER, "share": _NUMBER, "margin": _NUMBER, "runner_up": _TEXT_OR_NULL}
_ANNOTATION = {
    **_SEGMENT,
    "image_id": _ID,
    "segmentation": _PLACE,
    **_EVIDENCE,
    "mask_ids": _list_of(_WHOLE),
}
_RESULT = {
    "image_id": _ID,
    "category_id": _ID,
    "segmentation": _PLACE,
    "area": _WHOLE,
    "bbox": _BOX,
    "score": _NUMBER,
}
_PANOPTIC_ENTRY = {"image_id": _ID, "file_name": _TEXT, "segments_info": _LIST}
_RUN = {
    "config_hash": _TEXT,
    "masks": _SOURCE,
    "segmentation": _SHAPE,
    "labels": _list_of(_TEXT),
    "background": _list_of(_TEXT),
    "images": _LIST,
}
_RUN_IMAGE = {
    "file_name": _TEXT,
    "name": _NAME,
    "source": _TEXT,
    "status": _TEXT,
    "reason": _TEXT_OR_NULL,
    "seconds": _NUMBER,
}
_RANGES = {"score": (0, 1), "share": (0, 1), "margin": (-1, 1)}


def _read_run(output: Path) -> Check[Json | None]:
    run = yield from _load(output, RUN, dict)
    if run is None:
        return None
    return (yield from _unless_faulty(run, _run_misfits(run)))


def _run_misfits(run: Json) -> Iterator[Fault]:
    yield from _misfits(RUN, "the document", run, _RUN)
    yield from _entry_misfits(RUN, "image", run.get("images"), _RUN_IMAGE)


def _read_document(output: Path, name: str, annotation: Mapping[str, _Kind]) -> Check[Json | None]:
    document = yield from _load(output, name, dict)
    if document is None:
        return None
    return (yield from _unless_faulty(document, _coco_misfits(name, document, annotation)))


def _coco_misfits(name: str, document: Json, annotation: Mapping[str, _Kind]) -> Iterator[Fault]:
    yield from _misfits(name, "the document", document, _DOCUMENT)
    yield from _entry_misfits(name, "image", document.get("images"), _IMAGE)
    yield from _entry_misfits(name, "category", document.get("categories"), _CATEGORY)
    annotations = document.get("annotations")
    yield from _entry_misfits(name, "annotation", annotations, annotation)
    if "segments_info" in annotation and isinstance(annotations, list):
        for place, entry in enumerate(annotations, start=1):
            segments = entry.get("segments_info") if isinstance(entry, dict) else None
            yield from _entry_misfits(name, f"annotation {place}: segment", segments, _SEGMENT)


def _read_results(output: Path) -> Check[list[Json] | None]:
    results = yield from _load(output, RESULTS, list)
    if results is None:
        return None
    return (yield from _unless_faulty(results, _entry_misfits(RESULTS, "entry", results, _RESULT)))


def _load(output: Path, name: str, kind: type[T]) -> Check[T | None]:
    """A JSON file of ours; None, and a fault, if it is not there, cannot be read, or is no `kind`."""
    no_numbers: list[str] = []

    def note(constant: str) -> float:
        no_numbers.append(constant)
        return float(constant)

    try:
        value = json.loads((output / name).read_bytes(), parse_constant=note)
    except FileNotFoundError:
        yield Fault(name, "missing")
        return None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, no text, too many digits
        yield Fault(name, f"cannot be read: {error}")
        return None
    if no_numbers:
        yield Fault(name, f"holds {no_numbers[0]}, which is no JSON")
    if not isinstance(value, kind):
        yield Fault(name, f"holds {reprlib.repr(value)}, expected {'an object' if kind is dict else 'a list'}")
        return None
    return value


def _misfits(name: str, where: str, entry: object, fields: Mapping[str, _Kind]) -> Iterator[Fault]:
    """The fields of `entry` that are missing or of the wrong kind."""
    if not isinstance(entry, dict):
        yield Fault(name, f"{where} is {reprlib.repr(entry)}, expected an object")
        return
    for key, (fits, expected) in fields.items():
        if key not in entry:
            yield Fault(name, f"{where} has no {key}, expected {expected}")
        elif not fits(entry[key]):
            yield Fault(name, f"{where}: {key} is {reprlib.repr(entry[key])}, expected {expected}")


def _entry_misfits(name: str, what: str, entries: object, fields: Mapping[str, _Kind]) -> Iterator[Fault]:
    """Those of every one of `entries`; none if it is no list, which is a misfit of what it stands in."""
    if isinstance(entries, list):
        for place, entry in enumerate(entries, start=1):
            yield from _misfits(name, f"{what} {place}", entry, fields)


def _unless_faulty(value: T, faults: Iterator[Fault]) -> Check[T | None]:
    """Passes `faults` on; `value` if there are none."""
    faulty = False
    for fault in faults:
        faulty = True
        yield fault
    return None if faulty else value


# The files of the folder


def _unfinished(output: Path) -> Iterator[Fault]:
    for folder in (output, *folders(output)):
        for path in sorted(folder.glob("*.part")):
            name = path.relative_to(output).as_posix()
            yield Fault(name, "left unfinished: the command that was killed, run again, replaces it")


def _strays(output: Path, run: Json) -> Iterator[Fault]:
    for kind in ("semantic", "panoptic", "overlays"):
        known = {output_file(output, kind, image["name"]) for image in run["images"]}
        for path in sorted((output / kind).glob("*")):
            if path not in known and path.suffix != ".part":
                yield Fault(path.relative_to(output).as_posix(), f"belongs to no image of {RUN}")


def _run_faults(run: Json) -> Iterator[Fault]:
    if not re.fullmatch("[0-9a-f]{64}", run["config_hash"]):
        yield Fault(RUN, f"config_hash is {reprlib.repr(run['config_hash'])}, expected a SHA-256 in hexadecimal")
    yield from _repeated(RUN, "images: name", [image["name"] for image in run["images"]])
    yield from _repeated(RUN, "images: file_name", [image["file_name"] for image in run["images"]])
    for image in run["images"]:
        where, status, reason = f"image {image['file_name']}", image["status"], image["reason"]
        if status not in ("done", "failed", PENDING):
            yield Fault(RUN, f"{where}: status is {status!r}, expected done, failed or {PENDING}")
        elif (status == "failed") != bool(reason):
            yield Fault(RUN, f"{where} is {status} and its reason is {reason!r}, expected one of those that failed")


def _journal_faults(output: Path, run: Json) -> Iterator[Fault]:
    """Its first line alone: what else it holds is in the other files, too."""
    try:
        with (output / JOURNAL).open("rb") as file:
            found = json.loads(file.readline())["config_hash"]
    except FileNotFoundError:  # only a next run needs it
        return
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        yield Fault(JOURNAL, f"its first line cannot be read: {error!r}")
        return
    if found != run["config_hash"]:
        expected = reprlib.repr(run["config_hash"])
        yield Fault(JOURNAL, f"config_hash is {reprlib.repr(found)}, expected that of {RUN}: {expected}")


# Documents: whether their values agree


def _instances_faults(instances: Json) -> Iterator[Fault]:
    for key in ("images", "annotations", "categories"):
        numbers = [entry["id"] for entry in instances[key]]
        yield from _difference(INSTANCES, f"ids of {key}", numbers, list(range(1, len(numbers) + 1)))
    yield from _repeated(INSTANCES, "categories: name", [category["name"] for category in instances["categories"]])
    for key, parents in (("image_id", "images"), ("category_id", "categories")):
        known = {parent["id"] for parent in instances[parents]}
        for annotation in instances["annotations"]:
            if annotation[key] not in known:
                where = f"annotation {annotation['id']}"
                yield Fault(INSTANCES, f"{where}: {key} is {annotation[key]}, expected an id of {parents}")
    for annotation in instances["annotations"]:
        yield from _value_faults(INSTANCES, f"annotation {annotation['id']}", annotation)


def _value_faults(name: str, where: str, entry: Json) -> Iterator[Fault]:
    if entry.get("iscrowd", 0) != 0:
        yield Fault(name, f"{where}: iscrowd is {entry['iscrowd']}, expected 0")
    for key, (low, high) in _RANGES.items():
        if key in entry and not low <= entry[key] <= high:
            yield Fault(name, f"{where}: {key} is {entry[key]}, expected {low} to {high}")


def _agreement_with_run(run: Json, instances: Json, panoptic: Json | None) -> Iterator[Fault]:
    done = {image["file_name"]: image["name"] for image in run["images"] if image["status"] == "done"}
    listed = [image["file_name"] for image in instances["images"]]
    yield from _difference(RUN, f"images that are done, against {INSTANCES}", list(done), listed)
    names = [category["name"] for category in instances["categories"]]
    yield from _difference(RUN, f"labels, against categories of {INSTANCES}", run["labels"], names)
    words = {*names, *run["background"], None}
    expected = dict(zip(SEGMENTATIONS, (dict, list), strict=True))[run["segmentation"]]
    for annotation in instances["annotations"]:
        where = f"annotation {annotation['id']}"
        if annotation["runner_up"] not in words:
            runner_up = reprlib.repr(annotation["runner_up"])
            yield Fault(INSTANCES, f"{where}: runner_up is {runner_up}, expected a label, a background word or null")
        if not isinstance(annotation["segmentation"], expected):
            yield Fault(INSTANCES, f"{where} is no {run['segmentation']}, which {RUN} says that all are")
    pictures = {image["id"]: done.get(image["file_name"]) for image in instances["images"]}
    for entry in panoptic["annotations"] if panoptic is not None else ():
        if (name := pictures.get(entry["image_id"])) and entry["file_name"] != f"{name}.png":
            where, shown = f"image {entry['image_id']}", reprlib.repr(entry["file_name"])
            yield Fault(PANOPTIC, f"{where}: file_name is {shown}, expected {name}.png")


def _results_faults(results: list[Json], instances: Json) -> Iterator[Fault]:
    annotations = instances["annotations"]
    if len(results) != len(annotations):
        expected = f"expected {len(annotations)}, one per annotation of {INSTANCES}"
        yield Fault(RESULTS, f"holds {len(results)} entries, {expected}")
        return
    for place, (result, annotation) in enumerate(zip(results, annotations, strict=True), start=1):
        where = f"entry {place}"
        yield from _value_faults(RESULTS, where, result)
        yield from _other_values(RESULTS, where, result, annotation, ("image_id", "category_id", "bbox", "score"))
        if isinstance(result["segmentation"], list):
            yield Fault(RESULTS, f"{where}: segmentation is a list of polygons, expected RLE")
        elif isinstance(annotation["segmentation"], dict):
            yield from _other_values(RESULTS, where, result, annotation, ("segmentation",))


def _panoptic_faults(panoptic: Json, instances: Json) -> Iterator[Fault]:
    for key in ("images", "categories"):
        yield from _difference(PANOPTIC, f"{key}, against {INSTANCES}", panoptic[key], instances[key])
    image_ids = [image["id"] for image in instances["images"]]
    found = [entry["image_id"] for entry in panoptic["annotations"]]
    yield from _difference(PANOPTIC, "image_ids of annotations", found, image_ids)
    by_image = _by_image(instances["annotations"], instances["annotations"])
    for entry in panoptic["annotations"]:
        known = {annotation["id"]: annotation for annotation in by_image.get(entry["image_id"], ())}
        where, ids = f"image {entry['image_id']}", sorted(segment["id"] for segment in entry["segments_info"])
        yield from _difference(PANOPTIC, f"{where}: ids of segments_info", ids, sorted(known))
        for segment in entry["segments_info"]:
            if annotation := known.get(segment["id"]):
                where, keys = f"segment {segment['id']}", ("category_id", "bbox", "iscrowd")
                yield from _other_values(PANOPTIC, where, segment, annotation, keys)


def _pycocotools_faults(output: Path, *, with_results: bool) -> Iterator[Fault]:
    """Whether the files load where everybody loads them. (It takes no results that are empty.)"""
    name, refusal = INSTANCES, None
    try:
        with redirect_stdout(io.StringIO()):
            coco = COCO(str(output / INSTANCES))
            if with_results:
                name = RESULTS
                coco.loadRes(str(output / RESULTS))
    except (AssertionError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        refusal = error
    if refusal is not None:
        yield Fault(name, f"pycocotools refuses it: {refusal!r}")


def _difference(path: str, what: str, found: Sequence[Any], expected: Sequence[Any]) -> Iterator[Fault]:
    """One fault, on the first place where two lists differ."""
    if found == expected:
        return
    place = sum(1 for _ in takewhile(bool, map(eq, found, expected)))
    one, other = (reprlib.repr(values[place]) if place < len(values) else "nothing" for values in (found, expected))
    numbers = f" ({len(found)} in all, expected {len(expected)})" if len(found) != len(expected) else ""
    yield Fault(path, f"{what}: {one} at place {place + 1}, expected {other}{numbers}")


def _other_values(path: str, where: str, entry: Json, annotation: Json, keys: Sequence[str]) -> Iterator[Fault]:
    for key in keys:
        if entry[key] != annotation[key]:
            shown = f"{reprlib.repr(entry[key])}, expected {reprlib.repr(annotation[key])}"
            yield Fault(path, f"{where}: {key} is {shown} as in {INSTANCES}")


def _repeated(path: str, what: str, values: Sequence[str]) -> Iterator[Fault]:
    for value, times in Counter(values).items():
        if times > 1:
            yield Fault(path, f"{what} {value!r} is there {times} times, expected once")


def _by_image(entries: Sequence[Json], annotations: Sequence[Json]) -> dict[int, list[Json]]:
    """`entries`, which belong to `annotations` one by one, by the id of their image."""
    found: dict[int, list[Json]] = {}
    for entry, annotation in zip(entries, annotations, strict=True):
        found.setdefault(annotation["image_id"], []).append(entry)
    return found


# Pixels


@dataclass(frozen=True)
class _Picture:
    """What the documents say about one image."""

    name: str  # stem of its outputs
    size_hw: tuple[int, int]  # px
    annotations: list[Json]
    results: list[Json] | None  # one per annotation
    segments: list[Json] | None  # segments_info of panoptic.json


@dataclass(frozen=True, eq=False)
class _Region:
    """A decoded segmentation."""

    mask: NDArray[np.uint8]  # (H, W), 0 or 1
    area: int  # px
    box_xywh: list[int]

    @property
    def window(self) -> tuple[slice, slice]:
        """The box as (rows, columns)."""
        left, top, width, height = self.box_xywh
        return slice(top, top + height), slice(left, left + width)


def _pictures(run: Json, instances: Json, results: list[Json] | None, panoptic: Json | None) -> Iterator[_Picture]:
    """The images that run.json knows the outputs of."""
    names = {image["file_name"]: image["name"] for image in run["images"]}
    found = _by_image(instances["annotations"], instances["annotations"])
    listed = None
    if results is not None and len(results) == len(instances["annotations"]):
        listed = _by_image(results, instances["annotations"])
    segments = {} if panoptic is None else {e["image_id"]: e["segments_info"] for e in panoptic["annotations"]}
    for image in instances["images"]:
        if image["file_name"] in names:
            yield _Picture(
                names[image["file_name"]],
                (image["height"], image["width"]),
                found.get(image["id"], []),
                None if listed is None else listed.get(image["id"], []),
                segments.get(image["id"]),
            )


def _picture_faults(
    output: Path, picture: _Picture, categories: Sequence[Json], *, with_masks: bool
) -> Iterator[Fault]:
    yield from _read_png(output, "overlays", picture)
    if with_masks:
        yield from _mask_file_faults(output, picture)
    height, width = picture.size_hw
    if Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        size = f"{width} x {height} px"
        yield Fault(INSTANCES, f"image {picture.name} has {size}, too many to look at: --max-megapixels allows more")
        return
    owners = yield from _paint(picture)
    ids = yield from _read_panoptic(output, picture)
    if ids is not None:
        yield from _panoptic_pixel_faults(picture, ids, owners)
    yield from _semantic_faults(output, picture, ids, categories)


def _paint(picture: _Picture) -> Check[NDArray[np.int32] | None]:
    """The map (H, W) of the annotations' exact masks, 0 = none, i = annotations[i - 1]; None unless all are known.

    Exact are RLEs: those of instances.json or, where that has polygons, of results.json.
    """
    owners = np.zeros(picture.size_hw, np.int32)
    known = True
    for index, annotation in enumerate(picture.annotations):
        where = f"annotation {annotation['id']}"
        polygons = isinstance(annotation["segmentation"], list)
        shown = yield from _read_region(INSTANCES, where, annotation, picture.size_hw)
        exact = None if polygons else shown
        if picture.results is not None:
            result = picture.results[index]
            listed: _Region | None = shown
            if result["segmentation"] != annotation["segmentation"]:
                listed = yield from _read_region(RESULTS, f"entry of {where}", result, picture.size_hw)
            elif shown is not None:
                yield from _measure(RESULTS, f"entry of {where}", result, shown)
            if polygons and isinstance(result["segmentation"], dict):
                exact = listed
        if exact is None:
            known = False
            continue
        if polygons and shown is not None and not _fills(shown, exact):
            yield Fault(INSTANCES, f"{where}: its polygons are not its mask in {RESULTS} with holes filled")
        inside = exact.mask[exact.window] > 0
        before = owners[exact.window][inside]
        if before.any():
            other = picture.annotations[int(before.max()) - 1]["id"]
            overlap = f"{np.count_nonzero(before)} px of it belong to others as well, as to annotation {other}"
            yield Fault(RESULTS if polygons else INSTANCES, f"{where}: {overlap}; expected no overlap")
        owners[exact.window][inside] = index + 1
    return owners if known else None


def _fills(outlined: _Region, exact: _Region) -> bool:
    """Whether `outlined` is `exact` with its holes filled; what reaches the outside by a corner is no hole."""
    window = outlined.window
    filled = binary_fill_holes(exact.mask[window], structure=np.ones((3, 3)))
    return bool(exact.box_xywh == outlined.box_xywh and (filled == outlined.mask[window]).all())


def _read_region(path: str, where: str, entry: Json, size_hw: tuple[int, int]) -> Check[_Region | None]:
    """The segmentation of an annotation, its area and box compared; None, and a fault, if it cannot be decoded."""
    decode = _decode_rle if isinstance(entry["segmentation"], dict) else _decode_polygons
    try:
        region = decode(entry["segmentation"], size_hw)
    except ValueError as error:
        yield Fault(path, f"{where}: {error}")
        return None
    yield from _measure(path, where, entry, region)
    return region


def _measure(path: str, where: str, entry: Json, region: _Region) -> Iterator[Fault]:
    if entry["area"] != region.area:
        yield Fault(path, f"{where}: area is {entry['area']}, expected {region.area}, the px of the decoded mask")
    if entry["bbox"] != region.box_xywh:
        yield Fault(path, f"{where}: bbox is {entry['bbox']}, expected {region.box_xywh}, that of the decoded mask")


# Whole numbers of RLEs, each of a last character and those before it: pycocotools reads on behind one that is cut off.
_COUNTS = re.compile("(?:[P-o]{0,6}[0-O])+")


def _decode_rle(segmentation: Json, size_hw: tuple[int, int]) -> _Region:
    """ValueError on anything but the one RLE that pycocotools gives a mask of this size."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        raise ValueError(f"RLE size is {reprlib.repr(size)}, expected {list(size_hw)} (height, width) of the image")
    if not isinstance(counts, str):
        raise ValueError(f"RLE counts are {reprlib.repr(counts)}, expected text")
    code = {"size": list(size_hw), "counts": counts}
    try:
        mask = rle_codec.decode(code) if _COUNTS.fullmatch(counts) else None
    except ValueError:  # more pixels than the picture has
        mask = None
    if mask is None or rle_codec.encode(mask)["counts"] != counts.encode("ascii"):
        raise ValueError(f"RLE counts are {reprlib.repr(counts)}, which do not decode and encode to themselves")
    return _region(mask, code)


def _decode_polygons(polygons: list[Any], size_hw: tuple[int, int]) -> _Region:
    """ValueError on anything but lists of corners within the picture."""
    height, width = size_hw
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(_is_number, polygon)):
            raise ValueError(f"polygon is {reprlib.repr(polygon)}, expected x, y of three corners or more")
        if not all(0 <= x <= width for x in polygon[::2]) or not all(0 <= y <= height for y in polygon[1::2]):
            raise ValueError(f"polygon {reprlib.repr(polygon)} has corners beyond the {width} x {height} px")
    if not polygons:
        raise ValueError("segmentation is an empty list, expected a polygon")
    code = rle_codec.merge(rle_codec.frPyObjects(polygons, height, width))
    return _region(rle_codec.decode(code), code)


def _region(mask: NDArray[np.uint8], code: Json) -> _Region:
    return _Region(mask, int(rle_codec.area(code)), [int(value) for value in rle_codec.toBbox(code)])


def _read_panoptic(output: Path, picture: _Picture) -> Check[NDArray[np.int32] | None]:
    """(H, W) ids of its panoptic PNG."""
    opened = yield from _read_png(output, "panoptic", picture)
    if opened is None:
        return None
    if opened.mode != "RGB":
        yield Fault(_relative("panoptic", picture.name), f"is of mode {opened.mode}, expected RGB")
        return None
    return read_ids(output_file(output, "panoptic", picture.name))


def _panoptic_pixel_faults(
    picture: _Picture, ids: NDArray[np.int32], owners: NDArray[np.int32] | None
) -> Iterator[Fault]:
    """Whether `ids` are those of the annotations that own the px, and of segments_info, as often as that says."""
    path = _relative("panoptic", picture.name)
    if owners is not None:
        expected = np.array([0, *(annotation["id"] for annotation in picture.annotations)], np.int32)[owners]
        yield from _pixel_faults(path, ids, expected, "the masks of the annotations")
    if picture.segments is None:
        return
    areas = np.bincount(ids.ravel())
    listed = {0, *(segment["id"] for segment in picture.segments)}
    for extra in sorted(set(np.flatnonzero(areas).tolist()) - listed):
        yield Fault(path, f"has {areas[extra]} px of id {extra}, expected ids of its segments_info alone")
    for segment in picture.segments:
        area = int(areas[segment["id"]]) if segment["id"] < len(areas) else 0
        if not area:
            yield Fault(path, f"has no px of id {segment['id']}, which is in its segments_info")
        elif area != segment["area"]:
            where = f"segment {segment['id']}"
            yield Fault(PANOPTIC, f"{where}: area is {segment['area']}, expected {area}, its px in {path}")


def _semantic_faults(
    output: Path, picture: _Picture, ids: NDArray[np.int32] | None, categories: Sequence[Json]
) -> Iterator[Fault]:
    """Mode, palette and, if the `ids` of its panoptic PNG are known, px: the categories of their segments."""
    path = _relative("semantic", picture.name)
    opened = yield from _read_png(output, "semantic", picture)
    if opened is None:
        return
    mode = "P" if len(categories) <= MAX_PALETTE_LABELS else "I;16"
    if opened.mode not in (mode, mode.split(";")[0]):  # releases of Pillow name 16-bit grey differently
        yield Fault(path, f"is of mode {opened.mode}, expected {mode} with {len(categories)} labels")
        return
    if mode == "P":
        colors = [0, 0, 0, *(channel for category in categories for channel in category["color"])]
        palette = (opened.getpalette() or [])[: len(colors)]
        if palette != colors:
            yield from _difference(path, "palette, against black and the colors of categories", palette, colors)
    if ids is None:
        return
    category_of = np.zeros(int(ids.max()) + 1, np.int32)
    for annotation in picture.annotations:
        if annotation["id"] < len(category_of):
            category_of[annotation["id"]] = annotation["category_id"]
    expected = f"the categories of {_relative('panoptic', picture.name)}"
    yield from _pixel_faults(path, np.asarray(opened), category_of[ids], expected)


def _pixel_faults(path: str, found: NDArray[Any], expected: NDArray[Any], what: str) -> Iterator[Fault]:
    """One fault if two maps (H, W) differ."""
    wrong = found != expected
    if wrong.any():
        y, x = np.unravel_index(int(wrong.argmax()), wrong.shape)
        first = f"the first, at x {x}, y {y}, is {found[y, x]}, expected {expected[y, x]}"
        yield Fault(path, f"{np.count_nonzero(wrong)} px differ from {what}; {first}")


def _read_png(output: Path, kind: str, picture: _Picture) -> Check[Image.Image | None]:
    """A decoded PNG of the picture's size; None, and a fault, if it is anything else."""
    path = _relative(kind, picture.name)
    height, width = picture.size_hw
    try:
        with warnings.catch_warnings(), Image.open(output / path, formats=["PNG"]) as opened:
            warnings.simplefilter("ignore")  # large pictures are fine as long as they decode
            if fits := opened.size == (width, height):  # from its head: nothing of another size is decoded
                opened.load()
    except FileNotFoundError:
        yield Fault(path, "missing")
        return None
    except Image.DecompressionBombError as error:
        yield Fault(path, f"too large: {error} --max-megapixels allows more")
        return None
    except Exception as error:  # decoders of damaged files raise almost anything: OSError, SyntaxError, IndexError, …
        yield Fault(path, f"cannot be decoded: {error!r}")
        return None
    if not fits:
        size = f"{opened.width} x {opened.height} px"
        yield Fault(path, f"has {size}, expected {width} x {height}, as {INSTANCES} says")
        return None
    return opened


def _mask_file_faults(output: Path, picture: _Picture) -> Iterator[Fault]:
    path = _relative("masks", picture.name)
    try:
        shape = Masks.load(output / path).label_map.shape
    except FileNotFoundError:
        yield Fault(path, "missing")
    except ValueError as error:
        yield Fault(path, f"cannot be loaded: {error}")
    else:
        if shape != picture.size_hw:
            size = f"{shape[1]} x {shape[0]} px"
            yield Fault(path, f"has {size}, expected {picture.size_hw[1]} x {picture.size_hw[0]}, as {INSTANCES} says")


def _relative(kind: str, name: str) -> str:
    """The output of a picture as faults name it."""
    return output_file(Path(), kind, name).as_posix()
