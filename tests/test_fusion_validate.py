"""`emerseg validate`: what the writers make is valid, damage is found and named, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_codec
from test_cli import emerseg
from tiny_fusion import coarse_of, masks_of

from emerdiff import Masks
from fusion.models.presets import Preset, load_preset
from fusion.runs.batch import plan_run, run_batch
from fusion.runs.inputs import name_outputs
from fusion.runs.jobs import segment_job, segmenting
from fusion.runs.journal import Journal
from fusion.runs.spec import RunSpec
from fusion.step.choices import SegmentationStyle
from fusion.step.config import FusionConfig
from fusion.validate import Fault, validate
from fusion.validate.evidence import evidence_faults, region_faults
from fusion.validate.images import ImageFacts
from fusion.validate.regions import decode_rle
from ovseg import Label

INSTANCES, RESULTS, PANOPTIC, RUN = JSON = ("instances.json", "results.json", "panoptic.json", "run.json")
LABELS = (Label("cat"), Label("grass", stuff=True, color=(1, 200, 3)), Label("sky"))
WALL = (Label("wall"),)  # a background label
# Images of 4 x 4 cells, a digit being the index of a label, "." the background label. In "a": two cats, one with a
# hole of sky in it; grass in two parts.
CELLS = {
    "a.png": ["0001", "0200", "0001", "....", "0..."],
    "b.png": ["....", "....", "....", "...."],
    "sub/a.png": ["22", "12"],
}


class RedIsTheLabel:
    """Stands for the open-vocabulary segmenter: the red of a pixel is the index of its label."""

    def encode_labels(self, labels, background=()):
        return None

    def segment(self, image, labels, background=(), text_embeddings=None):
        return coarse_of(image[..., 0], (*labels, *background), tuple(label.name for label in background))


@dataclass
class RedAndGreen:
    """A segmenter that reads its answers from the image: the green of a pixel is the index of its mask."""

    preset: Preset
    masks: str = "grid"
    ovseg = RedIsTheLabel()

    @property
    def fusion(self):
        return self.preset.fusion

    def make_masks(self, image, seed):
        return masks_of(image[..., 1])

    def coarse_map(self, image, masks, labels, **choices):
        return self.ovseg.segment(image, labels, **{name: choices[name] for name in ("background", "text_embeddings")})


def paint(path: Path, rows: list[str], other: int) -> None:
    """Cells of 3 x 4 px; each mask holds the cells of a label, and two px of the one below: so there are runners-up."""
    index = np.array([[other if cell == "." else int(cell) for cell in row] for row in rows], np.uint8)
    red = np.kron(index, np.ones((3, 4), np.uint8))
    green = red.copy()
    green[2, :2] = red[3, 0]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([red, green, red], axis=-1)).save(path)


def make(
    folder: Path, labels=LABELS, *, names=tuple(CELLS), masks="grid", segmentation="rle", stop_after: int | None = None
) -> Path:
    """A folder that the real writers made of CELLS, and of one file that is no image."""
    paths = [folder / "photos" / name for name in (*names, "torn.jpg")]
    for path in paths[:-1]:
        paint(path, CELLS[path.relative_to(folder / "photos").as_posix()], other=len(labels) % 256)
    paths[-1].write_text("no image")
    output = folder / "out"
    spec = RunSpec(load_preset("sd15", ["fusion.min_area=0"]), labels, WALL, masks, segmentation)
    job, how = segment_job(output, spec), segmenting(RedAndGreen(spec.preset, masks), output, spec)
    journal = Journal.open(output)
    plan = plan_run(name_outputs(paths, journal.names), journal, job, overwrite=True)
    done = []
    for outcome in run_batch(plan, job, how, stop=lambda: stop_after is not None and len(done) >= stop_after):
        done.append(outcome)
    return output


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Valid folders, not to be changed, by the style of their segmentations."""
    return {kind: make(tmp_path_factory.mktemp(kind), segmentation=kind) for kind in SegmentationStyle.values()}


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good["rle"], tmp_path / "copy")


# Valid folders


@pytest.mark.parametrize("kind", SegmentationStyle.values())
def test_what_the_writers_make_is_valid(good, kind):
    assert list(validate(good[kind])) == []
    instances = json.loads((good[kind] / INSTANCES).read_text())
    found = [(a["image_id"], a["category_id"]) for a in instances["annotations"]]
    assert found == [(1, 1), (1, 1), (1, 2), (1, 3), (3, 2), (3, 3)]
    assert {type(a["segmentation"]) for a in instances["annotations"]} == {dict if kind == "rle" else list}
    assert {a["evidence"]["runner_up"] for a in instances["annotations"]} > {None}


def test_all_styles_say_the_same_of_every_region(good):
    kept = ("id", "category_id", "area", "bbox", "evidence")
    found = [
        [[annotation[key] for key in kept] for annotation in load(good[kind] / INSTANCES)["annotations"]]
        for kind in good
    ]
    assert found[0] == found[1] == found[2]
    assert len({(good[kind] / RESULTS).read_bytes() for kind in good}) == 1


def test_what_file_managers_leave_is_no_fault(folder):
    for name in ("overlays/.DS_Store", "semantic/Thumbs.db", "panoptic/desktop.ini"):
        (folder / name).touch()
    assert list(validate(folder)) == []


