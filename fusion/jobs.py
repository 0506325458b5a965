"""What `batch.py` does to every picture: the job of `emerseg segment` and that of `emerseg masks`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion.batch import Job
from fusion.coco import annotate
from fusion.config import DIFFUSION_SOURCES, NO_MASKS
from fusion.files import write_bytes
from fusion.models import weights_used
from fusion.outputs import INSTANCES, has_outputs, output_file, remove_outputs, write_instances, write_picture
from fusion.palette import label_colors, palette
from fusion.pipeline import fuse
from fusion.presets import SECTIONS, Preset, config_hash, mask_hash
from fusion.render import draw_regions
from fusion.semantic import semantic_png
from fusion.versions import all_versions
from ovseg.labels import Label

if TYPE_CHECKING:
    from fusion.segmenter import Segmenter
    from fusion.sources import MaskMaker


def segment_hash(
    preset: Preset, masks: str, labels: Sequence[Label], background: Sequence[Label], *, seed: int, dtype: str
) -> str:
    """The hash of a `segment_job`, known before any model is loaded."""
    words = {
        "labels": [asdict(label) for label in labels],
        "background": [asdict(label) for label in background],
    }
    return config_hash(preset, masks=masks, seed=seed, dtype=dtype, **words)


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
) -> Job:
    """Labelled segmentation of every picture: semantic/, overlays/, masks/ and, at the end, instances.json.

    `dtype` is what the models were loaded with. ValueError on bad labels.
    """
    text_embeddings = segmenter.ovseg.encode_labels(labels, background=background)
    colors = label_colors(labels)
    key = masks_hash(segmenter.preset, segmenter.masks, seed=seed, dtype=dtype)
    kinds = ("semantic", "overlays", *(("masks",) if segmenter.masks != NO_MASKS else ()))

    def process(image: NDArray[np.uint8], name: str) -> dict[str, Any]:
        coarse = segmenter.ovseg.segment(image, labels, background=background, text_embeddings=text_embeddings)
        make = partial(segmenter.make_masks, coarse=coarse, seed=seed)
        path = output_file(output, "masks", name) if "masks" in kinds else None
        result = fuse(cached_masks(path, image, key, make), coarse, segmenter.preset.fusion)
        write_bytes(output_file(output, "semantic", name), semantic_png(result.label_map, colors))
        write_picture(output_file(output, "overlays", name), result.overlay(image, labels))
        return {"size_hw": result.label_map.shape, "annotations": annotate(result, labels)}

    return Job(
        config_hash=segment_hash(segmenter.preset, segmenter.masks, labels, background, seed=seed, dtype=dtype),
        settings=_settings(segmenter.preset, segmenter.masks, seed, dtype, clip=True)
        | {"labels": [label.name for label in labels], "background": [label.name for label in background]},
        process=process,
        finish=partial(write_instances, output / INSTANCES, labels=labels),
        is_whole=partial(has_outputs, output, kinds=kinds),
        remove=partial(remove_outputs, output),
    )


def masks_job(
    preset: Preset, masks: str, make_masks: MaskMaker, output: Path, *, seed: int = 0, dtype: str = "auto"
) -> Job:
    """Class-agnostic masks of every picture: masks/, and overlays/ that show them."""
    key = masks_hash(preset, masks, seed=seed, dtype=dtype)

    def process(image: NDArray[np.uint8], name: str) -> dict[str, Any]:
        found = cached_masks(output_file(output, "masks", name), image, key, lambda picture: make_masks(picture, seed))
        shown = draw_regions(image, found.label_map + 1, palette(found.num_masks))  # 0 would not be drawn
        write_picture(output_file(output, "overlays", name), shown)
        return {}

    return Job(
        config_hash=key,
        settings=_settings(preset, masks, seed, dtype, clip=False),
        process=process,
        finish=lambda finished: None,  # there is no file about the masks of all pictures
        is_whole=partial(has_outputs, output, kinds=("overlays", "masks")),
        remove=partial(remove_outputs, output),
    )


def cached_masks(
    path: Path | None, image: NDArray[np.uint8], key: str, make: Callable[[NDArray[np.uint8]], Masks]
) -> Masks:
    """The masks in the file `path` if they were made of these very pixels with `key` (see `mask_hash`); else new ones.

    New masks are saved there, unless `path` is None.
    """
    if path is None:
        return make(image)
    pixels = hashlib.sha256(image.tobytes()).hexdigest()
    wanted = {"config_hash": key, "pixels": f"{image.shape[0]}x{image.shape[1]}:{pixels}"}
    with suppress(FileNotFoundError, ValueError):  # none yet, or a damaged file: it is made anew
        if Masks.load_metadata(path) == wanted:
            return Masks.load(path)
    masks = make(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    masks.save(path, **wanted)
    return masks


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
