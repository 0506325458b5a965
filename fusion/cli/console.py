"""What the user sees while a command runs: a progress bar on a terminal, plain lines elsewhere, all on stderr."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from fusion.journal import Entry

PACKAGES = ("emerdiff", "ovseg", "fusion")


def set_up_output(*, verbose: bool, progress_bars: bool = False) -> None:
    """Before the heavy libraries are imported: let them speak if `verbose`, else keep them quiet.

    `progress_bars`: show the bars of downloads nevertheless.
    """
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s", level=logging.ERROR)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO if verbose else logging.WARNING)
    if verbose:
        return
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not progress_bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def run_to_end(entries: Generator[Entry, None, None], total: int, *, quiet: bool) -> int:
    """Take all entries of a run, show them, and return the exit code: 0 all done, 1 some failed, 130 interrupted.

    Failures are named with their reason even if `quiet`.
    """
    counts: Counter[str] = Counter()
    shown = _with_bar if sys.stderr.isatty() and not quiet else _with_lines
    try:
        with closing(entries):  # writes what is about all images, also after Ctrl-C
            for _ in shown(_counted(entries, counts), total, quiet):
                pass
    except KeyboardInterrupt:
        print(f"interrupted: {_summary(counts)} of {total}; the same command does the rest", file=sys.stderr)
        return 130
    if not quiet:
        print(_summary(counts), file=sys.stderr)
    return 1 if counts["failed"] else 0


def _counted(entries: Iterator[Entry], counts: Counter[str]) -> Iterator[Entry]:
    for entry in entries:
        counts[entry.status] += 1
        yield entry


def percent(share: float | None) -> str:
    """0.4567 → "45.7"; None → "-"."""
    return "-" if share is None else f"{100 * share:.1f}"


def _with_lines(entries: Iterator[Entry], total: int, quiet: bool) -> Iterator[Entry]:
    for number, entry in enumerate(entries, start=1):
        if entry.status == "failed":
            print(f"failed: {entry.source}: {entry.reason}", file=sys.stderr)
        elif not quiet:
            print(f"[{number}/{total}] {_line(entry)}", file=sys.stderr, flush=True)
        yield entry


def _with_bar(entries: Iterator[Entry], total: int, quiet: bool) -> Iterator[Entry]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        for entry in entries:
            if entry.status == "failed":
                progress.console.print(f"failed: {entry.source}: {entry.reason}", markup=False, highlight=False)
            progress.update(task, advance=1, description=entry.name)
            yield entry


def _line(entry: Entry) -> str:
    return f"{entry.name}: finished before" if entry.status == "skipped" else f"{entry.name}: {entry.seconds:.1f} s"


def _summary(counts: Counter[str]) -> str:
    return f"{counts['done']} done, {counts['skipped']} finished before, {counts['failed']} failed"