def test_no_cached_masks_are_expected_of_clip_alone(tmp_path):
    output = make(tmp_path, masks="none")
    assert not (output / "masks").exists()
    assert list(validate(output)) == []


def test_masks_of_images_that_other_labels_were_not_asked_of_stay(tmp_path):
    output = make(tmp_path)
    assert make(tmp_path, LABELS[:2], names=["b.png"]) == output
    assert sorted(path.name for path in (output / "masks").iterdir()) == ["a-2.npz", "a.npz", "b.npz"]
    assert [path.name for path in (output / "semantic").iterdir()] == ["b.png"]
    assert list(validate(output)) == []


@pytest.mark.parametrize(("stop_after", "done"), [(0, 0), (1, 2)])  # the one that is being written is finished
def test_a_run_that_was_stopped_is_valid(tmp_path, stop_after, done):
    output = make(tmp_path, stop_after=stop_after)
    statuses = [image["status"] for image in load(output / RUN)["images"]]
    assert statuses == ["done"] * done + ["pending"] * (4 - done)
    assert list(validate(output)) == []


def test_more_labels_than_a_palette_holds(tmp_path):
    output = make(tmp_path, [*LABELS, *(Label(f"label {number}") for number in range(260))])
    assert Image.open(output / "semantic" / "a.png").mode.startswith("I")
    assert list(validate(output)) == []
    redraw(output / "semantic" / "a.png", lambda pixels: pixels.astype(np.uint8))
    assert found(output, "semantic/a.png", "mode L, expected I;16 with 263 labels")


# Damage, each kind to a copy of a valid folder


def load(path):
    return json.loads(path.read_text())


@contextmanager
def edited(path):
    """The content of a JSON file, written back with what was done to it."""
    content = load(path)
    yield content
    path.write_text(json.dumps(content))


GONE = object()  # for `change`: take the value out


def change(folder, file, place, to):
    """Replace the value at a place such as "images.0.id" of a JSON file: by `to`, or what that makes of it."""
    *parents, last = (int(key) if key.isdigit() else key for key in place.split("."))
    with edited(folder / file) as content:
        for key in parents:
            content = content[key]
        if to is GONE:
            del content[last]
        else:
            content[last] = to(content[last]) if callable(to) else to


def redraw(path, alter):
    """Save a PNG with other pixels, in the mode that these are of, with the palette that it had."""
    with Image.open(path) as image:
        palette, pixels = image.getpalette(), alter(np.array(image))
    altered = Image.fromarray(pixels)
    if palette:
        altered.putpalette(palette)
    altered.save(path)


def found(folder, path, pattern):
    """The faults of a file whose message matches."""
    return [fault for fault in validate(folder) if fault.path == path and re.search(pattern, fault.message)]


def flipped(code, pixel=0):
    """An RLE with one pixel turned."""
    mask = rle_codec.decode(code)
    mask.flat[pixel] ^= 1
    return {"size": code["size"], "counts": rle_codec.encode(mask)["counts"].decode()}


