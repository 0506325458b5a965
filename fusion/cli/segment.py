"""`emerseg segment`, `emerseg masks` and `emerseg relabel`: images in, an output folder out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fusion.cli import options


def segment(
    inputs: options.Inputs,
    labels: Annotated[str, typer.Option("--labels", "-l", help='Words, as in "cat, grass, sky", or a label file.')],
    output: options.Output,
    preset: options.PresetName = "sd15",
    background: Annotated[
        str | None, typer.Option("--background", help="Words, or a label file, whose pixels become other.")
    ] = None,
    masks: options.Masks = "emerdiff",
    clusters: options.Clusters = None,
    clip: options.Clip = None,
    fuse: options.Fuse = None,
    min_score: options.MinScore = None,
    min_margin: options.MinMargin = None,
    min_area: options.MinArea = None,
    segmentation: options.Segmentation = None,
    max_megapixels: options.MaxMegapixels = options.MEGAPIXELS,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    overwrite: options.Overwrite = False,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Label every pixel of pictures with your words: COCO annotations, semantic maps and overlays.

    Finished pictures are skipped when the command is run again.
    """
    from fusion.cli.console import run_to_end, set_up_output

    set_up_output(verbose=verbose)
    from fusion.cli.words import read_words
    from fusion.models.presets import load_preset
    from fusion.models.segmenter import Segmenter
    from fusion.runs.batch import locked, plan_run, run_batch
    from fusion.runs.inputs import find_images
    from fusion.runs.jobs import segment_hash, segment_job
    from fusion.runs.outputs import folders
    from fusion.step.config import SEGMENTATIONS
    from ground.images import limit_pixels
    from ovseg.labels import as_labels

    words = read_words(labels)
    others = read_words(background) if background is not None else ()
    as_labels(words, others)  # a word cannot be both
    settings = load_preset(
        preset,
        options.overrides_of(
            overrides,
            clusters=clusters,
            batch=batch,
            clip=clip,
            fuse=fuse,
            min_score=min_score,
            min_margin=min_margin,
            min_area=min_area,
        ),
    )
    limit_pixels(max_megapixels)
    paths = find_images(inputs, outside=folders(output))
    shape = segmentation or SEGMENTATIONS[0]
    config_hash = segment_hash(settings, masks, words, others, seed=seed, dtype=dtype, segmentation=shape)
    with locked(output):
        files = plan_run(paths, output, config_hash, overwrite=overwrite)[:limit]
        segmenter = Segmenter.from_preset(settings, masks=masks, device=device, dtype=dtype)
        job = segment_job(segmenter, output, words, others, seed=seed, dtype=dtype, segmentation=shape)
        code = run_to_end(partial(run_batch, files, output, job, overwrite=overwrite), len(files), quiet=quiet)
    raise typer.Exit(code)


def masks(
    inputs: options.Inputs,
    output: options.Output,
    preset: options.PresetName = "sd15",
    source: options.Masks = "emerdiff",
    clusters: options.Clusters = None,
    max_megapixels: options.MaxMegapixels = options.MEGAPIXELS,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    batch: options.Batch = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    overwrite: options.Overwrite = False,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Class-agnostic masks of pictures, without words: masks/NAME.npz, and overlays that show them."""
    from fusion.cli.console import run_to_end, set_up_output

    set_up_output(verbose=verbose)
    from fusion.models.load import load_diffusion
    from fusion.models.presets import load_preset
    from fusion.models.sources import mask_maker
    from fusion.runs.batch import locked, plan_run, run_batch
    from fusion.runs.inputs import find_images
    from fusion.runs.jobs import masks_hash, masks_job
    from fusion.runs.outputs import folders
    from fusion.step.config import NO_MASKS
    from ground.images import limit_pixels

    if source == NO_MASKS:
        raise ValueError("--masks none is CLIP alone and needs words: use `emerseg segment`")
    settings = load_preset(preset, options.overrides_of(overrides, clusters=clusters, batch=batch))
    limit_pixels(max_megapixels)
    paths = find_images(inputs, outside=folders(output))
    config_hash = masks_hash(settings, source, seed=seed, dtype=dtype)
    with locked(output):
        files = plan_run(paths, output, config_hash, overwrite=overwrite)[:limit]
        maker = mask_maker(source, settings.emerdiff, load_diffusion(source, settings, device=device, dtype=dtype))
        job = masks_job(settings, source, maker, output, seed=seed, dtype=dtype)
        code = run_to_end(partial(run_batch, files, output, job, overwrite=overwrite), len(files), quiet=quiet)
    raise typer.Exit(code)


def relabel(
    output: Annotated[
        Path, typer.Argument(help="The output folder of an earlier run.", metavar="DIR", file_okay=False)
    ],
    labels: Annotated[str, typer.Option("--labels", "-l", help='Words, as in "cat, grass, sky", or a label file.')],
    background: Annotated[
        str | None, typer.Option("--background", help="Words, or a label file, whose pixels become other.")
    ] = None,
    clip: options.Clip = None,
    fuse: options.Fuse = None,
    min_score: options.MinScore = None,
    min_margin: options.MinMargin = None,
    min_area: options.MinArea = None,
    segmentation: options.Segmentation = None,
    max_megapixels: options.MaxMegapixels = options.MEGAPIXELS,
    device: options.Device = "auto",
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """New words for the pictures of an earlier run, on its cached masks: CLIP and fusion alone, in its folder.

    What is not given stays as it was; the result is that of a new run with these words.
    """
    from fusion.cli.console import run_to_end, set_up_output

    set_up_output(verbose=verbose)
    from fusion.cli.words import read_words
    from fusion.models.load import load_clip
    from fusion.models.segmenter import Segmenter
    from fusion.runs.batch import locked, run_batch
    from fusion.runs.jobs import segment_job
    from fusion.runs.relabel import read_run
    from ground.images import limit_pixels
    from ovseg.labels import as_labels

    words = read_words(labels)
    others = read_words(background) if background is not None else ()
    as_labels(words, others)
    run = read_run(
        output,
        options.overrides_of(
            overrides, clip=clip, fuse=fuse, min_score=min_score, min_margin=min_margin, min_area=min_area
        ),
    )
    limit_pixels(max_megapixels)
    with locked(output):
        segmenter = Segmenter(run.preset, load_clip(run.preset, device=device, dtype=run.dtype), None, run.masks)
        shape = segmentation or run.segmentation
        job = segment_job(segmenter, output, words, others, seed=run.seed, dtype=run.dtype, segmentation=shape)
        code = run_to_end(partial(run_batch, run.files, output, job), len(run.files), quiet=quiet)
    raise typer.Exit(code)
