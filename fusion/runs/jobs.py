"""What `batch.py` does to every image: the job of `emerseg segment` and that of `emerseg masks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emerdiff import Masks
from fusion.formats import coco
from fusion.formats.palette import label_colors, palette
from fusion.formats.panoptic import panoptic_png
from fusion.formats.polygons import center_polygons, region_polygons, side_polygons
from fusion.formats.render import draw_overlay, draw_regions
from fusion.formats.report import thumbnails
from fusion.formats.schema import INSTANCES, PANOPTIC, REPORT, RESULTS, ImageRecord, JournalEntry, Region
from fusion.formats.semantic import semantic_png
from fusion.models.sources import coarse_masks
from fusion.models.tiling import located
from fusion.runs.choices import Export
from fusion.runs.exports import read_record, write_exports
from fusion.runs.extras import check_exports, encode_kinds, files_of, kinds_of
from fusion.runs.job import Compute, Encoded, Job
from fusion.runs.outputs import masks_metadata, output_file, pixel_hash, png_bytes
from fusion.runs.spec import RunSpec
from fusion.runs.yolo_folder import attach_yolo_image, check_yolo, detach_yolo_image
from fusion.step.choices import MaskSource, SegmentationStyle
from fusion.step.components import connected_parts
from fusion.step.pipeline import fuse
from ground.files import own_size
from ground.strips import narrowed
from ovseg.labels import Label

if TYPE_CHECKING:
    from fusion.models.segmenter import Segmenter
    from fusion.models.sources import MaskMaker
    from fusion.step.segmentation import Segmentation


# How polygons run, for the styles that have them.
POLYGONS = {SegmentationStyle.POLYGON: side_polygons, SegmentationStyle.POLYGON_CENTERS: center_polygons}


@dataclass(frozen=True)
class Listed:
    """An image with its regions: all that its files are made of."""

    image: NDArray[np.uint8]  # (H, W, 3)
    pixels: str  # of the image, see `pixel_hash`
    masks: Mapping[str, bytes]  # the file of its masks, if that is to be written
    label_map: NDArray[Any]  # (H, W): 0 = other, else a category id
    regions: list[Region]
    id_map: NDArray[np.int32]  # (H, W): 0 = other, i = regions[i - 1]
    absent: tuple[Label, ...]  # labels that did not compete


@dataclass(frozen=True)
class Segmented:
    """An image with its segmentation."""

    image: NDArray[np.uint8]  # (H, W, 3)
    cached: CachedMasks
    result: Segmentation

    def listed(self) -> Listed:
        """Its regions, without the maps that they were made of."""
        regions, id_map = coco.regions(self.result)
        cached, result = self.cached, self.result
        return Listed(self.image, cached.pixels, cached.files(), result.label_map, regions, id_map, result.absent)


def segmenting(segmenter: Segmenter, output: Path | None, spec: RunSpec) -> Compute:
    """How images are segmented: `segmenter` holds the models of `spec`. ValueError on bad labels.

    Masks that are cached in the folder `output` serve again.
    """
    labels, background = spec.labels, spec.background
    text_embeddings = segmenter.ovseg.encode_labels(labels, background=background)
    coarse_of = partial(
        segmenter.coarse_map, labels=labels, background=background, text_embeddings=text_embeddings, seed=spec.seed
    )

    def compute(image: NDArray[np.uint8], name: str) -> Segmented | Listed:
        cached = None
        if spec.masks != MaskSource.NONE:
            make = partial(segmenter.make_masks, seed=spec.seed)
            path = None if output is None else output_file(output, "masks", name)
            cached = find_masks(path, image, spec.mask_hash, make)
        coarse = located(coarse_of, image, None if cached is None else cached.masks, spec.tiling)
        if cached is None:
            cached = CachedMasks(coarse_masks(coarse), pixel_hash(image), spec.mask_hash, found=False)
        if spec.tiling is None:
            return Segmented(image, cached, fuse(cached.masks, coarse, segmenter.fusion))
        # Of a large image each map counts: those that are not needed any more go.
        config, masks_file, masks, pixels = segmenter.fusion, cached.files(), cached.masks, cached.pixels
        del cached
        if config.split:
            given = [masks]
            del masks  # so that they go as soon as their parts are known
            masks, config = connected_parts(given.pop(), config.min_area), replace(config, split=False)
        result = fuse(masks, coarse, config)
        del masks, coarse
        highest = int(result.mask_map.max())
        result = replace(
            result, label_map=narrowed(result.label_map, len(labels)), mask_map=narrowed(result.mask_map, highest)
        )
        regions, id_map = coco.regions(result)
        return Listed(image, pixels, masks_file, result.label_map, regions, id_map, result.absent)

    return compute


def segment_job(output: Path, spec: RunSpec) -> Job:
    """Labelled segmentation of every image and, at the end, the files about all of them (see `fusion.runs.exports`)."""
    colors = label_colors(spec.labels)
    names = [label.name for label in spec.labels]
    kept = ("masks",) if spec.masks != MaskSource.NONE else ()

    def encode(computed: Segmented | Listed, first_id_of: Callable[[int], int]) -> Encoded:
        found = computed.listed() if isinstance(computed, Segmented) else computed
        polygons_of = POLYGONS.get(spec.segmentation)
        height, width = found.label_map.shape
        drawn = draw_overlay(found.image, found.label_map, names, colors)
        overlay_pixels = pixel_hash(drawn)
        overlay = Image.fromarray(drawn)
        # Of a large image each copy counts.
        del drawn
        files = {"overlays": png_bytes(overlay)}
        del overlay
        record = ImageRecord(
            size_hw=[height, width],
            pixels=found.pixels,
            overlay_pixels=overlay_pixels,
            regions=found.regions,
            polygons=None if polygons_of is None else region_polygons(found.regions, found.id_map, polygons_of),
            absent=[label.name for label in found.absent],
            **thumbnails(found.image, found.label_map, colors),
        )
        first_id = first_id_of(len(found.regions))
        files = {
            **(found.masks if kept else {}),
            "semantic": semantic_png(found.label_map, colors),
            "panoptic": panoptic_png(found.id_map, first_id),
            **files,
            "annotations": record.to_bytes() + b"\n",
            **encode_kinds(record, spec.labels, kinds_of(spec.exports)),
        }
        return Encoded((height, width), files, first_id, len(found.regions))

    return Job(
        config_hash=spec.hash,
        kinds=(*kept, "semantic", "panoptic", "overlays", "annotations"),
        encode=encode,
        run_file=spec.run_file,
        bits=spec.bits,
        **about_all(output, spec.labels, spec.exports, spec.bits),
    )


def about_all(output: Path, labels: Sequence[Label], exports: Sequence[Export], bits: int | None) -> dict[str, Any]:
    """The fields of a Job that are made of the records of its images: the files about all of them, and the extras.

    ValueError as for `check_exports` and `check_yolo`.
    """
    check_exports(exports)
    if Export.YOLO in exports:
        check_yolo(output)

    def complete(entry: JournalEntry, kinds: Sequence[str]) -> dict[str, bytes]:
        try:
            return encode_kinds(read_record(output, entry), labels, kinds)
        except (OSError, ValueError):  # which `write_exports` names
            return {}

    return {
        "exports": (INSTANCES, RESULTS, PANOPTIC, REPORT, *files_of(exports)),
        "export": partial(write_exports, output, labels=labels, exports=exports),
        "extras": kinds_of(exports),
        "complete": complete,
        "attach": partial(attach_yolo_image, output, bits) if Export.YOLO in exports else None,
        "detach": partial(detach_yolo_image, output) if Export.YOLO in exports else None,
    }


def masking(make_masks: MaskMaker, output: Path, spec: RunSpec) -> Compute:
    """How class-agnostic masks of images are found, or made by `make_masks`."""

    def compute(image: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], CachedMasks]:
        path = output_file(output, "masks", name)
        return image, find_masks(path, image, spec.mask_hash, lambda pixels: make_masks(pixels, spec.seed))

    return compute


def masks_job(spec: RunSpec) -> Job:
    """Class-agnostic masks of every image: masks/, and overlays/ that show them."""

    def encode(found: tuple[NDArray[np.uint8], CachedMasks], first_id_of: Callable[[int], int]) -> Encoded:
        image, cached = found
        # Id 0 would not be drawn.
        shown = draw_regions(image, cached.masks.label_map + 1, palette(cached.masks.num_masks))
        return Encoded((image.shape[0], image.shape[1]), {**cached.files(), "overlays": png_bytes(shown)})

    return Job(
        config_hash=spec.hash,
        kinds=("masks", "overlays"),
        encode=encode,
        exports=(),
        export=lambda finished: {},
        run_file=spec.run_file,
        bits=spec.bits,
    )


@dataclass(frozen=True)
class CachedMasks:
    """Masks of an image, and what they were made of and with."""

    masks: Masks
    pixels: str  # of the image, see `pixel_hash`
    config_hash: str  # see `mask_hash`
    found: bool  # whether they come from a file

    def files(self) -> dict[str, bytes]:
        """The file to be written: none if they come from it."""
        return {} if self.found else {"masks": self.masks.to_bytes(**masks_metadata(self.pixels, self.config_hash))}


def find_masks(
    path: Path | None, image: NDArray[np.uint8], key: str, make: Callable[[NDArray[np.uint8]], Masks]
) -> CachedMasks:
    """Those in the file `path` if they were made of these very pixels with `key` (see `mask_hash`); else new ones."""
    pixels = pixel_hash(image)
    # Where there is none yet, or a damaged file, it is made anew.
    with suppress(OSError, ValueError):
        if path is not None and own_size(path) and Masks.load_metadata(path) == masks_metadata(pixels, key):
            masks = Masks.load(path, size_hw=(image.shape[0], image.shape[1]), difference=False)
            return CachedMasks(masks, pixels, key, found=True)
    return CachedMasks(make(image), pixels, key, found=False)
