"""Documents that can be read → whether their values agree: in each, with each other, and for pycocotools."""

from __future__ import annotations

import io
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from pycocotools.coco import COCO

from fusion.formats.schema import INSTANCES, JOURNAL, PANOPTIC, RESULTS, RUN
from fusion.runs.journal import Lines, read_lines
from fusion.step.choices import SegmentationStyle
from fusion.validate.faults import Check, Fault, Json, difference
from fusion.validate.images import by_image


def run_faults(run: Json) -> Iterator[Fault]:
    """run.json by itself: names and states."""
    yield from _repeated(RUN, "images: name", [image["name"] for image in run["images"]])
    yield from _repeated(RUN, "images: file_name", [image["file_name"] for image in run["images"]])
    for image in run["images"]:
        where, status, reason = f"image {image['file_name']}", image["status"], image["reason"]
        if (status == "failed") != bool(reason):
            yield Fault(RUN, f"{where} is {status} and its reason is {reason!r}, expected one of those that failed")


def read_journal(output: Path) -> Check[Lines]:
    """Its lines up to the first damaged one: a next run does the rest again."""
    try:
        lines = read_lines(output / JOURNAL)
    except OSError as error:
        yield Fault(JOURNAL, str(error).removeprefix(f"{output / JOURNAL} "))
        return Lines()
    if lines.head is None and not lines.whole:
        yield Fault(JOURNAL, "its first line cannot be read")
    return lines


def journal_faults(journal: Lines, run: Json) -> Iterator[Fault]:
    """Its configuration alone: what else it holds is in the other files, too."""
    if journal.head is not None and journal.head.config_hash != run["config_hash"]:
        found, expected = (reprlib.repr(value) for value in (journal.head.config_hash, run["config_hash"]))
        yield Fault(JOURNAL, f"config_hash is {found}, expected that of {RUN}: {expected}")


def instances_faults(instances: Json) -> Iterator[Fault]:
    """instances.json by itself: ids, and whom they refer to."""
    for key in ("images", "annotations"):
        yield from _repeated(INSTANCES, f"{key}: id", [entry["id"] for entry in instances[key]])
    numbers = [category["id"] for category in instances["categories"]]
    yield from difference(INSTANCES, "ids of categories", numbers, list(range(1, len(numbers) + 1)))
    yield from _repeated(INSTANCES, "categories: name", [category["name"] for category in instances["categories"]])
    for category in instances["categories"]:
        if category["supercategory"] != ("thing" if category["isthing"] else "stuff"):
            where, kind = f"category {category['id']}", category["supercategory"]
            yield Fault(INSTANCES, f"{where}: supercategory is {kind} and isthing is {category['isthing']}")
    stuff = {category["id"]: category["name"] for category in instances["categories"] if not category["isthing"]}
    pairs = Counter((annotation["image_id"], annotation["category_id"]) for annotation in instances["annotations"])
    for (image_id, category_id), times in pairs.items():
        if times > 1 and category_id in stuff:
            what = f"{times} annotations of {stuff[category_id]!r}, expected one, as it is stuff"
            yield Fault(INSTANCES, f"image {image_id}: has {what}")
    for annotation in instances["annotations"]:
        yield from _evidence_faults(annotation)
    for key, parents in (("image_id", "images"), ("category_id", "categories")):
        known = {parent["id"] for parent in instances[parents]}
        for annotation in instances["annotations"]:
            if annotation[key] not in known:
                where = f"annotation {annotation['id']}"
                yield Fault(INSTANCES, f"{where}: {key} is {annotation[key]}, expected an id of {parents}")


def _evidence_faults(annotation: Json) -> Iterator[Fault]:
    """Whether the evidence of an annotation can be true."""
    evidence, where = annotation["evidence"], f"annotation {annotation['id']}"
    ids = evidence["mask_ids"]
    if not ids or ids != sorted(set(ids)):
        yield Fault(INSTANCES, f"{where}: mask_ids are {reprlib.repr(ids)}, expected masks in order, at least one")
    margin, share = evidence["margin"], evidence["share"]
    if margin > share:
        yield Fault(INSTANCES, f"{where}: margin is {margin}, expected at most its share, {share}")


