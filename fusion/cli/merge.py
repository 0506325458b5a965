"""`emerseg merge`: output folders and fleets in, one COCO file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusion.cli import options
from fusion.runs.choices import Keep


def merge(
    folders: Annotated[
        list[str],
        typer.Argument(
            help="Output folders of `emerseg segment`, folders or URLs of `emerseg batch`.",
            metavar="DIR...",
            parser=options.place,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", parser=options.named, metavar="FILE.json", help="The COCO file to write.")
    ],
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            parser=options.named,
            metavar="FILE.json",
            help="A COCO file that is there already: its ids, its entries and all else in it stay as they are.",
        ),
    ] = None,
    keep: Annotated[
        Keep | None,
        typer.Option(
            "--keep",
            help="Whose annotations an image has that is in several of them: theirs, of the file of --into or the "
            "first folder; ours, of the last folder.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            parser=options.named,
            metavar="DIR",
            help="Folder that file names of images are relative to. Default: the deepest that holds all of them.",
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Of `emerseg batch` take the shards that are finished.")
    ] = False,
) -> None:
    """Merge output folders into one COCO file, or into one that is there already.

    Categories are one if their names are, images if their file names are; new ids follow those that are there.
    """
    from fusion.cli.console import printable, set_up_output

    set_up_output(verbose=False)
    from fusion.fleet.coco import merge_all

    counts = merge_all(folders, output, into=into, keep=keep, root=root, partial=partial)
    held = f"{counts.images} images, {counts.annotations} annotations, {counts.categories} categories"
    shared = f"; {counts.shared} images were in several sources" if counts.shared else ""
    print(printable(f"{output}: {held}{shared}"))