A, E = "annotations.0", "annotations.0.evidence"
B, S = "annotations.0.segmentation", "annotations.0.segments_info"
# what is done to one value → (its file, its place, what it becomes, what is said of that file)
CHANGES = {
    "area + 1": (INSTANCES, f"{A}.area", lambda area: area + 1, "annotation 1: area is .*, expected .* decoded mask"),
    "area negative": (
        INSTANCES,
        f"{A}.area",
        -4,
        "annotation 1: area is -4, expected a number greater than or equal to 0",
    ),
    "area huge": (INSTANCES, f"{A}.area", 10**400, "area is 1000"),
    "area text": (INSTANCES, f"{A}.area", "12", "area is '12', expected a valid integer"),
    "bbox shifted": (INSTANCES, f"{A}.bbox", lambda box: [box[0] + 1, *box[1:]], "1: bbox is .* decoded mask"),
    "bbox short": (
        INSTANCES,
        f"{A}.bbox",
        [1, 2, 3],
        r"bbox is \[1, 2, 3\]: List should have at least 4 items",
    ),
    "bbox of nan": (INSTANCES, f"{A}.bbox", [np.nan] * 4, r"bbox\[0\] is nan, expected a valid integer"),
    "id twice": (INSTANCES, "annotations.1.id", 1, "annotations: id 1 is there 2 times, expected once"),
    "id text": (INSTANCES, f"{A}.id", "1", "annotation 1: id is '1', expected a valid integer"),
    "id huge": (INSTANCES, f"{A}.id", 2**40, f"annotation 1: id is {2**40}, expected a number less than or equal to"),
    "id of an image": (INSTANCES, "images.0.id", 7, "image_id is 1, expected an id of images"),
    "id of a category": (INSTANCES, "categories.0.id", 9, "ids of categories: 9 at place 1, expected 1"),
    "category unknown": (INSTANCES, f"{A}.category_id", 99, "category_id is 99, expected an id of categories"),
    "image unknown": (INSTANCES, f"{A}.image_id", 99, "image_id is 99, expected an id of images"),
    "iscrowd": (INSTANCES, f"{A}.iscrowd", 1, "iscrowd is 1, expected 0"),
    "score nan": (INSTANCES, f"{E}.score", np.nan, "evidence.score is nan, expected a"),
    "nan anywhere": (INSTANCES, "info.version", np.nan, "holds NaN, which is no JSON"),
    "score 2": (INSTANCES, f"{E}.score", 2.0, "evidence.score is 2.0, expected a number less than or equal to 1"),
    "share -1": (INSTANCES, f"{E}.share", -1, "evidence.share is -1, expected a number greater than or equal to 0"),
    "margin -2": (INSTANCES, f"{E}.margin", -2, "evidence.margin is -2, expected a number greater than or equal to -1"),
    "runner-up": (
        INSTANCES,
        f"{E}.runner_up",
        "dog",
        "runner_up is 'dog', expected a label or null",
    ),
    "margin above share": (INSTANCES, f"{E}.share", 0.1, "margin is .*, expected at most its share, 0.1"),
    "no mask_ids": (INSTANCES, f"{E}.mask_ids", [], r"mask_ids are \[\], expected masks in order, at least one"),
    "mask_ids twice": (INSTANCES, f"{E}.mask_ids", [0, 0], r"mask_ids are \[0, 0\], expected masks in order"),
    "mask_ids of elsewhere": (INSTANCES, f"{E}.mask_ids", [0, 9], "annotation 1: mask_ids name 9, which has no px"),
    "mask_ids of others": (
        INSTANCES,
        f"{E}.mask_ids",
        [9],
        "annotation 1: mask_ids lack 0, which has 108 connected px",
    ),
    "supercategory": (INSTANCES, "categories.0.supercategory", "stuff", "1: supercategory is stuff and isthing is 1"),
    "isthing": (
        INSTANCES,
        "categories.0.isthing",
        0,
        "isthing of categories, against labels of run.json: 0 at place 1",
    ),
    "stuff twice": (INSTANCES, f"{A}.category_id", 2, "image 1: has 2 annotations of 'grass', expected one, as it is"),
    "info gone": (INSTANCES, "info", GONE, "the document has no info"),
    "licenses gone": (INSTANCES, "licenses", GONE, "the document has no licenses"),
    "field gone": (INSTANCES, f"{E}.margin", GONE, "annotation 1 has no evidence.margin"),
    "annotation null": (INSTANCES, A, None, "annotation 1 is None, expected an object"),
    "annotations an object": (INSTANCES, "annotations", {}, "annotations is {}, expected a valid list"),
    "width negative": (
        INSTANCES,
        "images.0.width",
        -1,
        "image 1: width is -1, expected a number greater than or equal to 1",
    ),
    "width huge": (INSTANCES, "images.0.width", 2**30, "image a .* too many to look at"),
    "category twice": (INSTANCES, "categories.0.name", "sky", "categories: name 'sky' is there 2 times"),
    "counts a list": (INSTANCES, f"{B}.counts", [3, 4], r"RLE counts are \[3, 4\], expected text"),
    "counts cut": (INSTANCES, f"{B}.counts", lambda counts: counts[:-1], "do not decode and encode to themselves"),
    "counts without end": (INSTANCES, f"{B}.counts", "ooo", "do not decode and encode to themselves"),
    "counts not ascii": (INSTANCES, f"{B}.counts", "ä\ud800", "do not decode and encode to themselves"),
    "counts empty": (INSTANCES, f"{B}.counts", "", "do not decode and encode to themselves"),
    "counts gone": (INSTANCES, f"{B}.counts", GONE, "RLE counts are None, expected text"),
    "rle of another size": (INSTANCES, f"{B}.size", [16, 15], r"RLE size is \[16, 15\], expected \[15, 16\]"),
    "rle flipped": (INSTANCES, B, flipped, r"annotation 1: area is \d+, expected \d+, the px of the decoded mask"),
    "polygon among rle": (INSTANCES, B, [[0, 0, 4, 0, 4, 4]], "annotation 1 is no rle"),
    "result gone": (RESULTS, "0", GONE, "holds 5 entries, expected 6, one per annotation"),
    "result's score": (
        RESULTS,
        "0.score",
        0.123,
        "entry 1: score is 0.123, expected .* as in the evidence in instances.json",
    ),
    "result's score 2": (RESULTS, "0.score", 2, "entry 1: score is 2, expected a number less than or equal to 1"),
    "result's area": (RESULTS, "0.area", 3, "1: area is 3, expected .* decoded mask"),
    "result's bbox": (RESULTS, "0.bbox", [0] * 4, r"entry 1: bbox is \[0, 0, 0, 0\], expected .* as in instances.json"),
    "result's mask": (RESULTS, "0.segmentation", flipped, "entry 1: segmentation is .* as in instances.json"),
    "result a polygon": (RESULTS, "0.segmentation", [[0, 0]], "entry 1: .* polygons, expected RLE"),
    "result's image": (RESULTS, "0.image_id", 9, "pycocotools refuses it: .*do not correspond"),
    "result a list": (RESULTS, "0", [], r"entry 1 is \[\], expected an object"),
    "image gone from panoptic": (PANOPTIC, "images.1", GONE, "images, against instances.json: .*2 in all, expected 3"),
    "segment's id": (PANOPTIC, f"{S}.0.id", 77, "image 1: ids of segments_info: 2 at place 1, expected 1"),
    "segment gone": (PANOPTIC, f"{S}.0", GONE, "image 1: ids of segments_info: 2 at place 1, expected 1"),
    "segment twice": (PANOPTIC, S, lambda found: [*found, found[-1]], "segments_info: 4 at place 5, expected nothing"),
    "segment's area": (PANOPTIC, f"{S}.0.area", 3, "segment 1: area is 3, expected .* px in panoptic/a.png"),
    "segment's category": (PANOPTIC, f"{S}.0.category_id", 3, "segment 1: category_id is 3, expected 1"),
    "segment's bbox": (PANOPTIC, f"{S}.0.bbox", [0] * 4, "segment 1: bbox is .* as in instances.json"),
    "segment a list": (
        PANOPTIC,
        f"{S}.0",
        [],
        r"annotation 1: segments_info\[0\] is \[\], expected a valid dictionary",
    ),
    "color elsewhere": (PANOPTIC, "categories.1.color", [0, 0, 0], "categories, against instances.json: .* at place 2"),
    "entry gone": (PANOPTIC, "annotations.1", GONE, "image_ids of annotations: 3 at place 2, expected 2"),
    "entry's file": (PANOPTIC, f"{A}.file_name", "b.png", "image 1: file_name is 'b.png', expected a.png"),
    "status": (RUN, "images.0.status", "skipped", "status is 'skipped', expected 'done', 'failed' or 'pending'"),
    "done is pending": (
        RUN,
        "images.0.status",
        "pending",
        "images that are done, .*: 'b.png' at place 1, expected 'a.png'",
    ),
    "failed, not why": (RUN, "images.3.reason", None, "torn.jpg is failed and its reason is None"),
    "image not in run": (RUN, "images.0", GONE, "images that are done, .*: 'b.png' at place 1, expected 'a.png'"),
    "image renamed": (
        RUN,
        "images.0.file_name",
        "z.png",
        "images that are done, .*: 'z.png' at place 1, expected 'a.png'",
    ),
    "name twice": (RUN, "images.0.name", "b", "images: name 'b' is there 2 times"),
    "name of elsewhere": (RUN, "images.0.name", "../a", r"images\[0\].name is '\.\./a', expected the name of a file"),
    "name of no file": (RUN, "images.0.name", "\ud800", "name is .*ud800"),
    "labels": (
        RUN,
        "labels.0.name",
        "dog",
        "labels, against categories of instances.json: 'dog' at place 1, expected 'cat'",
    ),
    "source of masks": (RUN, "masks", "sam", "masks is 'sam', expected one of emerdiff, naive, slic, grid, none"),
    "no hash": (RUN, "config_hash", "abc", "config_hash is 'abc': String should match pattern"),
}


