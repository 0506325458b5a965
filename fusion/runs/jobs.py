"""What `batch.py` does to every image: the job of `emerseg segment` and that of `emerseg masks`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion.formats import coco
from fusion.formats.palette import label_colors, palette
from fusion.formats.panoptic import panoptic_png
from fusion.formats.polygons import center_polygons, region_polygons, side_polygons
from fusion.formats.render import draw_regions, overlay
from fusion.formats.report import thumbnails
from fusion.formats.schema import RUN, ImageRecord, RunImage
from fusion.formats.semantic import semantic_png
from fusion.runs.exports import write_exports
from fusion.runs.job import Finished, Job, Written
from fusion.runs.outputs import has_outputs, output_file, remove_outputs, write_png
from fusion.runs.spec import RunSpec
from fusion.step.choices import MaskSource, SegmentationStyle
from fusion.step.pipeline import fuse
from ground.files import write_bytes, write_json

if TYPE_CHECKING:
    from fusion.models.segmenter import Segmenter
    from fusion.models.sources import MaskMaker
    from fusion.step.segmentation import Segmentation


# How polygons run, for the styles that have them.
POLYGONS = {SegmentationStyle.POLYGON: side_polygons, SegmentationStyle.POLYGON_CENTERS: center_polygons}


def segment_job(segmenter: Segmenter, output: Path, spec: RunSpec) -> Job:
    """Labelled segmentation of every image and, at the end, the files about all of them (see `fusion.runs.exports`).

    `segmenter` holds the models of `spec`. ValueError on bad labels.
    """
    labels, background = spec.labels, spec.background
    text_embeddings = segmenter.ovseg.encode_labels(labels, background=background)
    colors = label_colors(labels)
    kept = ("masks",) if spec.masks != MaskSource.NONE else ()
    kinds = ("semantic", "panoptic", "overlays", "annotations", *kept)

    def compute(image: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], CachedMasks, Segmentation]:
        coarse = segmenter.ovseg.segment(image, labels, background=background, text_embeddings=text_embeddings)
        make = partial(segmenter.make_masks, coarse=coarse, seed=spec.seed)
        path = output_file(output, "masks", name) if kept else None
        cached = find_masks(path, image, spec.mask_hash, make)
        return image, cached, fuse(cached.masks, coarse, segmenter.fusion)

    def write(
        computed: tuple[NDArray[np.uint8], CachedMasks, Segmentation], name: str, first_id_of: Callable[[int], int]
    ) -> Written:
        image, cached, result = computed
        cached.save()
        regions, id_map = coco.regions(result)
        polygons_of = POLYGONS.get(spec.segmentation)
        record = ImageRecord(
            size_hw=list(result.size_hw),
            regions=regions,
            polygons=None if polygons_of is None else region_polygons(regions, id_map, polygons_of),
            **thumbnails(image, result.label_map, colors),
        )
        first_id = first_id_of(len(regions))
        write_bytes(output_file(output, "semantic", name), semantic_png(result.label_map, colors))
        write_bytes(output_file(output, "panoptic", name), panoptic_png(id_map, first_id))
        write_png(output_file(output, "overlays", name), overlay(image, result))
        write_bytes(output_file(output, "annotations", name), record.to_bytes() + b"\n")
        return Written(result.size_hw, first_id, len(regions))

    def finish(finished: Sequence[Finished], images: Sequence[RunImage]) -> None:
        write_exports(output, finished, labels)
        write_json(output / RUN, spec.run_file(images).to_json())

    return Job(
        config_hash=spec.hash,
        compute=compute,
        write=write,
        finish=finish,
        is_whole=partial(has_outputs, output, kinds=kinds),
        remove=partial(remove_outputs, output),
    )


def masks_job(make_masks: MaskMaker, output: Path, spec: RunSpec) -> Job:
    """Class-agnostic masks of every image: masks/, and overlays/ that show them."""

    def compute(image: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], CachedMasks]:
        path = output_file(output, "masks", name)
        return image, find_masks(path, image, spec.mask_hash, lambda pixels: make_masks(pixels, spec.seed))

    def write(computed: tuple[NDArray[np.uint8], CachedMasks], name: str, first_id_of: Callable[[int], int]) -> Written:
        image, cached = computed
        cached.save()
        found = cached.masks
        # Id 0 would not be drawn.
        shown = draw_regions(image, found.label_map + 1, palette(found.num_masks))
        write_png(output_file(output, "overlays", name), shown)
        return Written((image.shape[0], image.shape[1]))

    def finish(finished: Sequence[Finished], images: Sequence[RunImage]) -> None:
        write_json(output / RUN, spec.run_file(images).to_json())

    return Job(
        config_hash=spec.hash,
        compute=compute,
        write=write,
        finish=finish,
        is_whole=partial(has_outputs, output, kinds=("overlays", "masks")),
        remove=partial(remove_outputs, output),
    )


@dataclass(frozen=True)
class CachedMasks:
    """Masks of an image, and the file that holds them, or shall."""

    masks: Masks
    path: Path | None  # None: they are not kept
    metadata: Mapping[str, str]  # what they were made of and with
    found: bool  # whether they come from the file

    def save(self) -> None:
        """Write the file, unless they come from it."""
        if self.path and not self.found:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.masks.save(self.path, **self.metadata)


def find_masks(
    path: Path | None, image: NDArray[np.uint8], key: str, make: Callable[[NDArray[np.uint8]], Masks]
) -> CachedMasks:
    """The masks in the file `path` if they were made of these very pixels with `key` (see `mask_hash`); else new ones.

    With `path` None they are made and not kept.
    """
    if path is None:
        return CachedMasks(make(image), None, {}, found=False)
    pixels = hashlib.sha256(image.tobytes()).hexdigest()
    wanted = {"config_hash": key, "pixels": f"{image.shape[0]}x{image.shape[1]}:{pixels}"}
    # Where there is none yet, or a damaged file, it is made anew.
    with suppress(FileNotFoundError, ValueError):
        if Masks.load_metadata(path) == wanted:
            return CachedMasks(Masks.load(path), path, wanted, found=True)
    return CachedMasks(make(image), path, wanted, found=False)
