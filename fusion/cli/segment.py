"""`emerseg segment`, `emerseg masks` and `emerseg relabel`: images in, an output folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusion.cli import options
from fusion.cli.threads import use_threads
from fusion.step.choices import MaskSource
from ground.choices import Dtype


def segment(
    inputs: options.Inputs,
    labels: options.Labels,
    output: options.Output,
    preset: options.PresetName = "sd15",
    background: options.Background = None,
    masks: options.Masks = MaskSource.EMERDIFF,
    clusters: options.Clusters = None,
    speed: options.HowFast = None,
    clip: options.Clip = None,
    fuse: options.Fuse = None,
    min_score: options.MinScore = None,
    min_margin: options.MinMargin = None,
    min_area: options.MinArea = None,
    segmentation: options.Segmentation = None,
    export: options.Exports = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    max_megapixels: options.MaxMegapixels = None,
    bits: options.Bits = None,
    device: options.Device = "auto",
    dtype: options.Dtype = Dtype.AUTO,
    batch: options.Batch = None,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    every: options.Every = None,
    overwrite: options.Overwrite = False,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Label every pixel of images with your labels: COCO annotations, semantic maps and overlays.

    Finished images are skipped when the command is run again.
    """
    from fusion.cli.console import run_to_end, set_up_output

    set_up_output(verbose=verbose, quiet=quiet)
    use_threads(threads)
    from fusion.cli.labels import labelled_run
    from fusion.runs.folder import opened_run

    overridden = options.overrides_of(
        overrides,
        clusters=clusters,
        speed=speed,
        batch=batch,
        clip=clip,
        fuse=fuse,
        min_score=min_score,
        min_margin=min_margin,
        min_area=min_area,
    )
    spec = labelled_run(
        preset,
        overridden,
        labels,
        background,
        masks=masks,
        seed=seed,
        device=device,
        dtype=dtype,
        exports=options.split_list(export),
        **options.given(
            segmentation=segmentation, tile=tile, overlap=overlap, max_megapixels=max_megapixels, bits=bits
        ),
    )
    with opened_run(spec, inputs, output, limit=limit, every=every, overwrite=overwrite) as run:
        code = run_to_end(run.start, len(run.files), quiet=quiet)
    raise typer.Exit(code)


def masks(
    inputs: options.Inputs,
    output: options.Output,
    preset: options.PresetName = "sd15",
    masks: options.Masks = MaskSource.EMERDIFF,
    clusters: options.Clusters = None,
    speed: options.HowFast = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    max_megapixels: options.MaxMegapixels = None,
    bits: options.Bits = None,
    device: options.Device = "auto",
    dtype: options.Dtype = Dtype.AUTO,
    batch: options.Batch = None,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    every: options.Every = None,
    overwrite: options.Overwrite = False,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Class-agnostic masks of images, without labels: masks/NAME.npz, and overlays that show them."""
    from fusion.cli.console import run_to_end, set_up_output

    set_up_output(verbose=verbose, quiet=quiet)
    use_threads(threads)
    from fusion.models.presets import load_preset
    from fusion.runs.folder import opened_run
    from fusion.runs.spec import RunSpec

    spec = RunSpec(
        preset=load_preset(preset, options.overrides_of(overrides, clusters=clusters, speed=speed, batch=batch)),
        masks=masks,
        seed=seed,
        device=device,
        dtype=dtype,
        **options.given(tile=tile, overlap=overlap, max_megapixels=max_megapixels, bits=bits),
    )
    with opened_run(spec, inputs, output, limit=limit, every=every, overwrite=overwrite) as run:
        code = run_to_end(run.start, len(run.files), quiet=quiet)
    raise typer.Exit(code)


def relabel(
    output: Annotated[
        Path, typer.Argument(help="The output folder of an earlier run.", metavar="DIR", parser=options.folder)
    ],
    labels: options.Labels,
    background: options.Background = None,
    clip: options.Clip = None,
    fuse: options.Fuse = None,
    min_score: options.MinScore = None,
    min_margin: options.MinMargin = None,
    min_area: options.MinArea = None,
    segmentation: options.Segmentation = None,
    export: options.Exports = None,
    max_megapixels: options.MaxMegapixels = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Other labels for the images of an earlier run, on its cached masks: CLIP and fusion alone, in its folder.

    What is not given stays as it was; the result is that of a new run with these labels.
    """
    from fusion.cli.console import run_to_end, set_up_output

    set_up_output(verbose=verbose, quiet=quiet)
    use_threads(threads)
    from fusion.cli.labels import labels_of, note_kinds
    from fusion.runs.folder import opened_relabelling
    from fusion.runs.relabel import relabelled

    spec = relabelled(
        output,
        labels_of(labels),
        labels_of(background) if background is not None else None,
        options.overrides_of(
            overrides, clip=clip, fuse=fuse, min_score=min_score, min_margin=min_margin, min_area=min_area
        ),
        device=device,
        exports=options.split_list(export),
        **options.given(segmentation=segmentation, max_megapixels=max_megapixels),
    )
    note_kinds(spec.labels)
    with opened_relabelling(spec, output) as run:
        code = run_to_end(run.start, len(run.files), quiet=quiet)
    raise typer.Exit(code)