def flip_rle_everywhere(folder):
    """In both files, with the right area: only pixels can tell."""
    for file, annotation in ((INSTANCES, A), (RESULTS, "0")):
        change(folder, file, f"{annotation}.segmentation", partial(flipped, pixel=-1))
        change(folder, file, f"{annotation}.area", lambda area: area + 1)


def overlap(folder):
    """The second cat gets the pixels of the first."""
    with edited(folder / INSTANCES) as content:
        first, second = content["annotations"][:2]
        second.update({key: first[key] for key in ("segmentation", "area", "bbox")})


def ids_from_0(folder):
    with edited(folder / INSTANCES) as content:
        for annotation in content["annotations"]:
            annotation["id"] -= 1


def without_annotation(folder):
    change(folder, INSTANCES, A, GONE)


def without_image(folder):
    for file in (INSTANCES, PANOPTIC):
        change(folder, file, "images.1", GONE)


def higher(folder):
    for file in (INSTANCES, PANOPTIC):
        change(folder, file, "images.0.height", lambda height: height + 1)


def swap_results(folder):
    with edited(folder / RESULTS) as content:
        content[0], content[-1] = content[-1], content[0]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def turn_pixel(path, value):
    def alter(pixels):
        pixels[0, 0] = value
        return pixels

    redraw(path, alter)


def shrink(path):
    redraw(path, lambda pixels: np.ascontiguousarray(pixels[:-1]))


def recolor(path):
    with Image.open(path) as image:
        palette = image.getpalette()
        palette[4] ^= 1
        image.putpalette(palette)
        image.save(path)


def without_palette(path):
    with Image.open(path) as image:
        pixels = np.array(image)
    Image.fromarray(pixels).save(path)


def replace_journal(path):
    path.write_text('{"config_hash":"other","folder":"/"}\n' + path.read_text().split("\n", 1)[1])


def turn_to_link(path):
    shutil.move(path, path.parent.parent.parent / path.name)
    path.symlink_to(path.parent.parent.parent / path.name)


def blacken(path):
    redraw(path, np.zeros_like)


def save_masks(path, label_map, **changes):
    """Other masks in the place of a file's, with its metadata but for `changes`."""
    masks_of(np.asarray(label_map, np.int32)).save(path, **{**Masks.load_metadata(path), **changes})


