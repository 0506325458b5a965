"""What `batch.py` does to every picture: the job of `emerseg segment` and that of `emerseg masks`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion.runs.batch import Job
from fusion.formats.coco import annotate
from fusion.step.config import DIFFUSION_SOURCES, NO_MASKS
from fusion.runs.exports import write_exports
from ground.files import write_bytes
from fusion.models.load import weights_used
from fusion.runs.outputs import has_outputs, output_file, remove_outputs, write_picture
from fusion.formats.palette import label_colors, palette
from fusion.formats.panoptic import panoptic_png
from fusion.step.pipeline import fuse
from fusion.formats.polygons import add_outlines
from fusion.models.presets import SECTIONS, Preset, config_hash, mask_hash
from fusion.formats.render import draw_regions
from fusion.formats.report import thumbnails
from fusion.formats.semantic import semantic_png
from ground.versions import all_versions
from ovseg.labels import Label

if TYPE_CHECKING:
    from fusion.step.segmentation import Segmentation
    from fusion.models.segmenter import Segmenter
    from fusion.models.sources import MaskMaker


def segment_hash(
    preset: Preset,
    masks: str,
    labels: Sequence[Label],
    background: Sequence[Label],
    *,
    seed: int,
    dtype: str,
    segmentation: str = "rle",
) -> str:
    """The hash of a `segment_job`, known before any model is loaded."""
    words = {
        "labels": [asdict(label) for label in labels],
        "background": [asdict(label) for label in background],
    }
    return config_hash(preset, masks=masks, seed=seed, dtype=dtype, segmentation=segmentation, **words)


def masks_hash(preset: Preset, masks: str, *, seed: int, dtype: str) -> str:
    """The hash of a `masks_job`."""
    return mask_hash(preset.emerdiff, masks, seed=seed, dtype=dtype)


def segment_job(
    segmenter: Segmenter,
    output: Path,
    labels: Sequence[Label],
    background: Sequence[Label] = (),
    *,
    seed: int = 0,
    dtype: str = "auto",
    segmentation: str = "rle",
) -> Job:
    """Labelled segmentation of every picture and, at the end, the files about all of them (see `fusion.runs.exports`).

    `dtype` is what the models were loaded with; `segmentation`, "rle" or "polygon", is how instances.json says where
    they are. ValueError on bad labels.
    """
    text_embeddings = segmenter.ovseg.encode_labels(labels, background=background)
    colors = label_colors(labels)
    key = masks_hash(segmenter.preset, segmenter.masks, seed=seed, dtype=dtype)
    kinds = ("semantic", "panoptic", "overlays", *(("masks",) if segmenter.masks != NO_MASKS else ()))

    def compute(image: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], CachedMasks, Segmentation]:
        coarse = segmenter.ovseg.segment(image, labels, background=background, text_embeddings=text_embeddings)
        make = partial(segmenter.make_masks, coarse=coarse, seed=seed)
        cached = find_masks(output_file(output, "masks", name) if "masks" in kinds else None, image, key, make)
        return image, cached, fuse(cached.masks, coarse, segmenter.preset.fusion.for_masks(segmenter.masks))

    def write(computed: tuple[NDArray[np.uint8], CachedMasks, Segmentation], name: str) -> dict[str, Any]:
        image, cached, result = computed
        cached.save()
        annotations, id_map = annotate(result, labels)
        write_bytes(output_file(output, "semantic", name), semantic_png(result.label_map, colors))
        write_bytes(output_file(output, "panoptic", name), panoptic_png(id_map))
        write_picture(output_file(output, "overlays", name), result.overlay(image, labels))
        payload: dict[str, Any] = {"size_hw": result.label_map.shape, "annotations": annotations}
        if segmentation == "polygon":
            payload["lost_holes"] = add_outlines(annotations, id_map)
        return payload | thumbnails(image, result.label_map, colors)

    return Job(
        config_hash=segment_hash(
            segmenter.preset, segmenter.masks, labels, background, seed=seed, dtype=dtype, segmentation=segmentation
        ),
        settings=_settings(segmenter.preset, segmenter.masks, seed, dtype, clip=True)
        | {"segmentation": segmentation}
        | {"labels": [label.name for label in labels], "background": [label.name for label in background]},
        compute=compute,
        write=write,
        finish=partial(write_exports, output, labels=labels),
        is_whole=partial(has_outputs, output, kinds=kinds),
        remove=partial(remove_outputs, output),
    )


def masks_job(
    preset: Preset, masks: str, make_masks: MaskMaker, output: Path, *, seed: int = 0, dtype: str = "auto"
) -> Job:
    """Class-agnostic masks of every picture: masks/, and overlays/ that show them."""
    key = masks_hash(preset, masks, seed=seed, dtype=dtype)

    def compute(image: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], CachedMasks]:
        path = output_file(output, "masks", name)
        return image, find_masks(path, image, key, lambda picture: make_masks(picture, seed))

    def write(computed: tuple[NDArray[np.uint8], CachedMasks], name: str) -> dict[str, Any]:
        image, cached = computed
        cached.save()
        found = cached.masks
        shown = draw_regions(image, found.label_map + 1, palette(found.num_masks))  # 0 would not be drawn
        write_picture(output_file(output, "overlays", name), shown)
        return {}

    return Job(
        config_hash=key,
        settings=_settings(preset, masks, seed, dtype, clip=False),
        compute=compute,
        write=write,
        finish=lambda finished: None,  # there is no file about the masks of all pictures
        is_whole=partial(has_outputs, output, kinds=("overlays", "masks")),
        remove=partial(remove_outputs, output),
    )


@dataclass(frozen=True)
class CachedMasks:
    """Masks of a picture, and the file that holds them, or shall."""

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
    with suppress(FileNotFoundError, ValueError):  # none yet, or a damaged file: it is made anew
        if Masks.load_metadata(path) == wanted:
            return CachedMasks(Masks.load(path), path, wanted, found=True)
    return CachedMasks(make(image), path, wanted, found=False)


def _settings(preset: Preset, masks: str, seed: int, dtype: str, *, clip: bool) -> dict[str, Any]:
    """What run.json says of a run."""
    return {
        "preset": preset.name,
        "masks": masks,
        "seed": seed,
        "dtype": dtype,
        "config": {section: asdict(getattr(preset, section)) for section in SECTIONS},
        "weights": weights_used(preset, diffusion=masks in DIFFUSION_SOURCES, clip=clip),
        "versions": all_versions(),
    }
