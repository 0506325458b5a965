"""Records → curves: a table and a plot for each study, with intervals, in one page of markdown."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from benchmarks.studies.measure import WITHIN, setting_hash
from benchmarks.studies.records import Record
from benchmarks.studies.table import BASE, Study, Value
from emerdiff.config import EmerDiffConfig
from fusion.evaluation.figures import DRAWS, interval, resamples

METRICS = {"bound": "bound mIoU", "boundary_f2": f"boundary F, {WITHIN} px"}
_COLOURS = 32  # of a plot: a small file
_HEAD = ("bound", "F", "naive bound", "naive F", "bound − base", "F − base")


@dataclass(frozen=True)
class Point:
    """A value of a study, on n images in the order of the other values'."""

    value: Value
    is_base: bool
    scores: Mapping[str, NDArray[np.float64]]  # (n,), by the names of `Record`


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Between which 95 % of the means of bootstrap samples of `values` (n,) lie."""
    found = interval(resamples(len(values), DRAWS) @ values / len(values))
    assert found is not None
    return found


def points(study: Study, base: EmerDiffConfig, records: Sequence[Record]) -> list[Point]:
    """Those of the values that were measured, on the images that all of them were measured on.

    None without the base and another value, or without an image for all. Records of other settings or weights do not
    count.
    """
    found: list[tuple[Value, dict[str, Record]]] = []
    for value in study.values:
        setting = setting_hash(base, value)
        mine = {
            record.image: record
            for record in records
            if (record.study, record.value, record.setting) == (study.name, value.name, setting)
        }
        if mine:
            found.append((value, mine))
    images = [image for image in (found[0][1] if found else {}) if all(image in mine for _, mine in found)]
    if not images or len(found) < 2 or not any(value.is_base(base) for value, _ in found):
        return []
    names = [name for metric in METRICS for name in (metric, f"naive_{metric}")]
    return [
        Point(
            value,
            value.is_base(base),
            {name: np.array([getattr(mine[image], name) for image in images]) for name in names},
        )
        for value, mine in found
    ]


def table(curve: Sequence[Point]) -> str:
    """Markdown: means over images, in brackets their intervals; of differences to the base, image by image."""
    base = next(point for point in curve if point.is_base)
    lines = [f"| value | {' | '.join(_HEAD)} |", "|---" * (len(_HEAD) + 1) + "|"]
    for point in curve:
        cells = [f"**{point.value.name}** (base)" if point.is_base else point.value.name]
        cells += [_with_interval(point.scores[metric]) for metric in METRICS]
        cells += [f"{point.scores[f'naive_{metric}'].mean():.3f}" for metric in METRICS]
        for metric in METRICS:
            change = point.scores[metric] - base.scores[metric]
            cells.append("" if point.is_base else _with_interval(change, "+"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _with_interval(values: NDArray[np.float64], sign: str = "") -> str:
    low, high = mean_interval(values)
    return f"{values.mean():{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def plot(study: Study, curve: Sequence[Point], path: Path) -> None:
    """A PNG with a curve for each metric; the band is the interval of the difference to the base, image by image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    base = next(point for point in curve if point.is_base)
    places = np.arange(len(curve))
    for axes, (metric, name) in zip(figure.subplots(1, 2), METRICS.items(), strict=True):
        means = np.array([point.scores[metric].mean() for point in curve])
        naive = [point.scores[f"naive_{metric}"].mean() for point in curve]
        changes = np.array([mean_interval(point.scores[metric] - base.scores[metric]) for point in curve])
        low, high = (base.scores[metric].mean() + changes).T
        axes.fill_between(places, low, high, alpha=0.2)
        axes.plot(places, means, "o-", label="masks")
        axes.plot(places, naive, "--", color="grey", label="naive")
        axes.plot(curve.index(base), means[curve.index(base)], "o", ms=11, mfc="none", color="C3", label="base")
        axes.set(ylabel=name)
        long = max(len(point.value.name) for point in curve) > 8
        axes.set_xticks(
            places,
            [point.value.name for point in curve],
            rotation=30 if long else 0,
            ha="right" if long else "center",
        )
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(study.title)
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=90)
    with Image.open(whole) as image:
        image.convert("RGB").quantize(_COLOURS).save(path, optimize=True)


def write_report(
    output: Path, name: str, studies: Sequence[Study], base: EmerDiffConfig, records: Sequence[Record], command: str
) -> Path:
    """Writes `name`.md into `output`, and a plot for each study that was measured; the path of the page.

    The sentences of `name`.yaml, if it is there, stand below the tables.
    """
    said = output / f"{name}.yaml"
    sentences: dict[str, str] = yaml.safe_load(said.read_text(encoding="utf-8")) if said.is_file() else {}
    if unknown := sentences.keys() - {"title", "summary", *(study.name for study in studies)}:
        raise ValueError(f"{said} has {sorted(unknown)[0]!r}, expected title, summary or the name of a study")
    curves = {study.name: points(study, base, records) for study in studies}
    parts = [
        f"# {sentences.get('title', 'Ablations')}",
        sentences.get("summary", "").strip(),
        _how(base, command, sorted({record.commit for record in records})),
    ]
    for study in studies:
        if not (curve := curves[study.name]):
            continue
        picture = f"{name}-{study.name}.png"
        plot(study, curve, output / picture)
        fields = ", ".join(f"`emerdiff.{each}`" for each in study.fields)
        images = len(next(iter(curve[0].scores.values())))
        parts += [
            f"## {study.title}",
            f"![{study.title}: curves of bound mIoU and boundary F]({picture})",
            f"{f'Varies {fields}. ' if fields else ''}Images: {images}. The paper: {study.paper}.",
            table(curve),
            sentences.get(study.name, "").strip(),
        ]
    path = output / f"{name}.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def _how(base: EmerDiffConfig, command: str, commits: Sequence[str]) -> str:
    kept = ("timestep_feature", "timestep_modulate", "strength", "feature_draws", "num_timesteps", "image_size")
    changed = [field for field in ("modulation", "one_step", "differences") if getattr(base, field) is not None]
    settings = {field: getattr(base, field) for field in (*BASE, *changed, *kept)}
    return "\n\n".join(
        [
            f"Base: {', '.join(f'{field} {value}' for field, value in settings.items())}; features of "
            f"`{base.feature_layer}`, modulation at `{base.modulation_layer}`.",
            "Bound is the mIoU of masks that take their majority region, F that of their borders at "
            f"{WITHIN} px, of each image; naive are the same clusters, upsampled. In brackets 95 % of {DRAWS:,} "
            "bootstrap means over images; differences to the base are taken image by image, and so are the bands.",
            f"Measured at commit {', '.join(commits)} by\n\n```\n{command}\n```",
        ]
    )