PNG = "panoptic/a.png"
ANOTHER_LINE = (b'"a.png",', b'"z.png",')
# what is done to a file → (how, the file, what is said of it)
FILE_DAMAGES = {
    "document gone": (Path.unlink, INSTANCES, "missing"),
    "run gone": (Path.unlink, RUN, "missing"),
    "document cut": (cut, INSTANCES, "cannot be read"),
    "document no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), RESULTS, "cannot be read"),
    "document too deep": (lambda path: path.write_text("[" * 99_999), PANOPTIC, "cannot be read"),
    "document a folder": (lambda path: (path.unlink(), path.mkdir()), RESULTS, "is no file, expected a file"),
    "list for an object": (lambda path: path.write_text("[1]"), INSTANCES, r"holds \[1\], expected an object"),
    "object for a list": (lambda path: path.write_text("{}"), RESULTS, "holds {}, expected a list"),
    "panoptic px of no id": (partial(turn_pixel, value=(99, 0, 1)), PNG, "has 1 px of id 65635, expected ids of"),
    "panoptic px of another": (partial(turn_pixel, value=(2, 0, 0)), PNG, "1 px differ .* x 0, y 0, is 2, expected 1"),
    "panoptic shrunk": (shrink, PNG, "has 16 x 14 px, expected 16 x 15"),
    "panoptic gone": (Path.unlink, "panoptic/b.png", "missing"),
    "panoptic cut": (cut, PNG, "cannot be decoded"),
    "panoptic with alpha": (lambda path: Image.open(path).convert("RGBA").save(path), PNG, "mode RGBA, expected RGB"),
    "semantic px": (partial(turn_pixel, value=2), "semantic/a.png", "1 px differ .* is 2, expected 1"),
    "semantic shrunk": (shrink, "semantic/a.png", "has 16 x 14 px, expected 16 x 15"),
    "semantic recolored": (recolor, "semantic/a.png", "palette, .*: 114 at place 5, expected 115"),
    "semantic grey": (without_palette, "semantic/a.png", "is of mode L, expected P with 3 labels"),
    "semantic gone": (Path.unlink, "semantic/a-2.png", "missing"),
    "overlay gone": (Path.unlink, "overlays/b.png", "missing"),
    "overlay cut": (cut, "overlays/a.png", "cannot be decoded"),
    "overlay shrunk": (shrink, "overlays/a.png", "has 16 x 14 px, expected 16 x 15"),
    "overlay a jpeg": (lambda path: Image.open(path).save(path, format="JPEG"), "overlays/a.png", "cannot be decoded"),
    "record gone": (Path.unlink, "annotations/a.json", "missing"),
    "record cut": (cut, "annotations/a.json", "cannot be read"),
    "record of another": (
        lambda path: shutil.copy(path.with_name("b.json"), path),
        "annotations/a.json",
        "regions, against annotations of instances.json",
    ),
    "stray record": (Path.touch, "annotations/c.json", "belongs to no image of run.json"),
    "masks gone": (Path.unlink, "masks/a.npz", "missing"),
    "masks cut": (cut, "masks/a.npz", "cannot be loaded"),
    "masks of another": (masks_of(np.zeros((5, 7), np.int32)).save, "masks/a.npz", "has 7 x 5 px, expected 16 x 15"),
    "masks of an image of the same size": (
        lambda path: save_masks(path, Masks.load(path).label_map, pixels="0" * 64),
        "masks/a.npz",
        "holds the masks of another image",
    ),
    "masks that say nothing": (
        lambda path: Masks.load(path).save(path),
        "masks/a.npz",
        "holds the masks of another image, or does not say of which",
    ),
    "report gone": (Path.unlink, "report.html", "missing"),
    "report emptied": (lambda path: path.write_bytes(b""), "report.html", "is cut: it does not end in </html>"),
    "report without images": (
        lambda path: path.write_bytes(path.read_bytes().replace(b'class="image"', b'class="x"')),
        "report.html",
        "shows something else than the record of image a$",
    ),
    "report cut": (cut, "report.html", "is cut: it does not end in </html>"),
    "report changed": (
        lambda path: path.write_bytes(path.read_bytes().replace(*ANOTHER_LINE)),
        "report.html",
        "shows something else than the record of image a$",
    ),
    "report of more": (
        lambda path: path.write_bytes(path.read_bytes() + path.read_bytes()),
        "report.html",
        "shows more images than the 4 that are through",
    ),
    "overlay black": (blacken, "overlays/a.png", "is not what the run drew"),
    "overlay grey": (lambda path: Image.open(path).convert("L").save(path), "overlays/a.png", "not what the run drew"),
    "stray masks": (Path.touch, "masks/c.npz", "belongs to no image of run.json"),
    **{
        f"{path} a link": (turn_to_link, path, "is a link, expected a file")
        for path in (PNG, "semantic/a.png", "overlays/a.png", "masks/a.npz", "annotations/a.json")
    },
    **{
        f"{name} a link": (
            lambda path: (path.rename(path.with_suffix(".old")), path.symlink_to(path.with_suffix(".old"))),
            name,
            "is a link, expected a file",
        )
        for name in (*JSON, "report.html", "journal.jsonl")
    },
    "folder a link": (
        lambda path: (path.rename(path.with_suffix(".old")), path.symlink_to(path.with_suffix(".old"))),
        "semantic",
        "is a link, expected a folder",
    ),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), RUN, "is no file, expected a file"),
    "stray image": (Path.touch, "semantic/c.png", "belongs to no image of run.json"),
    "stray file": (Path.touch, "panoptic/notes.txt", "belongs to no image of run.json"),
    "half a document": (Path.touch, "instances.json.part", "left unfinished"),
    "half an image": (Path.touch, "overlays/a.png.part", "left unfinished"),
    "journal of another": (replace_journal, "journal.jsonl", "config_hash is 'other', expected that of run.json"),
    "journal cut": (lambda path: path.write_text("{"), "journal.jsonl", "its first line cannot be read"),
}
# what is done to the folder → (how, the file that is at fault, what is said of it)
FOLDER_DAMAGES = {
    "ids from 0": (ids_from_0, INSTANCES, "annotation 1: id is 0, expected a number greater than or equal to 1"),
    "annotation gone": (without_annotation, RESULTS, "holds 6 entries, expected 5, one per annotation"),
    "overlap": (overlap, INSTANCES, "annotation 2: .* as to annotation 1; expected no overlap"),
    "rle flipped everywhere": (flip_rle_everywhere, PNG, "1 px differ from the masks of the annotations"),
    "image gone": (without_image, PANOPTIC, "image_ids of annotations: 2 at place 2, expected 3"),
    "image gone, says run": (without_image, RUN, "images that are done, .*: 'b.png' at place 2, expected 'sub/a.png'"),
    "results swapped": (swap_results, RESULTS, "entry 1: category_id is .* as in instances.json"),
    "image higher": (higher, "semantic/a.png", "has 16 x 15 px, expected 16 x 16"),
    "hash": (lambda folder: change(folder, RUN, "config_hash", "0" * 64), "journal.jsonl", "expected that of run.json"),
}


