"""`emerseg adapt`: a folder of images in, an adapted preset with a report out."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusion.cli import options
from fusion.cli.console import printable
from fusion.cli.threads import use_threads

if TYPE_CHECKING:
    from training.adapt.report import Report


def adapt(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Images, with captions.csv (path,tags,caption), NAME.txt beside NAME.jpg, a folder for each class, or "
            "nothing.",
            metavar="FOLDER",
            parser=options.named,
        ),
    ],
    output: options.Output = Path("emerseg-adapted"),
    words: Annotated[bool, typer.Option("--words", help="Adapt the words alone: what is called what.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Adapt the masks alone: where things end.")] = False,
    both: Annotated[
        bool, typer.Option("--both", help="The default where something says what the images show; else --masks.")
    ] = False,
    minutes: Annotated[
        float,
        typer.Option(
            help="Of training in all: a third for words, the rest for masks. With more, a finished one goes on."
        ),
    ] = 120.0,
    start: Annotated[str, typer.Option("--start", metavar="PRESET", help="The preset to begin with.")] = "mini",
    device: options.Device = "auto",
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Adapt the small embedded models to images of your own, and report what it brought on a tenth that is held out.

    The output is a preset: `emerseg segment IMAGE --preset OUTPUT/preset.yaml --labels ...`. After a stop the same
    command goes on.
    """
    from fusion.cli.console import set_up_output

    given = [name for name, wanted in (("words", words), ("masks", masks), ("both", both)) if wanted]
    if len(given) > 1:
        raise typer.BadParameter(f"--{' and --'.join(given)} given, expected one of --words, --masks, --both")
    set_up_output(verbose=verbose, quiet=quiet)
    if not quiet:
        logging.getLogger("training").setLevel(logging.INFO)
    if not verbose:
        logging.getLogger("ovseg").setLevel(logging.ERROR)  # its notes would be on labels that nobody asked for
    use_threads(threads)
    from fusion.runs.batch import locked
    from training.adapt.recipe import adapt as adapt_to
    from training.adapt.task import Task

    task = Task(folder, output, given[0] if given else None, minutes, start, device)
    try:
        with locked(output):
            report = adapt_to(task)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last minute", file=sys.stderr)
        raise typer.Exit(130) from None
    _print_report(report, output)


def _print_report(report: Report, output: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from training.adapt.report import lines
    from training.adapt.result import PRESET

    table = Table("", "held out", "images", "before", "after", "", box=None, padding=(0, 1, 0, 0))
    for line in lines(report):
        row = (line.part, line.name, str(line.images), line.before, line.after, line.verdict)
        table.add_row(*(escape(printable(text)) for text in row))
    Console().print(table)
    print(printable(f"report: {output / 'report.md'}"))
    print(printable(f"use it: emerseg segment IMAGES --preset {output / PRESET} --labels ... --output OUT"))
