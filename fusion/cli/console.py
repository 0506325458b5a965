"""What the user sees while a command runs: a progress bar on a terminal, plain lines elsewhere, all on stderr."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from fusion.runs.job import Outcome

PACKAGES = ("ground", "emerdiff", "ovseg", "fusion")


# What moves the cursor, colours, breaks lines, turns the direction of writing, or is no text.
_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def printable(text: str) -> str:
    """`text` on one line, for a terminal: names of files and labels may hold any sign, which escapes stand for."""
    return _UNPRINTABLE.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)


class _OneLine(logging.Formatter):
    """A line for each message; a traceback, which only `--verbose` shows, keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def safe_streams() -> None:
    """Standard output that takes any text, whatever its encoding, and is there even where it was closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def set_up_output(*, verbose: bool, quiet: bool = False, progress_bars: bool = False) -> None:
    """Before the heavy libraries are imported: let them speak if `verbose`, else keep them quiet.

    Our own packages warn unless `quiet`. `progress_bars`: show the bars of downloads nevertheless.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(name)s: %(message)s" if verbose else "emerseg: %(message)s"))
    if quiet:
        handler.setLevel(logging.ERROR)
    logging.basicConfig(handlers=[handler], level=logging.ERROR)
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


def run_to_end(start: Callable[..., Generator[Outcome, None, None]], total: int, *, quiet: bool) -> int:
    """Take all outcomes of a run, show them, and return the exit code: 0 all done, 1 some failed, 130 interrupted.

    `start(stop=…)` begins the run, which `stop()` ends after the image in hand: that is what Ctrl-C does; a second
    one ends it at once. Failures are named with their reason even if `quiet`.
    """
    counts: Counter[str] = Counter()
    shown = _with_bar if sys.stderr.isatty() and not quiet else _with_lines
    with interruptible("finishing the image in hand") as interrupted:
        try:
            with closing(start(stop=interrupted.is_set)) as outcomes:  # closing writes what is about all images
                for _ in shown(_counted(outcomes, counts), total, quiet):
                    pass
        except KeyboardInterrupt:
            interrupted.set()
    if interrupted.is_set() and counts.total() < total:
        print(f"interrupted: {_summary(counts)} of {total}; the same command does the rest", file=sys.stderr)
        return 130
    if not quiet:
        print(_summary(counts), file=sys.stderr)
    return 1 if counts["failed"] else 0


@contextmanager
def interruptible(said: str) -> Iterator[Event]:
    """An event that the first Ctrl-C sets, which is `said`; the second raises KeyboardInterrupt, as it does without."""
    event = Event()

    def note(signal_number: int, frame: FrameType | None) -> None:
        if event.is_set():
            signal.default_int_handler(signal_number, frame)
        event.set()
        print(f"{said}; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield event
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _counted(outcomes: Iterator[Outcome], counts: Counter[str]) -> Iterator[Outcome]:
    for outcome in outcomes:
        counts[outcome.status] += 1
        yield outcome


def percent(share: float | None) -> str:
    """0.4567 → "45.7"; None → "-"."""
    return "-" if share is None else f"{100 * share:.1f}"


def _with_lines(outcomes: Iterator[Outcome], total: int, quiet: bool) -> Iterator[Outcome]:
    worked, began = 0, time.monotonic()
    for number, outcome in enumerate(outcomes, start=1):
        worked += outcome.status != "skipped"
        if outcome.status == "failed":
            print(_failure(outcome), file=sys.stderr)
        elif not quiet:
            rest = _pace(worked, time.monotonic() - began, total - number)
            print(f"[{number}/{total}] {_line(outcome)}{rest}", file=sys.stderr, flush=True)
        yield outcome


def _pace(worked: int, seconds: float, left: int) -> str:
    """ ", 12.3 images/min, 0:05:10 left" once there is an image to tell it from and one to come."""
    if not worked or not left or seconds <= 0:
        return ""
    remaining = timedelta(seconds=round(left * seconds / worked))
    return f", {60 * worked / seconds:.1f} images/min, {remaining} left"


def _with_bar(outcomes: Iterator[Outcome], total: int, quiet: bool) -> Iterator[Outcome]:
    from rich.console import Console
    from rich.markup import escape
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
        TextColumn("{task.fields[pace]}{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, pace="")
        worked, began = 0, time.monotonic()
        for outcome in outcomes:
            worked += outcome.status != "skipped"
            if outcome.status == "failed":
                progress.console.print(_failure(outcome), markup=False, highlight=False)
            pace = f"{60 * worked / (time.monotonic() - began):.1f}/min  " if worked else ""
            progress.update(task, advance=1, description=escape(printable(outcome.name)), pace=pace)
            yield outcome


def _line(outcome: Outcome) -> str:
    what = "finished before" if outcome.status == "skipped" else f"{outcome.seconds:.1f} s"
    return f"{printable(outcome.name)}: {what}"


def _failure(outcome: Outcome) -> str:
    return printable(f"failed: {outcome.source}: {outcome.reason}")


def _summary(counts: Counter[str]) -> str:
    return f"{counts['done']} done, {counts['skipped']} finished before, {counts['failed']} failed"