def hole(folder):
    """The annotation with a hole: its polygon takes the most values."""
    shapes = [annotation["segmentation"] for annotation in load(folder / INSTANCES)["annotations"]]
    return max(range(len(shapes)), key=lambda place: len(shapes[place][0]))


def without_hole(folder):
    """Its outline alone: the whole of x 0 … 12, y 0 … 9 but for what is not there on the left."""
    change(folder, INSTANCES, f"annotations.{hole(folder)}.segmentation", [[0, 0, 12, 0, 12, 9, 0, 9]])


def other_masks_of_one_image(folder):
    """Halves, in the place of the masks that the evidence is about; what else the file says is right."""
    save_masks(folder / "masks" / "a.npz", np.arange(15 * 16).reshape(15, 16) // 120)


def change_evidence_everywhere(folder, **changes):
    """In the record as well: only the masks can tell."""
    for file, place in ((INSTANCES, A), ("annotations/a.json", "regions.0")):
        change(folder, file, f"{place}.evidence", lambda evidence: {**evidence, **changes})


FOLDER_DAMAGES |= {
    "masks with other ids": (other_masks_of_one_image, INSTANCES, "mask_ids lack 0|mask_ids name"),
    "mask_ids everywhere": (partial(change_evidence_everywhere, mask_ids=[2]), INSTANCES, "1: mask_ids name 2"),
    "share everywhere": (
        partial(change_evidence_everywhere, share=0.999),
        INSTANCES,
        r"annotation 2: share, margin and runner_up are .* as annotation 1 has, which is of the same mask",
    ),
}


def rle_of_first(folder):
    change(folder, INSTANCES, B, load(folder / RESULTS)[0]["segmentation"])


# the same to polygons, as functions of the folder
POLYGON_DAMAGES = {
    "hole filled": (without_hole, "its polygons are not its mask in results.json"),
    "area": (
        lambda folder: change(folder, INSTANCES, f"annotations.{hole(folder)}.area", lambda area: area + 12),
        r"area is \d+, expected \d+, the px of the decoded mask",
    ),
    "corner moved": (lambda folder: change(folder, INSTANCES, f"{B}.0.0", 1), "polygons are not its mask|area is"),
    "corner outside": (lambda folder: change(folder, INSTANCES, f"{B}.0.0", 1e9), "has corners beyond the 16 x 15 px"),
    "corner nan": (lambda folder: change(folder, INSTANCES, f"{B}.0.0", np.nan), "has corners beyond the 16 x 15 px"),
    "two corners": (lambda folder: change(folder, INSTANCES, f"{B}.0", [0, 0, 1, 1]), "three corners or more"),
    "no polygon": (lambda folder: change(folder, INSTANCES, B, []), "an empty list, expected a polygon"),
    "polygon a text": (lambda folder: change(folder, INSTANCES, B, ["0, 0"]), "polygon is '0, 0', expected x, y"),
    "rle among polygons": (rle_of_first, "annotation 1 is no polygon(-centers)?, which run.json says"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_value_is_found_and_named(folder, kind):
    file, place, to, pattern = CHANGES[kind]
    change(folder, file, place, to)
    assert found(folder, file, pattern), list(validate(folder))


@pytest.mark.parametrize("kind", FILE_DAMAGES)
def test_a_damaged_file_is_found_and_named(folder, kind):
    damage, path, pattern = FILE_DAMAGES[kind]
    damage(folder / path)
    assert found(folder, path, pattern), list(validate(folder))


@pytest.mark.parametrize("kind", FOLDER_DAMAGES)
def test_files_that_disagree_are_found_and_named(folder, kind):
    damage, path, pattern = FOLDER_DAMAGES[kind]
    damage(folder)
    assert found(folder, path, pattern), list(validate(folder))


def test_polygons_of_the_other_style_are_found_and_named(good, tmp_path):
    for kind in ("polygon", "polygon-centers"):
        folder = shutil.copytree(good[kind], tmp_path / kind)
        change(folder, RUN, "segmentation", "polygon" if kind == "polygon-centers" else "polygon-centers")
        assert found(folder, INSTANCES, "its polygons are not its mask in results.json"), list(validate(folder))


@pytest.mark.parametrize("style", ["polygon", "polygon-centers"])
@pytest.mark.parametrize("kind", POLYGON_DAMAGES)
def test_damage_to_polygons_is_found_and_named(good, tmp_path, kind, style):
    folder = shutil.copytree(good[style], tmp_path / "copy")
    damage, pattern = POLYGON_DAMAGES[kind]
    damage(folder)
    assert found(folder, INSTANCES, pattern), list(validate(folder))


def test_one_damage_is_not_a_hundred_faults(folder):
    turn_pixel(folder / "overlays" / "a.png", (1, 2, 3))
    faults = [Fault("overlays/a.png", "is not what the run drew")]
    assert list(validate(folder)) == faults
    (folder / "masks" / "b.npz").unlink()
    assert list(validate(folder)) == [*faults, Fault("masks/b.npz", "missing")]
    ids_from_0(folder)
    assert len([fault for fault in validate(folder) if fault.path == INSTANCES]) == 1


# Maps of 4 x 4 px: "." is no annotation, a letter an annotation of a thing, except that "s" and "t" are of stuff


def facts_of(rows, mask_ids=None):
    """(what documents would say of the annotations in a map, the map itself)."""
    letters = sorted({letter for row in rows for letter in row} - {"."})
    owners = np.array([[0 if cell == "." else 1 + letters.index(cell) for cell in row] for row in rows], np.int32)
    categories = {"a": 1, "b": 1, "c": 2, "s": 3, "t": 3}
    annotations = [
        {
            "id": 10 + place,
            "category_id": categories[letter],
            "evidence": {"mask_ids": (mask_ids or {}).get(letter, []), "share": 1.0, "margin": 1.0, "runner_up": None},
        }
        for place, letter in enumerate(letters)
    ]
    return ImageFacts("x", owners.shape, annotations, None, None, centers=False), owners


CATEGORIES = [
    {"id": n, "name": name, "isthing": thing} for n, name, thing in ((1, "cat", 1), (2, "dog", 1), (3, "sky", 0))
]
REGIONS = {
    "right": (["a..b", ".a.b", "cc..", "s..s"], []),
    "one thing in two pieces": (["a..a", "....", "....", "cc.."], ["annotation 10: has 2 pieces that do not touch"]),
    "one cat as two": (["aabb", "....", "....", "...."], ["annotations 10 and 11: touch and are of one label"]),
    "one cat as two by a corner": (["aa..", "..bb", "....", "...."], ["annotations 10 and 11: touch"]),
    "one sky as two": (["sstt", "....", "....", "...."], ["annotations 10 and 11: touch and are of one label"]),
}


@pytest.mark.parametrize("kind", REGIONS)
def test_annotations_are_the_connected_regions(kind):
    rows, expected = REGIONS[kind]
    faults = [fault.message for fault in region_faults(*facts_of(rows), CATEGORIES)]
    assert len(faults) == len(expected) and all(map(str.startswith, faults, expected)), faults


MASKS = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 2, 1]]
EVIDENCE = {
    "right": ({"a": [0, 2], "c": [1]}, 0, []),
    "a mask of elsewhere": ({"a": [0, 1, 2], "c": [1]}, 0, ["annotation 10: mask_ids name 1, which has no px in it"]),
    "a mask is missing": ({"a": [0], "c": [1]}, 0, ["annotation 10: mask_ids lack 2, which has 5 connected px in it"]),
    "a crumb was absorbed": ({"a": [0], "c": [1]}, 6, []),
    "what is missing is no crumb": ({"a": [0], "c": [1]}, 5, ["annotation 10: mask_ids lack 2"]),
}


@pytest.mark.parametrize("kind", EVIDENCE)
def test_mask_ids_are_the_masks_that_the_annotation_was_made_of(kind):
    mask_ids, min_area, expected = EVIDENCE[kind]
    image, owners = facts_of(["aacc", "aacc", "aacc", "aaac"], mask_ids)
    faults = [
        fault.message for fault in evidence_faults(image, owners, masks_of(MASKS), FusionConfig(min_area=min_area))
    ]
    assert len(faults) == len(expected) and all(map(str.startswith, faults, expected)), faults


def test_parts_of_masks_that_were_split_are_counted_as_they_voted():
    image, owners = facts_of(["aacc", "aacc", "aacc", "aaac"], {"a": [0, 2], "c": [1]})
    looks_alike = masks_of([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 1, 1], [2, 2, 2, 1]])
    assert list(evidence_faults(image, owners, looks_alike, FusionConfig(split=True))) == []
    merged = masks_of([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
    messages = [fault.message for fault in evidence_faults(image, owners, merged, FusionConfig(split=True))]
    assert messages == ["annotation 10: mask_ids name 2, which has no px in it"]


# Any damage at all


NUMBERS = [True, -1, 0, 1, 10**9, 2**63, 10**300, 0.5, np.nan, np.inf, -np.inf]
TEXTS = ["", "1", "a", "\ud800", "\0", "../a"]
OTHERS = [None, [], {}, [[]], [None], [0, 0, 0, 0], [["a"]], [[0.5] * 8], {"size": [15, 16], "counts": "0" * 9}]
VALUES = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])


