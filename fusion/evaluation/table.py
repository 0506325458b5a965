"""What is written of a table: rows → JSON, Markdown with intervals, and a bar plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from fusion.evaluation.datasets import Dataset
from fusion.evaluation.rows import Row, main_figure, main_name
from ground.files import write_bytes, write_json

# Columns of the Markdown table: a heading, and the figure.
_COLUMNS = {
    "mIoU": "miou",
    "bound mIoU": "bound_miou",
    "fwIoU": "frequency_weighted_iou",
    "pixels right": "pixel_accuracy",
    "boundary F 2 px": "boundary_f2",
    "5 px": "boundary_f5",
    "PQ": "pq",
    "AP": "ap",
    "s an image": "seconds_per_image",
}
_TITLES = {"miou": "mIoU, %", "bound_miou": "mIoU of masks that take their best region, %"}
_DPI = 100
_WIDTH = 7  # inches
_BAR = 0.35  # inches, height of a bar with the gap to the next
_HEAD = 0.6  # inches, height of a panel beside its bars


def table_of(rows: Sequence[Row], dataset: str, root: str, data: Dataset, config_hash: str) -> dict[str, Any]:
    """The table as plain data, for a JSON file."""
    return {
        "dataset": dataset,
        "root": root,
        "images": data.count,
        "background": [label.name for label in data.background],
        "config_hash": config_hash,
        "rows": [asdict(row) for row in rows],
    }


def write_table(folder: Path, table: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """table.json and table.md, and table.png where matplotlib is installed."""
    write_json(folder / "table.json", table)
    write_bytes(folder / "table.md", markdown(rows).encode())
    if find_spec("matplotlib") is not None:
        write_bytes(folder / "table.png", bar_plot(rows))


def markdown(rows: Sequence[Row]) -> str:
    """A table for each protocol: figures in per cent but for the seconds, 95 % intervals in brackets.

    The last column is the difference of the main figure to the row above.
    """
    protocols = dict.fromkeys(row.protocol for row in rows)
    return "\n".join(_markdown(protocol, [row for row in rows if row.protocol == protocol]) for protocol in protocols)


def _markdown(protocol: str, rows: Sequence[Row]) -> str:
    columns = {head: name for head, name in _COLUMNS.items() if any(getattr(row, name) is not None for row in rows)}
    lines = [["masks", *columns, "to the row above"], ["---", *["---:"] * (len(columns) + 1)]]
    for row, name in zip(rows, row_names(rows), strict=True):
        lines.append([name, *(_cell(row, figure) for figure in columns.values()), _difference(row)])
    return f"Protocol `{protocol}`:\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def row_names(rows: Sequence[Row]) -> list[str]:
    """What tells the rows of one protocol apart: their masks, and CLIP and rule where there are several."""
    told = [name for name in ("clip", "fuse") if len({getattr(row, name) for row in rows} - {None}) > 1]
    parts = ((row.masks, row.speed, *(getattr(row, name) for name in told)) for row in rows)
    return [" ".join(part for part in of_row if part) for of_row in parts]


def _cell(row: Row, name: str) -> str:
    value, bounds = getattr(row, name), row.intervals.get(name)
    if value is None:
        return ""
    if name == "seconds_per_image":
        return f"{value:.2f}"
    return f"{100 * value:.1f}" + (f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]" if bounds else "")


def _difference(row: Row) -> str:
    found = row.differences.get(main_name(row))
    return "" if found is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in found))


def bar_plot(rows: Sequence[Row]) -> bytes:
    """A PNG: the main figure of every row, with its interval, one panel for each protocol.

    ImportError without matplotlib.
    """
    from matplotlib.figure import Figure

    protocols = list(dict.fromkeys(row.protocol for row in rows))
    counts = [sum(row.protocol == protocol for row in rows) for protocol in protocols]
    height = sum(counts) * _BAR + len(protocols) * _HEAD
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    panels = figure.subplots(len(protocols), squeeze=False, sharex=True, height_ratios=counts)[:, 0]
    for protocol, axes in zip(protocols, panels, strict=True):
        shown = [row for row in rows if row.protocol == protocol]
        values = [100 * (main_figure(row) or 0) for row in shown]
        axes.barh(range(len(shown)), values, tick_label=row_names(shown), color="tab:blue", alpha=0.7)
        for place, (row, value) in enumerate(zip(shown, values, strict=True)):
            bounds = [100 * bound for bound in row.intervals.get(main_name(row), ())]
            axes.plot(bounds, [place] * len(bounds), color="black", marker="|")
            axes.annotate(f"{value:.1f}", (1, place), xytext=(4, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.set(title=f"{protocol}: {_TITLES[main_name(shown[0])]}", xlim=(0, 100))
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    return stream.getvalue()
