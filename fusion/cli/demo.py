"""`emerseg demo`: runs the demo and says how good it is and where to look."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fusion.cli.console import percent, printable, run_to_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fusion.evaluation.rows import Row

_NAMES = {"none": "CLIP alone", "naive": "naive upsampling + CLIP", "emerdiff": "EmerDiff + CLIP"}


def show_demo(output: Path, *, device: str, dtype: str, quiet: bool) -> None:
    """Segment the demo's scenes into `output` and print their scores."""
    from fusion.evaluation.datasets.toy import toy_labels
    from fusion.evaluation.demo import PRESET, save_scenes, score_demo, write_sheets
    from fusion.models.segmenter import Segmenter
    from fusion.runs.batch import locked, plan_run, run_batch
    from fusion.runs.inputs import name_outputs
    from fusion.runs.jobs import segment_job, segmenting
    from fusion.runs.journal import Journal
    from fusion.runs.spec import RunSpec

    segmenter = Segmenter.from_preset(PRESET, device=device, dtype=dtype)
    scenes = save_scenes(output.absolute() / "scenes")
    spec = RunSpec(segmenter.preset, toy_labels(), device=device, dtype=dtype)
    job, how = segment_job(output, spec), segmenting(segmenter, output, spec)
    with locked(output):
        journal = Journal.open(output)
        plan = plan_run(name_outputs(scenes, journal.names), journal, job, overwrite=True)
        code = run_to_end(partial(run_batch, plan, job, how), len(plan.files), quiet=quiet)
    if code:
        raise typer.Exit(code)
    rows = score_demo(segmenter, output, scenes)
    sheets = write_sheets(segmenter, output, scenes)
    _print_scores(rows, len(scenes))
    print(printable(f"contact sheets: {sheets[0]} … {sheets[-1].name}"))
    print(printable(f"all results:    {output / 'overlays'}, {output / 'instances.json'}, {output / 'report.html'}"))


def _print_scores(rows: Sequence[Row], count: int) -> None:
    """A line per mask source: the mIoU of its labels, and the bound of its masks."""
    from rich.console import Console
    from rich.table import Table

    table = Table(f"{count} scenes, all labels of the toy world at once")
    table.add_column("label mIoU", justify="right")
    table.add_column("mask bound mIoU", justify="right")
    for source, name in _NAMES.items():
        of_source = {row.protocol: row for row in rows if row.masks == source}
        table.add_row(name, percent(of_source["open"].miou), percent(of_source["bound"].bound_miou))
    Console().print(table)