def nodes(content, place=""):
    """The places of all values in a JSON document, as `change` takes them."""
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, child in children:
        yield f"{place}{key}"
        yield from nodes(child, f"{place}{key}.")


@pytest.fixture(scope="module", params=SegmentationStyle.values())
def scratch(good, tmp_path_factory, request):
    """A copy to be damaged and repaired many times."""
    return shutil.copytree(good[request.param], tmp_path_factory.mktemp("scratch") / "out")


@contextmanager
def repaired(path):
    whole = path.read_bytes()
    try:
        yield whole
    finally:
        path.write_bytes(whole)


def assert_faults(faults):
    """Each names a file of the folder and says something; that they are found without an exception is the point."""
    for fault in faults:
        assert fault.path and fault.message and not Path(fault.path).is_absolute()


@pytest.mark.parametrize("name", [*JSON, "journal.jsonl"])
@given(data=st.data())
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
def test_changed_bytes_are_no_traceback(scratch, name, data):
    with repaired(scratch / name) as whole:
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(0, 3))):
            damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        (scratch / name).write_bytes(damaged[: data.draw(st.just(None) | st.integers(0, len(whole)))])
        assert_faults(validate(scratch))


@pytest.mark.parametrize("name", JSON)
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_changed_values_are_no_traceback(scratch, name, data):
    with repaired(scratch / name):
        place = data.draw(st.sampled_from(list(nodes(load(scratch / name)))))
        change(scratch, name, place, data.draw(VALUES))
        assert_faults(validate(scratch))


