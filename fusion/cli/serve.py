"""`emerseg serve`: the models behind HTTP, for several users at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fusion.cli import options
from fusion.cli.listening import prepare_to_listen, service_of
from fusion.step.choices import MaskSource
from ground.choices import Dtype

_NEEDED = ("fastapi", "uvicorn", "python_multipart")


def serve(
    preset: options.PresetName = "sd15",
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Labels, or a label file, of requests that name none.")
    ] = None,
    background: Annotated[
        str | None,
        typer.Option("--background", help="Labels, or a label file, that become other, of requests that name none."),
    ] = None,
    masks: options.Masks = MaskSource.EMERDIFF,
    host: options.Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="EMERSEG_TOKEN", help="What requests must carry: Authorization: Bearer TOKEN."),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option("--cors", metavar="ORIGIN", help="Another site whose pages may ask; may be given often."),
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=0, help="Requests that may wait; others get 429.")] = 8,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="s for a request. Default: 300.")] = None,
    max_megabytes: Annotated[
        float | None, typer.Option("--max-megabytes", min=0, help="MB of a request. Default: 32.")
    ] = None,
    max_megapixels: Annotated[
        float | None, typer.Option("--max-megapixels", min=0, help="Million pixels of an image. Default: 50.")
    ] = None,
    max_labels: Annotated[
        int | None, typer.Option("--max-labels", min=1, help="Names of a request, synonyms included. Default: 500.")
    ] = None,
    cache_megabytes: Annotated[
        float | None, typer.Option("--cache-megabytes", min=0, help="MB of masks kept for /v1/relabel. Default: 512.")
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = Dtype.AUTO,
    threads: options.Threads = None,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Answer over HTTP: an image and labels in, COCO annotations out; other labels on cached masks; X-AnyLabeling.

    Ctrl-C finishes the request in hand.
    """
    from fusion.cli.console import printable

    prepare_to_listen("serve", _NEEDED, verbose=verbose, quiet=quiet, threads=threads)
    from fusion.serve.app import create_app
    from fusion.serve.guard import Access
    from fusion.serve.limits import Limits
    from fusion.serve.server import address, bound_socket
    from fusion.serve.server import serve as serve_app

    access = Access(host, token, tuple(cors or ()))
    given = options.given(
        timeout=timeout,
        max_megabytes=max_megabytes,
        max_megapixels=max_megapixels,
        max_labels=max_labels,
        cache_megabytes=cache_megabytes,
    )
    limits = Limits(queue=queue, **given)
    with bound_socket(host, port) as sock:
        service = service_of(
            preset,
            labels,
            background,
            overrides=overrides,
            masks=masks,
            device=device,
            dtype=dtype,
            limits=limits,
        )
        if not quiet:
            print(printable(f"serving {preset} at {address(sock)}; Ctrl-C ends it"), file=sys.stderr, flush=True)
        serve_app(create_app(service, access), service, sock, verbose=verbose)
