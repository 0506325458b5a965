"""The files of an image → whether they are whole, and their px those that the documents say."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emerdiff import Masks
from fusion.formats.panoptic import read_ids
from fusion.formats.schema import INSTANCES, PANOPTIC, ImageRecord
from fusion.formats.semantic import MAX_PALETTE_LABELS
from fusion.runs.outputs import masks_metadata, output_file, pixel_hash
from fusion.step.config import FusionConfig
from fusion.validate.evidence import evidence_faults, region_faults
from fusion.validate.extras import Extras, extra_image_faults
from fusion.validate.faults import Check, Fault, Json, difference, is_there
from fusion.validate.images import ImageFacts
from fusion.validate.regions import paint
from ground.files import read_own
from ground.label_maps import pixel_counts
from ground.strips import gathered
from ground.video import split_frame


def image_faults(
    output: Path,
    image: ImageFacts,
    categories: Sequence[Json],
    fusion: FusionConfig | None,
    extras: Extras,
    *,
    with_masks: bool,
) -> Iterator[Fault]:
    """Its files, and the segmentations of its annotations; px only as far as `--max-megapixels` allows.

    `fusion` says how masks got their labels: None if that is not known.
    """
    record = yield from _read_record(output, image)
    height, width = image.size_hw
    if Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        size = f"{width} x {height} px"
        yield Fault(INSTANCES, f"image {image.name} has {size}, too many to look at: --max-megapixels allows more")
        return
    yield from _drawn_faults(output, "overlays", image, None if record is None else record.overlay_pixels)
    if split_frame(image.source)[1] is not None:
        yield from _drawn_faults(output, "video-frames", image, None if record is None else record.pixels)
    masks = (yield from _read_masks(output, image, record)) if with_masks else None
    owners = yield from paint(image)
    ids = yield from _read_panoptic(output, image)
    if ids is not None:
        yield from _panoptic_pixel_faults(image, ids, owners)
    yield from _semantic_faults(output, image, ids, categories)
    yield from _geotiff_faults(output, image)
    if owners is not None:
        yield from region_faults(image, owners, categories)
        if masks is not None and fusion is not None:
            yield from evidence_faults(image, owners, masks, fusion)
        yield from extra_image_faults(output, image, owners, extras, categories)


def _drawn_faults(output: Path, kind: str, image: ImageFacts, pixels: str | None) -> Iterator[Fault]:
    """Whether its overlay, or its frame, is what the run drew: of that `pixel_hash`, if it is known."""
    opened = yield from _read_png(output, kind, image)
    if opened is None or pixels is None:
        return
    if opened.mode != "RGB" or pixel_hash(np.asarray(opened)) != pixels:
        yield Fault(_relative(kind, image.name), "is not what the run drew")


def _read_panoptic(output: Path, image: ImageFacts) -> Check[NDArray[np.int32] | None]:
    """(H, W) ids of its panoptic PNG."""
    opened = yield from _read_png(output, "panoptic", image)
    if opened is None:
        return None
    if opened.mode != "RGB":
        yield Fault(_relative("panoptic", image.name), f"is of mode {opened.mode}, expected RGB")
        return None
    return read_ids(output_file(output, "panoptic", image.name))


def _panoptic_pixel_faults(
    image: ImageFacts, ids: NDArray[np.int32], owners: NDArray[np.int32] | None
) -> Iterator[Fault]:
    """Whether `ids` are those of the annotations that own the px, and of segments_info, as often as that says."""
    path = _relative("panoptic", image.name)
    if owners is not None:
        numbers = np.array([0, *(annotation["id"] for annotation in image.annotations)], np.int32)
        expected = gathered(numbers, owners)
        yield from _pixel_faults(path, ids, expected, "the masks of the annotations")
    if image.segments is None:
        return
    areas = pixel_counts(ids)
    listed = {0, *(segment["id"] for segment in image.segments)}
    for extra in sorted(set(np.flatnonzero(areas).tolist()) - listed):
        yield Fault(path, f"has {areas[extra]} px of id {extra}, expected ids of its segments_info alone")
    for segment in image.segments:
        area = int(areas[segment["id"]]) if segment["id"] < len(areas) else 0
        if not area:
            yield Fault(path, f"has no px of id {segment['id']}, which is in its segments_info")
        elif area != segment["area"]:
            where = f"segment {segment['id']}"
            yield Fault(PANOPTIC, f"{where}: area is {segment['area']}, expected {area}, its px in {path}")


def _semantic_faults(
    output: Path, image: ImageFacts, ids: NDArray[np.int32] | None, categories: Sequence[Json]
) -> Iterator[Fault]:
    """Mode, palette and, if the `ids` of its panoptic PNG are known, px: the categories of their segments."""
    path = _relative("semantic", image.name)
    opened = yield from _read_png(output, "semantic", image)
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
    for annotation in image.annotations:
        if annotation["id"] < len(category_of):
            category_of[annotation["id"]] = annotation["category_id"]
    expected = f"the categories of {_relative('panoptic', image.name)}"
    yield from _pixel_faults(path, np.asarray(opened), gathered(category_of, ids), expected)


def _geotiff_faults(output: Path, image: ImageFacts) -> Iterator[Fault]:
    """Whether the semantic map of a GeoTIFF, if there is one, is that of the PNG."""
    path, semantic = _relative("geotiff", image.name), _relative("semantic", image.name)
    if not (output / path).exists():
        return
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(read_own(output / path)), formats=["TIFF"]) as found:
            warnings.simplefilter("ignore")
            with Image.open(output / semantic, formats=["PNG"]) as expected:
                same = found.size == expected.size and np.array_equal(np.asarray(found), np.asarray(expected))
    except Exception as error:  # as for PNGs
        yield Fault(path, f"cannot be decoded: {error!r}")
        return
    if not same:
        yield Fault(path, f"is not {semantic}")


def _pixel_faults(path: str, found: NDArray[Any], expected: NDArray[Any], what: str) -> Iterator[Fault]:
    """One fault if two maps (H, W) differ."""
    wrong = found != expected
    if wrong.any():
        y, x = np.unravel_index(int(wrong.argmax()), wrong.shape)
        first = f"the first, at x {x}, y {y}, is {found[y, x]}, expected {expected[y, x]}"
        yield Fault(path, f"{np.count_nonzero(wrong)} px differ from {what}; {first}")


def _read_png(output: Path, kind: str, image: ImageFacts) -> Check[Image.Image | None]:
    """A decoded PNG of the image's size; None, and a fault, if it is anything else."""
    path = _relative(kind, image.name)
    height, width = image.size_hw
    if not (yield from is_there(output, path)):
        return None
    try:
        with warnings.catch_warnings(), Image.open(output / path, formats=["PNG"]) as opened:
            warnings.simplefilter("ignore")  # large images are fine as long as they decode
            if fits := opened.size == (width, height):  # from its head: nothing of another size is decoded
                opened.load()
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


