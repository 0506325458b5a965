"""`emerseg convert`: a finished output folder in, further formats in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusion.cli import options
from fusion.runs.choices import Export


def convert(
    folder: Annotated[
        Path, typer.Argument(help="An output folder of `emerseg segment`.", metavar="DIR", parser=options.folder)
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            callback=options.several_of(Export),
            help=f"Formats, comma-separated: {', '.join(Export.values())}. polygon and polygon-centers are "
            "instances.json once more, see --segmentation of segment.",
        ),
    ],
) -> None:
    """Write what a finished folder holds in further formats, beside its other files; no model runs.

    Later runs in the folder keep them up to date.
    """
    import sys

    from fusion.cli.console import printable, set_up_output

    set_up_output(verbose=False)
    from fusion.runs.convert import convert as convert_folder

    converted = convert_folder(folder, options.split_list(to))
    for source, reason in converted.damaged.items():
        print(printable(f"failed: {source}: {reason}"), file=sys.stderr)
    print(printable(f"{', '.join(str(folder / name) for name in converted.files)}: {converted.images} images"))
    if converted.damaged:
        raise typer.Exit(1)
