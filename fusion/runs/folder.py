"""A whole folder in one call: inputs + spec → an output folder. The recipe of `emerseg segment`, `masks`, `relabel`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.models.load import load_clip, load_diffusion, needs_diffusion
from fusion.models.segmenter import Segmenter
from fusion.models.sources import mask_maker
from fusion.models.tiling import tiled
from fusion.runs.batch import locked, plan_run, run_batch
from fusion.runs.extras import exports_of
from fusion.runs.inputs import ImageFile, find_images, name_outputs
from fusion.runs.job import Compute, Outcome
from fusion.runs.jobs import masking, masks_job, segment_job, segmenting
from fusion.runs.journal import Journal
from fusion.runs.outputs import folders
from fusion.runs.relabel import earlier_files
from fusion.runs.spec import RunSpec, read_run
from fusion.step.choices import MaskSource
from ground.images import limit_pixels

if TYPE_CHECKING:
    from emerdiff import EmerDiff
    from emerdiff.affinity import Affinity


@dataclass(frozen=True)
class OpenRun:
    """A run whose images are known and whose models, if any of these is to be done, are loaded."""

    files: Sequence[ImageFile]
    start: Callable[..., Generator[Outcome, None, None]]  # (stop=…) yields what became of each image; see `run_batch`


def run_folder(
    spec: RunSpec,
    inputs: Sequence[str | Path] | str | Path,
    output: str | Path,
    *,
    limit: int | None = None,
    every: int | None = None,
    overwrite: bool = False,
) -> tuple[Outcome, ...]:
    """Do all that `spec` says to every image of `inputs`: what became of each; the results are in the folder `output`.

    `inputs` are images, videos, folders, globs or lists, as for `emerseg segment`, and `every` is its `--every`; the
    folder is that of the command line, and the same call goes on where a killed one stopped. Without labels in the spec
    it makes class-agnostic masks alone. An image that fails has its reason in its `Outcome`. Raises FileNotFoundError
    or ValueError on inputs, labels and settings that are wrong, WeightsMissing on weights that are not on this disk.
    """
    if not str(output).strip():
        raise ValueError(f"output is {str(output)!r}, expected a folder")
    given = [inputs] if isinstance(inputs, (str, Path)) else inputs
    opened = opened_run(spec, given, Path(output), limit=limit, every=every, overwrite=overwrite)
    with opened as run:
        return tuple(run.start())


@contextmanager
def opened_run(
    spec: RunSpec,
    inputs: Sequence[str | Path],
    output: Path,
    *,
    limit: int | None = None,
    every: int | None = None,
    overwrite: bool = False,
) -> Iterator[OpenRun]:
    """The same image by image: finds the images, locks the folder, loads the models; the caller starts and may stop.

    ValueError as well if the folder holds results of another configuration, unless `overwrite`.
    """
    limit_pixels(spec.max_megapixels)
    paths = find_images(inputs, outside=folders(output), every=every)
    with locked(output):
        journal = Journal.open(output)
        if journal.config_hash not in (None, spec.hash) and not overwrite:
            raise ValueError(
                f"{output} holds results of another configuration ({journal.config_hash[:12]}, now {spec.hash[:12]})"
                f"{_ran_otherwise(spec, output)}: choose another --output, or give --overwrite"
            )
        files = name_outputs(paths, journal.names)[:limit]
        spec = _with_earlier_exports(spec, output)
        yield _opened(files, journal, spec, partial(_compute, spec, output), overwrite=overwrite)


def _with_earlier_exports(spec: RunSpec, output: Path) -> RunSpec:
    """With those that the folder holds: they go on to say what its other files do."""
    earlier: Sequence[str] = ()
    with suppress(ValueError):
        earlier = read_run(output).exports
    return replace(spec, exports=exports_of([*spec.exports, *earlier])) if spec.labels and earlier else spec


def _ran_otherwise(spec: RunSpec, output: Path) -> str:
    """What differs, if it is the device or the precision: they are not always asked for."""
    with suppress(ValueError):
        earlier, now = read_run(output).ran, spec.ran
        if (earlier.device, earlier.dtype) != (now["device"], now["dtype"]):
            return f", of {earlier.device} in {earlier.dtype}, now {now['device']} in {now['dtype']}"
    return ""


@contextmanager
def opened_relabelling(spec: RunSpec, output: Path) -> Iterator[OpenRun]:
    """The images of an earlier run once more, by `spec` (see `relabelled`) and on their cached masks."""
    limit_pixels(spec.max_megapixels)
    with locked(output):
        journal = Journal.open(output)
        files = earlier_files(journal)
        yield _opened(files, journal, spec, partial(_compute_on_cached_masks, spec, output))


def _opened(
    files: Sequence[ImageFile],
    journal: Journal,
    spec: RunSpec,
    load: Callable[[], Compute],
    *,
    overwrite: bool = False,
) -> OpenRun:
    """The run, with models from `load` unless every image is finished."""
    job = segment_job(journal.output, spec) if spec.labels else masks_job(spec)
    plan = plan_run(files, journal, job, overwrite=overwrite)
    how = load() if plan.wanted else None
    return OpenRun(files, partial(run_batch, plan, job, how))


def _compute(spec: RunSpec, output: Path) -> Compute:
    if spec.labels:
        segmenter = Segmenter.from_preset(
            spec.preset, masks=spec.masks, device=spec.device, dtype=spec.dtype, tiling=spec.tiling
        )
        return segmenting(segmenter, output, spec)
    model = load_diffusion(spec.masks, spec.preset, labels=False, device=spec.device, dtype=spec.dtype)
    return masking(tiled(mask_maker(spec.masks, spec.preset.emerdiff, model), spec.tiling), output, spec)


def _compute_on_cached_masks(spec: RunSpec, output: Path) -> Compute:
    clip = load_clip(spec.preset, device=spec.device, dtype=spec.dtype)
    return segmenting(Segmenter(spec.preset, clip, None, spec.masks, _late_affinity(spec), spec.tiling), output, spec)


def _late_affinity(spec: RunSpec) -> Callable[..., Affinity] | None:
    """The affinity of an image whose masks kept none, by a model that is loaded for the first of them."""
    if not needs_diffusion(MaskSource.NONE, spec.preset):
        return None

    @cache
    def model() -> EmerDiff | None:
        return load_diffusion(MaskSource.NONE, spec.preset, device=spec.device, dtype=spec.dtype)

    def affinity_of(image: NDArray[np.uint8], *, seed: int) -> Affinity:
        loaded = model()
        assert loaded is not None  # it is needed
        return loaded.affinity(image, seed=seed)

    return affinity_of
