"""The output folder's files of JSON, each record declared once: writers build it, readers and `validate` check by it.

COCO's documents hold lists of these records; `annotations/NAME.json` is one `ImageRecord`, `run.json` one `RunFile`,
and `journal.jsonl` one `JournalHead` followed by a `JournalEntry` or a `JournalEnd` a line.
"""

from __future__ import annotations

import os
from os import path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer

from fusion.formats.record import Record

INSTANCES, RESULTS, PANOPTIC, REPORT = "instances.json", "results.json", "panoptic.json", "report.html"
RUN, JOURNAL = "run.json", "journal.jsonl"
# Of exports that are asked for, see `fusion.runs.extras`
YOLO, YOLO_DATA = "yolo", "yolo/data.yaml"
LABELSTUDIO, LABELSTUDIO_CONFIG = "labelstudio.json", "labelstudio.xml"
PARQUET = "instances.parquet"
POLYGON, POLYGON_CENTERS = "instances-polygon.json", "instances-polygon-centers.json"

# A panoptic PNG has three bytes of colour for an id.
MAX_ID = 256**3 - 1
# Decimals of scores, shares and margins. More would not mean anything: they differ between devices and numbers of
# threads, and so would what is decided by them.
DIGITS = 4


def _file_name(value: str) -> str:
    """A name that a file of the folder can have on this system, and that leads nowhere else."""
    try:
        os.fsencode(value)
        leads_away = value in ("", ".", "..") or "\0" in value or path.basename(value) != value
    except UnicodeEncodeError:
        leads_away = True
    if leads_away:
        raise ValueError("expected the name of a file, without folder and suffix")
    return value


Id = Annotated[int, Field(ge=1, le=MAX_ID)]
Pixels = Annotated[int, Field(ge=0, le=2**53)]
Side = Annotated[int, Field(ge=1, lt=2**31)]
Byte = Annotated[int, Field(ge=0, le=255)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Margin = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Name = Annotated[str, AfterValidator(_file_name)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
SizeHW = Annotated[list[Side], Field(min_length=2, max_length=2)]
BoxXYWH = Annotated[list[Pixels], Field(min_length=4, max_length=4)]
Polygon = list[int | float]  # [x0, y0, x1, y1, …] in px
# RLE with `size` and `counts`, or a list of polygons.
Shape = dict[str, Any] | list[Any]


class ImageEntry(Record):
    """An image of a COCO document."""

    id: Id
    file_name: str
    height: Side
    width: Side


class Category(Record):
    """A label asked for, found or not: `id` is its place among the labels, from 1."""

    id: Id
    name: str
    supercategory: Literal["stuff", "thing"]
    isthing: Literal[0, 1]
    color: Annotated[list[Byte], Field(min_length=3, max_length=3)]


class Evidence(Record):
    """Why a region has its label."""

    score: Share  # mean over the region's pixels
    share: Share  # mean over its pixels of their masks' share
    margin: Margin  # likewise
    runner_up: str | None  # that of its largest mask
    mask_ids: list[Pixels]
    # A person gave at least one of its pixels this label (`emerseg web`); what stands above is the models' evidence for
    # it all the same. Written only where it is true.
    edited: bool = False

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if not self.edited:
            del found["edited"]
        return found


class Region(Record):
    """A region of one label, as it is before it has an id."""

    category_id: Id
    segmentation: Shape
    area: Pixels  # of the decoded mask
    bbox: BoxXYWH  # likewise, px
    iscrowd: Literal[0]
    evidence: Evidence


class Annotation(Record):
    """An annotation of instances.json."""

    id: Id
    image_id: Id
    category_id: Id
    segmentation: Shape
    area: Pixels
    bbox: BoxXYWH
    iscrowd: Literal[0]
    evidence: Evidence


class Result(Record):
    """An entry of results.json, COCO's format for predictions."""

    image_id: Id
    category_id: Id
    segmentation: Shape
    area: Pixels
    bbox: BoxXYWH
    score: Share


class SegmentInfo(Record):
    """A segment of a panoptic PNG: `id` is its colour, and the id of the annotation in instances.json."""

    id: Id
    category_id: Id
    area: Pixels
    bbox: BoxXYWH
    iscrowd: Literal[0]


class PanopticEntry(Record):
    """An annotation of panoptic.json: one image with its PNG."""

    image_id: Id
    file_name: str
    segments_info: list[SegmentInfo]


class CocoDocument(Record):
    """The frame of instances.json and panoptic.json."""

    info: dict[str, Any]
    licenses: list[Any]
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]


class ImageRecord(Record):
    """All that the files about all images say of one image: annotations/NAME.json."""

    size_hw: SizeHW
    pixels: Sha256  # of the image
    overlay_pixels: Sha256  # of overlays/NAME.png
    regions: list[Region]
    polygons: list[list[Polygon]] | None  # in place of each region's RLE, if they were asked for
    thumbnail: str  # JPEG, base64
    overlay: str  # likewise, with the regions drawn
    absent: list[str] = Field(default_factory=list)  # names of labels that did not compete, see `ovseg.absence`


class LabelEntry(Record):
    """A label as run.json keeps it."""

    name: str
    synonyms: list[str]
    stuff: bool
    color: Annotated[list[Byte], Field(min_length=3, max_length=3)] | None


class RunImage(Record):
    """What became of an image, for people."""

    file_name: str  # relative to the folder that holds all images of the run
    name: Name  # of its outputs, without suffix
    source: str  # path of the file, relative to the output folder where it can be, with "/"
    status: Literal["done", "failed", "pending"]
    reason: str | None  # why it failed
    seconds: Number


class Ran(Record):
    """Where the models ran, and in which precision."""

    device: str
    dtype: str


class RunFile(Record):
    """run.json: what a run was made with and of."""

    config_hash: Sha256
    preset: str
    masks: str
    segmentation: str
    seed: Pixels
    dtype: str  # that was asked for
    ran: Ran
    mask_hash: Sha256  # of all that decides its masks
    bits: int | None = None  # that 16-bit samples of its images hold, if their files do not say it
    tile: int | None = None  # px, the side of the tiles that larger images were cut into; None: not at all
    overlap: int | None = None  # px that tiles have in common
    max_megapixels: Number  # what its images need, or more
    labels: list[LabelEntry]
    background: list[LabelEntry]
    exports: list[str] = Field(default_factory=list)  # what is written beside COCO, and kept as it is
    config: dict[str, dict[str, Any]]
    weights: dict[str, Any]
    versions: dict[str, str]
    images: list[RunImage]


class JournalHead(Record):
    """The first line of the journal: what all its entries are of."""

    config_hash: str
    folder: str  # absolute path of the output folder at that time: where the sources are, if that was moved alone


class JournalEntry(Record):
    """What became of one image."""

    source: str  # path of the file, relative to the output folder where it can be, with "/"
    name: Name  # stem of its outputs
    fingerprint: list[int]  # of the file at that time, see `inputs.ImageFile`
    # "left": of another configuration; its name stays, and its masks may serve again.
    status: Literal["done", "failed", "left"]
    reason: str | None  # why it failed
    seconds: Number  # wall time, reading and writing included
    image_id: Pixels  # in the COCO files; 0 if it was never done
    first_id: Pixels  # of its annotations; 0 if it has none
    num_annotations: Pixels
    size_hw: SizeHW | None  # None if it was never done
    outputs: dict[str, Pixels]  # subfolder → bytes of its file there, see `outputs.SUFFIXES`


class JournalEnd(Record):
    """Says that the files about all images were written after the entries above."""

    state: str  # digest of these files, see `batch`
