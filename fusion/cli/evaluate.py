"""`emerseg eval`: a data set with its truth in, a table of quality, time and memory out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emerdiff.speed import Speed
from fusion.cli import options
from fusion.cli.console import percent
from fusion.cli.threads import use_threads
from fusion.step.choices import FuseRule, MaskSource, Protocol
from ground.choices import Dtype
from ovseg.choices import DenseVariant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusion.evaluation.evaluate import Row


def evaluate(
    dataset: Annotated[str, typer.Option("--dataset", help="The data set: toy, pictures.")],
    root: Annotated[
        str,
        typer.Option(
            "--root",
            help="Where it is. toy: a range of seeds FIRST:END. pictures: a folder DIR/labels with names.txt and label "
            "maps, the images in DIR/images; every tenth of them: DIR/labels:0::10.",
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="A preset's name or YAML file. Default: toy for toy, otherwise mini."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            help="As for segment. What the data set calls background then counts as other, and without labels in it, "
            '"", as well.',
        ),
    ] = None,
    masks: Annotated[
        str,
        typer.Option(
            "--masks",
            callback=options.several_of(MaskSource),
            help="Comma-separated: emerdiff, naive, slic, grid, none.",
        ),
    ] = "none,naive,emerdiff",
    clip: Annotated[
        str | None,
        typer.Option(
            "--clip",
            callback=options.several_of(DenseVariant),
            help="Comma-separated: maskclip; of a ViT of open_clip also clip, sclip, clearclip, naclip. "
            "Default: the preset's.",
        ),
    ] = None,
    fuse: Annotated[
        str | None,
        typer.Option(
            "--fuse",
            callback=options.several_of(FuseRule),
            help="Comma-separated: overlap, embedding. Default: the preset's.",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            callback=options.several_of(Protocol),
            help="Comma-separated: open (labels in, mIoU out), bound (quality of the masks alone).",
        ),
    ] = "open,bound",
    speed: Annotated[
        str | None,
        typer.Option(
            "--speed",
            callback=options.several_of(Speed),
            help="Comma-separated, for masks emerdiff: exact, fast, instant. Default: the preset's.",
        ),
    ] = None,
    clusters: options.Clusters = None,
    device: options.Device = "auto",
    dtype: options.Dtype = Dtype.AUTO,
    batch: options.Batch = None,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    overrides: options.Overrides = None,
    json: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Also write the table there.")] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure mIoU, pixel accuracy, boundary F, the masks' upper bound, seconds and memory against ground truth."""
    from fusion.cli.console import set_up_output

    set_up_output(verbose=verbose)
    use_threads(threads)
    from dataclasses import asdict, replace

    from emerdiff import EmerDiff
    from fusion.cli.labels import labels_of
    from fusion.evaluation.datasets import open_dataset
    from fusion.evaluation.evaluate import evaluate as measure
    from fusion.evaluation.evaluate import needs_clip, ways_of
    from fusion.models.load import load_clip, load_diffusion
    from fusion.models.presets import config_hash, load_preset
    from fusion.models.sources import mask_maker
    from ground.device import resolved
    from ground.files import write_json
    from ovseg import OpenVocabSegmenter
    from ovseg.choices import Refinement

    sources, protocols = options.split_list(masks), options.split_list(protocol)
    preset = preset or ("toy" if dataset == "toy" else "mini")
    settings = load_preset(preset, options.overrides_of(overrides, clusters=clusters, batch=batch))
    variants = options.split_list(clip) or [settings.ovseg.dense]
    other = None if background is None else labels_of(background) if background.strip() else ()
    data = open_dataset(dataset, root, limit, other)
    diffusion = next((source for source in sources if MaskSource(source).needs_diffusion), MaskSource.NONE)
    named = needs_clip(protocols, sources)
    model = load_diffusion(diffusion, settings, labels=named, device=device, dtype=dtype)
    clips = {}
    if named:
        loaded = load_clip(settings, device=device, dtype=dtype)
        clips = {v: OpenVocabSegmenter(loaded.backbone, replace(settings.ovseg, dense=v)) for v in variants}

    rows: list[Row] = []
    ways = ways_of(sources, options.split_list(speed) or [settings.emerdiff.speed])
    makers = {}
    for way in ways:
        config = replace(settings.emerdiff, speed=way.speed or settings.emerdiff.speed)
        of_speed = EmerDiff(model.backbone, config) if model is not None else None
        if way.masks != MaskSource.NONE:
            refines = named and settings.ovseg.refine != Refinement.NONE
            makers[way] = mask_maker(way.masks, config, of_speed, keep_affinity=refines)
    rules = options.split_list(fuse)
    steps = measure(
        data, ways, makers, clips, settings.fusion, protocols=protocols, rules=rules, seed=seed, model=model
    )
    for number, rows in enumerate(steps, start=1):
        if not quiet:
            print(f"[{number}/{data.count}] {_short(rows)}", file=sys.stderr, flush=True)
    _print_table(rows)
    if json is not None:
        table = {
            "dataset": dataset,
            "root": root,
            "images": data.count,
            "background": [label.name for label in data.background],
            "config_hash": config_hash(settings, seed=seed, **resolved(device, dtype)),
            "rows": [asdict(row) for row in rows],
        }
        write_json(json, table)


def _short(rows: Sequence[Row]) -> str:
    """The main figure of every row so far, with the variant of CLIP where there are several."""
    several = len({row.clip for row in rows if row.clip}) > 1
    names = [f"{row.speed or row.masks}{f' {row.clip}' if several and row.clip else ''}" for row in rows]
    main = [row.bound_miou if row.miou is None else row.miou for row in rows]
    return "  ".join(
        f"{row.protocol} {name} {percent(figure)}" for row, name, figure in zip(rows, names, main, strict=True)
    )


def _print_table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("for", "masks", "clip", "fuse", box=None, padding=(0, 1, 0, 0))  # 80 columns are enough
    for column in ("mIoU", "bound", "pixels", "F 2px", "F 5px", "s/img", "MB"):
        table.add_column(column, justify="right")
    for row in rows:
        figures = (row.miou, row.bound_miou, row.pixel_accuracy, row.boundary_f2, row.boundary_f5)
        table.add_row(
            row.protocol,
            row.masks if row.speed is None else f"{row.masks} {row.speed}",
            row.clip or "-",
            row.fuse or "-",
            *(percent(figure) for figure in figures),
            f"{row.seconds_per_image:.2f}",
            "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
        )
    Console().print(table)
