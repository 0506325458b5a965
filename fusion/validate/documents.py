"""JSON files → documents in which every value, by itself, is what must stand there."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fusion.formats.panoptic import MAX_ID
from fusion.runs.batch import RUN
from fusion.runs.outputs import INSTANCES, PANOPTIC, RESULTS
from fusion.step.config import MASK_SOURCES, SEGMENTATIONS
from fusion.validate.faults import Check, Fault, Json, T

_Kind = tuple[Callable[[Any], bool], str]  # whether a value fits; what is expected


def is_number(value: object) -> bool:
    """Whether a value of JSON can be calculated with."""
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
_NUMBER: _Kind = (is_number, "a number")
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


def read_run(output: Path) -> Check[Json | None]:
    """run.json; None, and its faults, if it has any: so do all that read a document."""
    run = yield from _load(output, RUN, dict)
    if run is None:
        return None
    return (yield from _unless_faulty(run, _run_misfits(run)))


def _run_misfits(run: Json) -> Iterator[Fault]:
    yield from _misfits(RUN, "the document", run, _RUN)
    yield from _entry_misfits(RUN, "image", run.get("images"), _RUN_IMAGE)


def read_instances(output: Path) -> Check[Json | None]:
    """instances.json."""
    return _read_coco(output, INSTANCES, _ANNOTATION)


def read_panoptic(output: Path) -> Check[Json | None]:
    """panoptic.json."""
    return _read_coco(output, PANOPTIC, _PANOPTIC_ENTRY)


def _read_coco(output: Path, name: str, annotation: Mapping[str, _Kind]) -> Check[Json | None]:
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


def read_results(output: Path) -> Check[list[Json] | None]:
    """results.json."""
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