@pytest.mark.parametrize(
    "path", ["panoptic/a.png", "semantic/a.png", "overlays/a.png", "masks/a.npz", "annotations/a.json"]
)
@given(data=st.data())
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
def test_changed_images_masks_and_records_are_no_traceback(scratch, path, data):
    with repaired(scratch / path) as whole:
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        (scratch / path).write_bytes(damaged[: data.draw(st.just(None) | st.integers(0, len(whole)))])
        assert_faults(validate(scratch))


# The command


def test_a_valid_folder_is_one_line_and_exit_code_0(good, capsys):
    assert emerseg("validate", good["rle"]) == 0
    annotations = len(load(good["rle"] / INSTANCES)["annotations"])
    assert capsys.readouterr().out == f"valid: 3 images, {annotations} annotations\n"


def test_faults_are_a_line_each_and_exit_code_1(folder, capsys):
    (folder / "overlays" / "b.png").unlink()
    (folder / "semantic" / "line\nbreak \udcff.png").touch()
    assert emerseg("validate", folder) == 1
    assert capsys.readouterr().out.splitlines() == [
        "semantic/line break \\udcff.png: belongs to no image of run.json",
        "overlays/b.png: missing",
    ]


def test_a_hundred_faults_are_shown_and_the_rest_is_counted(folder, capsys):
    for number in range(130):
        (folder / "overlays" / f"{number}.txt").touch()
    assert emerseg("validate", folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (101, "... and 30 more")


def test_large_images_are_looked_at_on_request(folder, capsys):
    assert emerseg("validate", folder, "--max-megapixels", "0.0001") == 1
    assert "--max-megapixels allows more" in capsys.readouterr().out
    assert emerseg("validate", folder) == 0


@pytest.mark.parametrize(
    ("name", "expected"), [("gone", "no folder"), ("photos", "no results of"), ("a.txt", "no folder but a file")]
)
def test_what_is_no_output_folder_is_wrong_use(tmp_path, capsys, name, expected):
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.txt").touch()
    assert emerseg("validate", tmp_path / name) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"emerseg: error: {expected}") and shown.err.count("\n") == 1


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_rle_is_decoded_as_pycocotools_does(height, width, seed):
    rng = np.random.default_rng(seed)
    mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
    code = rle_codec.encode(np.asfortranarray(mask))
    found = decode_rle({"size": [height, width], "counts": code["counts"].decode()}, (height, width))
    again = np.zeros_like(mask)
    again[found.window][found.inside] = 1
    np.testing.assert_array_equal(again, mask)
    assert found.area == mask.sum()
    long = np.zeros((height * 400, width * 50), np.uint8)
    long[rng.integers(height) * 300 :, rng.integers(width) :] = 1
    counts = rle_codec.encode(np.asfortranarray(long))["counts"].decode()
    assert decode_rle({"size": list(long.shape), "counts": counts}, long.shape).area == long.sum()
