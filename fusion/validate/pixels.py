"""The files of a picture → whether they are whole, and their px those that the documents say."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emerdiff import Masks
from fusion.formats.panoptic import read_ids
from fusion.formats.semantic import MAX_PALETTE_LABELS
from fusion.runs.outputs import INSTANCES, PANOPTIC, output_file
from fusion.validate.faults import Check, Fault, Json, difference
from fusion.validate.pictures import Picture
from fusion.validate.regions import paint


def picture_faults(output: Path, picture: Picture, categories: Sequence[Json], *, with_masks: bool) -> Iterator[Fault]:
    """Its files, and the segmentations of its annotations; px only as far as `--max-megapixels` allows."""
    yield from _read_png(output, "overlays", picture)
    if with_masks:
        yield from _mask_file_faults(output, picture)
    height, width = picture.size_hw
    if Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        size = f"{width} x {height} px"
        yield Fault(INSTANCES, f"image {picture.name} has {size}, too many to look at: --max-megapixels allows more")
        return
    owners = yield from paint(picture)
    ids = yield from _read_panoptic(output, picture)
    if ids is not None:
        yield from _panoptic_pixel_faults(picture, ids, owners)
    yield from _semantic_faults(output, picture, ids, categories)


def _read_panoptic(output: Path, picture: Picture) -> Check[NDArray[np.int32] | None]:
    """(H, W) ids of its panoptic PNG."""
    opened = yield from _read_png(output, "panoptic", picture)
    if opened is None:
        return None
    if opened.mode != "RGB":
        yield Fault(_relative("panoptic", picture.name), f"is of mode {opened.mode}, expected RGB")
        return None
    return read_ids(output_file(output, "panoptic", picture.name))


def _panoptic_pixel_faults(
    picture: Picture, ids: NDArray[np.int32], owners: NDArray[np.int32] | None
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
    output: Path, picture: Picture, ids: NDArray[np.int32] | None, categories: Sequence[Json]
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
            yield from difference(path, "palette, against black and the colors of categories", palette, colors)
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


def _read_png(output: Path, kind: str, picture: Picture) -> Check[Image.Image | None]:
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


def _mask_file_faults(output: Path, picture: Picture) -> Iterator[Fault]:
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
