"""`emerseg validate`: an output folder in, its faults out, a line each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusion.cli import options

SHOWN = 100  # faults; the rest is counted


def validate(
    folder: Annotated[Path, typer.Argument(help="The output folder of a run.", metavar="DIR", parser=options.named)],
    max_megapixels: options.MaxMegapixels = None,
) -> None:
    """Check the output folder of `emerseg segment`: every file there, whole, and in agreement with all others.

    Exit code 0 and one line of summary if it is valid, else 1 and a line per fault.
    """
    from fusion.cli.console import printable, set_up_output

    set_up_output(verbose=False)
    from fusion.validate import count
    from fusion.validate import validate as find_faults
    from ground.images import limit_pixels

    limit_pixels(**options.given(megapixels=max_megapixels))
    number = 0
    for number, fault in enumerate(find_faults(folder), start=1):
        if number <= SHOWN:
            print(printable(" ".join(f"{fault.path}: {fault.message}".split())))
    if number > SHOWN:
        print(f"... and {number - SHOWN} more")
    if number:
        raise typer.Exit(1)
    images, annotations = count(folder)
    print(f"valid: {images} images, {annotations} annotations")
