"""What the commands that listen share: the check of their extra, quiet libraries, and the service behind them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fusion.cli.threads import use_threads

if TYPE_CHECKING:
    from fusion.serve.limits import Limits
    from fusion.serve.service import Service


def prepare_to_listen(command: str, needed: Sequence[str], *, verbose: bool, quiet: bool, threads: int | None) -> None:
    """Before heavy libraries are imported. ValueError, with the line that installs them, if some are missing."""
    from fusion.cli.console import set_up_output

    if missing := [name for name in needed if find_spec(name) is None]:
        raise ValueError(f"emerseg {command} needs {', '.join(missing)}: pip install 'emerseg[{command}]'")
    set_up_output(verbose=verbose, quiet=quiet)
    use_threads(threads)
    if not verbose:
        # Notes about labels are for those who ask, not for whoever runs the server.
        logging.getLogger("ovseg").setLevel(logging.ERROR)


def service_of(
    preset: str,
    labels: str | None,
    background: str | None,
    *,
    overrides: Sequence[str] | None,
    masks: str,
    device: str,
    dtype: str,
    limits: Limits,
) -> Service:
    """The service with the labels that its requests, or pages, begin with."""
    from fusion.cli.labels import labels_of
    from fusion.models.presets import load_preset
    from fusion.serve.service import Service

    return Service(
        load_preset(preset, overrides or ()),
        labels_of(labels) if labels is not None else (),
        labels_of(background) if background is not None else (),
        masks=masks,
        device=device,
        dtype=dtype,
        limits=limits,
    )
