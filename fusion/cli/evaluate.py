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

    from fusion.evaluation.plan import Plan
    from fusion.evaluation.rows import Row
    from fusion.evaluation.scores import ImageScore, ScoreFolder
    from fusion.evaluation.tally import Tally

# The names of fusion.evaluation.datasets, which is too heavy for --help; a test compares them.
DATASETS = (
    *("toy", "pictures", "folder", "voc20", "voc21", "context59", "context60", "ade20k", "cityscapes"),
    *("coco-object", "coco-stuff", "coco-stuff27", "coco-panoptic"),
)


def evaluate(
    dataset: Annotated[str, typer.Option("--dataset", help=f"The data set: {', '.join(DATASETS)}.")],
    root: Annotated[
        str,
        typer.Option(
            "--root",
            help="Where it is. toy: a range of seeds FIRST:END. folder: DIR with images, labels, names.txt. pictures: "
            "DIR/labels with names.txt and label maps, the images in DIR/images; every tenth: DIR/labels:0::10. "
            "Others: the folder that is downloaded; where files are missing, a message shows the tree.",
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
            help="Comma-separated: overlap, embedding, auto. Default: the preset's.",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            callback=options.several_of(Protocol),
            help="Comma-separated: open (labels in, mIoU out), bound (quality of the masks alone), modified and "
            "traditional (masks learn classes from the truth, without labels).",
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
    shuffle_seed: Annotated[
        int | None, typer.Option("--shuffle-seed", min=0, help="Shuffle the images before --limit takes the first.")
    ] = None,
    overrides: options.Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=options.folder,
            metavar="DIR",
            help="Keep every image's scores there, so that the same command goes on where it was stopped, and write "
            "table.json, table.md and table.png.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Also write the table there.")] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure mIoU, pixel accuracy, boundary F, the masks' upper bound, seconds and memory against ground truth.

    Where the data set tells objects apart, panoptic quality and mask AP, too. Figures come with intervals of 95 %.
    """
    from fusion.cli.console import set_up_output

    set_up_output(verbose=verbose)
    use_threads(threads)
    from contextlib import nullcontext

    from fusion.cli.labels import labels_of
    from fusion.evaluation.datasets import open_dataset
    from fusion.evaluation.prepare import Comparison, described, hash_of, prepare
    from fusion.evaluation.rows import rows_of
    from fusion.evaluation.scores import ScoreFolder
    from fusion.evaluation.table import table_of, write_table
    from fusion.models.presets import load_preset
    from fusion.runs.batch import locked
    from ground.files import write_json

    settings = load_preset(
        preset or ("toy" if dataset == "toy" else "mini"),
        options.overrides_of(overrides, clusters=clusters, batch=batch),
    )
    other = None if background is None else labels_of(background) if background.strip() else ()
    data = open_dataset(dataset, root, limit, other, shuffle_seed)
    wanted = Comparison(
        protocols=options.split_list(protocol),
        masks=options.split_list(masks),
        speeds=options.split_list(speed),
        clips=options.split_list(clip),
        rules=options.split_list(fuse),
        seed=seed,
        device=device,
        dtype=dtype,
    )
    plan = prepare(data, settings, wanted)
    with nullcontext() if output is None else locked(output):
        kept = None
        if output is not None:
            about = {"dataset": dataset, "root": root, **described(plan, settings, wanted)}
            kept = ScoreFolder.open(output, about)
        rows = rows_of(plan, _scores(plan, kept, quiet=quiet))
        table = table_of(rows, dataset, root, data, hash_of(settings, wanted))
        if output is not None:
            write_table(output, table, rows)
    if json is not None:
        write_json(json, table)
    _print_table(rows)


def _scores(plan: Plan, kept: ScoreFolder | None, *, quiet: bool) -> list[ImageScore]:
    """The scores of all images; shows, after each, what they have come to so far."""
    from fusion.evaluation.evaluate import evaluate as measure
    from fusion.evaluation.rows import running
    from fusion.evaluation.tally import total

    scores: list[ImageScore] = []
    sums: list[Tally] = []
    for number, score in enumerate(measure(plan, kept), start=1):
        scores.append(score)
        new = [row.tally for row in score.rows]
        sums = [total(pair) for pair in zip(sums, new, strict=True)] if sums else new
        if not quiet:
            so_far = _short(running(plan.keys, sums))
            print(f"[{number}/{plan.dataset.count}] {so_far}", file=sys.stderr, flush=True)
    return scores


def _short(rows: Sequence[Row]) -> str:
    """The main figure of every row that has one so far, with the variant of CLIP where there are several."""
    from fusion.evaluation.rows import main_figure

    several = len({row.clip for row in rows if row.clip}) > 1
    return "  ".join(
        f"{row.protocol} {row.speed or row.masks}{f' {row.clip}' if several and row.clip else ''} {percent(figure)}"
        for row in rows
        if (figure := main_figure(row)) is not None
    )


# Columns of a printed table: a heading, and the figure; those that no row of a protocol has are left out.
_FIGURES = {
    "mIoU": "miou",
    "bound": "bound_miou",
    "pixels": "pixel_accuracy",
    "F 2px": "boundary_f2",
    "F 5px": "boundary_f5",
    "PQ": "pq",
    "AP": "ap",
}


def _print_table(rows: Sequence[Row]) -> None:
    """A table for each protocol, in per cent; the main figure with half the width of its interval."""
    from rich.console import Console
    from rich.table import Table

    from fusion.evaluation.table import row_names

    for protocol in dict.fromkeys(row.protocol for row in rows):
        of_protocol = [row for row in rows if row.protocol == protocol]
        values = {name for row in of_protocol for name in _FIGURES.values() if getattr(row, name) is not None}
        shown = {head: name for head, name in _FIGURES.items() if name in values}
        table = Table(protocol, box=None, padding=(0, 1, 0, 0))
        for column in (*shown, "s/img", "MB"):
            table.add_column(column, justify="right")
        for row, name in zip(of_protocol, row_names(of_protocol), strict=True):
            peak = "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}"
            figures = [_figure(row, figure) for figure in shown.values()]
            table.add_row(name, *figures, f"{row.seconds_per_image or 0:.2f}", peak)
        Console().print(table)


def _figure(row: Row, name: str) -> str:
    from fusion.evaluation.rows import main_name

    bounds = row.intervals.get(name) if name == main_name(row) else None
    return percent(getattr(row, name)) + (f" ±{50 * (bounds[1] - bounds[0]):.1f}" if bounds is not None else "")