def _read_masks(output: Path, image: ImageFacts, record: ImageRecord | None) -> Check[Masks | None]:
    """Its cached masks, if they are of this very image."""
    path = _relative("masks", image.name)
    if not (yield from is_there(output, path)):
        return None
    try:
        metadata = Masks.load_metadata(output / path)
        masks = Masks.load(output / path, size_hw=image.size_hw, difference=False, affinity=False)
    except ValueError as error:
        yield Fault(path, f"cannot be loaded: {error}")
        return None
    if record is not None and metadata != masks_metadata(record.pixels, str(metadata.get("config_hash"))):
        yield Fault(path, "holds the masks of another image, or does not say of which")
        return None
    return masks


def _read_record(output: Path, image: ImageFacts) -> Check[ImageRecord | None]:
    """annotations/NAME.json, which later runs write the files about all images from: whether it agrees with them."""
    path = _relative("annotations", image.name)
    if not (yield from is_there(output, path)):
        return None
    try:
        record = ImageRecord.from_bytes(read_own(output / path))
    except (OSError, ValueError) as error:
        yield Fault(path, f"cannot be read: {error}")
        return None
    yield from difference(path, f"size_hw, against {INSTANCES}", record.size_hw, list(image.size_hw))
    kept = ("category_id", "bbox", "evidence")
    found = [{key: region.to_json()[key] for key in kept} for region in record.regions]
    expected = [{key: annotation[key] for key in kept} for annotation in image.annotations]
    yield from difference(path, f"regions, against annotations of {INSTANCES}", found, expected)
    return record


def _relative(kind: str, name: str) -> str:
    """The output of an image as faults name it."""
    return output_file(Path(), kind, name).as_posix()
