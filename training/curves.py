"""The log of a run: a CSV, a row per validation, and a drawing of it."""

from __future__ import annotations

import csv
from pathlib import Path


def append_csv(path: Path, row: dict[str, float]) -> None:
    """Add a row to a table, whose first row is a header."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def last_row(folder: Path) -> dict[str, float]:
    """The last row of folder/log.csv."""
    with (folder / "log.csv").open(newline="") as file:
        return {name: float(value) for name, value in list(csv.DictReader(file))[-1].items()}


def plot_log(folder: Path) -> None:
    """Draw folder/log.csv as folder/log.png, a panel per column over the minutes; does nothing without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "minutes")]
    figure = Figure(figsize=(12, 3 * -(-len(names) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(names) // 3), 3, squeeze=False).ravel()
    for name, panel in zip(names, panels, strict=False):
        panel.plot([float(row["minutes"]) for row in rows], [float(row[name]) for row in rows], marker=".")
        panel.set(title=name, xlabel="minutes")
        panel.grid(alpha=0.3)
    for panel in panels[len(names) :]:
        panel.remove()
    figure.savefig(folder / "log.png", dpi=80)