def results_faults(results: list[Json], instances: Json) -> Iterator[Fault]:
    """results.json: the annotations again, one by one."""
    annotations = instances["annotations"]
    if len(results) != len(annotations):
        expected = f"expected {len(annotations)}, one per annotation of {INSTANCES}"
        yield Fault(RESULTS, f"holds {len(results)} entries, {expected}")
        return
    for place, (result, annotation) in enumerate(zip(results, annotations, strict=True), start=1):
        where = f"entry {place}"
        yield from _other_values(RESULTS, where, result, annotation, ("image_id", "category_id", "bbox"))
        if result["score"] != annotation["evidence"]["score"]:
            expected = f"{annotation['evidence']['score']} as in the evidence in {INSTANCES}"
            yield Fault(RESULTS, f"{where}: score is {result['score']}, expected {expected}")
        if isinstance(result["segmentation"], list):
            yield Fault(RESULTS, f"{where}: segmentation is a list of polygons, expected RLE")
        elif isinstance(annotation["segmentation"], dict):
            yield from _other_values(RESULTS, where, result, annotation, ("segmentation",))


def panoptic_faults(panoptic: Json, instances: Json) -> Iterator[Fault]:
    """panoptic.json: the annotations again, by image."""
    for key in ("images", "categories"):
        yield from difference(PANOPTIC, f"{key}, against {INSTANCES}", panoptic[key], instances[key])
    image_ids = [image["id"] for image in instances["images"]]
    found = [entry["image_id"] for entry in panoptic["annotations"]]
    yield from difference(PANOPTIC, "image_ids of annotations", found, image_ids)
    of_image = by_image(instances["annotations"], instances["annotations"])
    for entry in panoptic["annotations"]:
        known = {annotation["id"]: annotation for annotation in of_image.get(entry["image_id"], ())}
        where, ids = f"image {entry['image_id']}", sorted(segment["id"] for segment in entry["segments_info"])
        yield from difference(PANOPTIC, f"{where}: ids of segments_info", ids, sorted(known))
        for segment in entry["segments_info"]:
            if annotation := known.get(segment["id"]):
                where, keys = f"segment {segment['id']}", ("category_id", "bbox", "iscrowd")
                yield from _other_values(PANOPTIC, where, segment, annotation, keys)


def agreement_with_run_faults(run: Json, instances: Json, panoptic: Json | None) -> Iterator[Fault]:
    """Whether the COCO files are those of the images, labels and settings of run.json."""
    done = {image["file_name"]: image["name"] for image in run["images"] if image["status"] == "done"}
    listed = [image["file_name"] for image in instances["images"]]
    yield from difference(RUN, f"images that are done, against {INSTANCES}", list(done), listed)
    names = [category["name"] for category in instances["categories"]]
    labels = [label["name"] for label in run["labels"]]
    yield from difference(RUN, f"labels, against categories of {INSTANCES}", labels, names)
    found = [category["isthing"] for category in instances["categories"]]
    things = [int(not label["stuff"]) for label in run["labels"]]
    yield from difference(INSTANCES, f"isthing of categories, against labels of {RUN}", found, things)
    known = {*names, *(label["name"] for label in run["background"]), None}
    expected = dict if run["segmentation"] == SegmentationStyle.RLE else list
    for annotation in instances["annotations"]:
        where = f"annotation {annotation['id']}"
        if annotation["evidence"]["runner_up"] not in known:
            runner_up = reprlib.repr(annotation["evidence"]["runner_up"])
            yield Fault(INSTANCES, f"{where}: runner_up is {runner_up}, expected a label or null")
        if not isinstance(annotation["segmentation"], expected):
            yield Fault(INSTANCES, f"{where} is no {run['segmentation']}, which {RUN} says that all are")
    names_of = {image["id"]: done.get(image["file_name"]) for image in instances["images"]}
    for entry in panoptic["annotations"] if panoptic is not None else ():
        if (name := names_of.get(entry["image_id"])) and entry["file_name"] != f"{name}.png":
            where, shown = f"image {entry['image_id']}", reprlib.repr(entry["file_name"])
            yield Fault(PANOPTIC, f"{where}: file_name is {shown}, expected {name}.png")


def pycocotools_faults(output: Path, *, with_results: bool) -> Iterator[Fault]:
    """Whether the files load where everybody loads them. (It takes no results that are empty.)"""
    name = INSTANCES
    try:
        with redirect_stdout(io.StringIO()):
            coco = COCO(str(output / INSTANCES))
            if with_results:
                name = RESULTS
                coco.loadRes(str(output / RESULTS))
    except (AssertionError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        yield Fault(name, f"pycocotools refuses it: {error!r}")


def _other_values(path: str, where: str, entry: Json, annotation: Json, keys: Sequence[str]) -> Iterator[Fault]:
    for key in keys:
        if entry[key] != annotation[key]:
            shown = f"{reprlib.repr(entry[key])}, expected {reprlib.repr(annotation[key])}"
            yield Fault(path, f"{where}: {key} is {shown} as in {INSTANCES}")


def _repeated(path: str, what: str, values: Sequence[object]) -> Iterator[Fault]:
    for value, times in Counter(values).items():
        if times > 1:
            yield Fault(path, f"{what} {value!r} is there {times} times, expected once")
