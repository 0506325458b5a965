"""Documents → what they say about each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.step.choices import SegmentationStyle
from fusion.validate.faults import Json


@dataclass(frozen=True)
class ImageFacts:
    """What the documents say about one image."""

    name: str  # stem of its outputs
    size_hw: tuple[int, int]  # px
    annotations: list[Json]
    results: list[Json] | None  # one per annotation
    segments: list[Json] | None  # segments_info of panoptic.json
    centers: bool  # whether polygons run through the centres of pixels
    source: str = ""  # path of its file, or of a frame of a video


def image_facts(
    output: Path, run: Json, instances: Json, results: list[Json] | None, panoptic: Json | None
) -> Iterator[ImageFacts]:
    """The images that run.json knows the outputs of."""
    names = {image["file_name"]: image["name"] for image in run["images"]}
    sources = {image["file_name"]: str(output / image["source"]) for image in run["images"]}
    found = by_image(instances["annotations"], instances["annotations"])
    listed = None
    if results is not None and len(results) == len(instances["annotations"]):
        listed = by_image(results, instances["annotations"])
    segments = {} if panoptic is None else {e["image_id"]: e["segments_info"] for e in panoptic["annotations"]}
    for image in instances["images"]:
        if image["file_name"] in names:
            yield ImageFacts(
                names[image["file_name"]],
                (image["height"], image["width"]),
                found.get(image["id"], []),
                None if listed is None else listed.get(image["id"], []),
                segments.get(image["id"]),
                run["segmentation"] == SegmentationStyle.POLYGON_CENTERS,
                sources[image["file_name"]],
            )


def by_image(entries: Sequence[Json], annotations: Sequence[Json]) -> dict[int, list[Json]]:
    """`entries`, which belong to `annotations` one by one, by the id of their image."""
    found: dict[int, list[Json]] = {}
    for entry, annotation in zip(entries, annotations, strict=True):
        found.setdefault(annotation["image_id"], []).append(entry)
    return found
