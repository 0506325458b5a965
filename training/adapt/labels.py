"""Labels and masks against label maps, where the user's folder has some: `emerseg eval` on every tenth of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fusion.evaluation.datasets import open_dataset
from fusion.evaluation.evaluate import evaluate
from fusion.evaluation.prepare import Comparison, prepare
from fusion.evaluation.rows import Row, rows_of
from fusion.models.presets import Preset
from fusion.step.choices import MaskSource, Protocol
from training.photos import HOLD_OUT

# Images of a source at most.
MEASURED = 100


@dataclass(frozen=True)
class LabelFigures:
    """Of one folder of label maps."""

    root: str  # as `emerseg eval --dataset pictures --root` takes it
    images: int
    label_miou: float | None  # 0..1, of the preset with its masks, over all pixels of all images
    label_miou_interval: tuple[float, float] | None  # of 95 %
    label_miou_without_masks: float | None  # 0..1, of the words alone
    pixel_accuracy: float | None  # 0..1, with masks
    bound_miou: float | None  # 0..1, of masks that take their best label, mean over images
    bound_miou_interval: tuple[float, float] | None


def label_roots(folder: Path) -> list[Path]:
    """The folders that `emerseg eval --dataset pictures` reads: labels or labels/SOURCE, with names.txt and maps."""
    if not (folder / "images").is_dir():
        return []
    named = [path.parent for path in [folder / "labels/names.txt", *folder.glob("labels/*/names.txt")]]
    return sorted(path for path in named if (path / "names.txt").is_file() and any(path.glob("*.png")))


def measure_labels(root: Path, preset: Preset, device: str) -> LabelFigures:
    """The figures of a preset on every tenth label map of `root`, at most MEASURED; errors as of `open_dataset`."""
    tenth = f"{root}:0::{HOLD_OUT}"
    data = open_dataset("pictures", tenth, limit=MEASURED)
    wanted = Comparison([Protocol.OPEN, Protocol.BOUND], [MaskSource.NONE, MaskSource.EMERDIFF], device=device)
    plan = prepare(data, preset, wanted)
    rows = rows_of(plan, list(evaluate(plan)))
    alone = _row(rows, Protocol.OPEN, MaskSource.NONE)
    named = _row(rows, Protocol.OPEN, MaskSource.EMERDIFF)
    bound = _row(rows, Protocol.BOUND, MaskSource.EMERDIFF)
    return LabelFigures(
        root=tenth,
        images=data.count,
        label_miou=named.miou,
        label_miou_interval=named.intervals.get("miou"),
        label_miou_without_masks=alone.miou,
        pixel_accuracy=named.pixel_accuracy,
        bound_miou=bound.bound_miou,
        bound_miou_interval=bound.intervals.get("bound_miou"),
    )


def _row(rows: list[Row], protocol: str, masks: str) -> Row:
    return next(row for row in rows if (row.protocol, row.masks) == (protocol, masks))
