"""`emerseg web`: a page to segment and correct images with."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from fusion.cli import options
from fusion.cli.listening import prepare_to_listen, service_of
from fusion.step.choices import MaskSource
from ground.choices import Dtype

_NEEDED = ("gradio", "uvicorn")
# s to wait for open pages at the end.
_PATIENCE = 3


def web(
    preset: options.PresetName = "sd15",
    root: Annotated[
        Path | None,
        typer.Option("--root", parser=options.folder, metavar="DIR", help="Folder whose images pages may choose, too."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Labels, or a label file, that a page begins with.")
    ] = None,
    background: Annotated[
        str | None, typer.Option("--background", help="Labels, or a label file, that become other, to begin with.")
    ] = None,
    masks: options.Masks = MaskSource.EMERDIFF,
    host: options.Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="EMERSEG_TOKEN", help="What the page asks for before it shows anything."),
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Images that may wait, of all pages.")] = 8,
    max_megabytes: Annotated[
        float, typer.Option("--max-megabytes", min=0, help="MB that may be sent at once.")
    ] = 128.0,
    max_megapixels: Annotated[
        float | None, typer.Option("--max-megapixels", min=0, help="Million pixels of an image. Default: 50.")
    ] = None,
    cache_megabytes: Annotated[
        float | None,
        typer.Option("--cache-megabytes", min=0, help="MB of masks that are kept, and of open pages. Default: 512."),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = Dtype.AUTO,
    threads: options.Threads = None,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Open a page to work on: drop images, name labels, look at segments, correct them, download COCO and PNGs.

    It needs no network. Ctrl-C ends it.
    """
    from fusion.cli.console import printable

    prepare_to_listen("web", _NEEDED, verbose=verbose, quiet=quiet, threads=threads)
    if not verbose:
        logging.getLogger("httpx").setLevel(logging.WARNING)
    from fusion.serve.guard import Access
    from fusion.serve.limits import Limits
    from fusion.serve.server import address, bound_socket, serve
    from fusion.web.app import create_app

    access = Access(host, token, open_paths=())
    given = options.given(max_megapixels=max_megapixels, cache_megabytes=cache_megabytes)
    with bound_socket(host, port) as sock:
        service = service_of(
            preset,
            labels,
            background,
            overrides=overrides,
            masks=masks,
            device=device,
            dtype=dtype,
            limits=Limits(queue=queue, max_megabytes=max_megabytes, **given),
        )
        app = create_app(service, access, root)
        if not quiet:
            page = f"{address(sock)}/" + (f"?token={quote(token)}" if token else "")
            print(printable(f"the page of {preset} is at {page}; Ctrl-C ends it"), file=sys.stderr, flush=True)
        serve(app, service, sock, verbose=verbose, patience=_PATIENCE)
