"""JSON files → documents in which every value, by itself, is what the schema says."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusion.formats.record import Record, misfits
from fusion.formats.schema import (
    INSTANCES,
    PANOPTIC,
    RESULTS,
    RUN,
    Annotation,
    Category,
    CocoDocument,
    ImageEntry,
    PanopticEntry,
    Result,
    RunFile,
)
from fusion.step.choices import MaskSource, SegmentationStyle
from fusion.step.config import FusionConfig
from fusion.validate.faults import Check, Fault, Json, T, is_there


def read_run(output: Path) -> Check[Json | None]:
    """run.json; None, and its faults, if it has any: so do all that read a document."""
    run = yield from load(output, RUN, dict)
    if run is None:
        return None
    return (yield from _unless_faulty(run, _run_misfits(run)))


def _run_misfits(run: Json) -> Iterator[Fault]:
    for message in misfits(RunFile, run, "the document"):
        yield Fault(RUN, message)
    for key, choices in (("masks", MaskSource.values()), ("segmentation", SegmentationStyle.values())):
        if isinstance(run.get(key), str) and run[key] not in choices:
            yield Fault(RUN, f"{key} is {run[key]!r}, expected one of {', '.join(choices)}")


def fusion_settings(run: Json) -> Check[FusionConfig | None]:
    """How its masks got their labels."""
    try:
        return FusionConfig.from_mapping(run["config"].get("fusion", {}))
    except ValueError as error:
        yield Fault(RUN, f"config: {error}")
        return None


def read_instances(output: Path) -> Check[Json | None]:
    """instances.json."""
    return _read_coco(output, INSTANCES, Annotation)


def read_panoptic(output: Path) -> Check[Json | None]:
    """panoptic.json."""
    return _read_coco(output, PANOPTIC, PanopticEntry)


def _read_coco(output: Path, name: str, annotation: type[Record]) -> Check[Json | None]:
    document = yield from load(output, name, dict)
    if document is None:
        return None
    return (yield from _unless_faulty(document, _coco_misfits(name, document, annotation)))


def _coco_misfits(name: str, document: Json, annotation: type[Record]) -> Iterator[Fault]:
    for message in misfits(CocoDocument, document, "the document"):
        yield Fault(name, message)
    yield from _entry_misfits(name, "image", document.get("images"), ImageEntry)
    yield from _entry_misfits(name, "category", document.get("categories"), Category)
    yield from _entry_misfits(name, "annotation", document.get("annotations"), annotation)


def read_results(output: Path) -> Check[list[Json] | None]:
    """results.json."""
    results = yield from load(output, RESULTS, list)
    if results is None:
        return None
    return (yield from _unless_faulty(results, _entry_misfits(RESULTS, "entry", results, Result)))


def load(output: Path, name: str, kind: type) -> Check[Any]:
    """What a file of JSON holds, which must be of that kind; None, and a fault, if it cannot be read."""
    if not (yield from is_there(output, name)):
        return None
    no_numbers: list[str] = []

    def note(constant: str) -> float:
        no_numbers.append(constant)
        return float(constant)

    try:
        value = json.loads((output / name).read_bytes(), parse_constant=note)
    # ValueError: no JSON, no text, too many digits.
    except (OSError, ValueError, RecursionError) as error:
        yield Fault(name, f"cannot be read: {error}")
        return None
    if no_numbers:
        yield Fault(name, f"holds {no_numbers[0]}, which is no JSON")
    if not isinstance(value, kind):
        yield Fault(name, f"holds {reprlib.repr(value)}, expected {'an object' if kind is dict else 'a list'}")
        return None
    return value


def _entry_misfits(name: str, what: str, entries: object, kind: type[Record]) -> Iterator[Fault]:
    """Those of every one of `entries`; none if it is no list, which is a misfit of what it stands in."""
    if isinstance(entries, list):
        for place, entry in enumerate(entries, start=1):
            for message in misfits(kind, entry, f"{what} {place}"):
                yield Fault(name, message)


def _unless_faulty(value: T, faults: Iterator[Fault]) -> Check[T | None]:
    """Passes `faults` on; `value` if there are none."""
    faulty = False
    for fault in faults:
        faulty = True
        yield fault
    return None if faulty else value
