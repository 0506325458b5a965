"""What an evaluation keeps of each image, in memory and in a folder: an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from fusion.evaluation.average_precision import ImageMatches
from fusion.evaluation.tally import Tally
from fusion.evaluation.unsupervised import MaskCounts
from ground.files import open_own, read_own, replacing, write_json

_PLAN = "plan.json"
_IMAGES = "images"


@dataclass(frozen=True, eq=False)
class RowScore:
    """One image of one row."""

    tally: Tally
    peak_mb: float  # NaN where the system does not tell
    matches: ImageMatches | None = None  # of predicted objects with true ones, where mask AP is measured


@dataclass(frozen=True, eq=False)
class ImageScore:
    """One image: a score for each row, and the masks of each way for protocols that need those of all images."""

    rows: tuple[RowScore, ...]
    masks: Mapping[str, MaskCounts] = field(default_factory=dict)  # by the name of the way


@dataclass(frozen=True)
class ScoreFolder:
    """A folder with a file for each image that is through."""

    root: Path

    @classmethod
    def open(cls, root: Path, plan: Mapping[str, Any]) -> ScoreFolder:
        """The folder `root` for an evaluation that `plan` describes, plain data; ValueError if it holds another's."""
        try:
            kept = json.loads(read_own(root / _PLAN))
        except FileNotFoundError:
            kept = None
        except ValueError:
            kept = {}
        if kept is not None and kept != plan:
            changed = [key for key in plan if not isinstance(kept, dict) or kept.get(key) != plan[key]]
            raise ValueError(
                f"{root} holds another evaluation, which differs in {', '.join(changed)}: "
                "give --output another folder, or remove this one"
            )
        write_json(root / _PLAN, plan)
        return cls(root)

    def read(self, name: str) -> ImageScore | None:
        """What is kept of the image `name`; None if nothing is, or what is cannot be read."""
        try:
            with open_own(self._file(name)) as file, np.load(file, allow_pickle=False) as arrays:
                return _from_arrays(dict(arrays))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, name: str, score: ImageScore) -> None:
        """Keep it."""
        with replacing(self._file(name)) as file:
            np.savez_compressed(file, allow_pickle=False, **_to_arrays(score))

    def _file(self, name: str) -> Path:
        return self.root / _IMAGES / f"{quote(name, safe=' ')}.npz"


def _to_arrays(score: ImageScore) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"rows": np.array(len(score.rows))}
    for index, row in enumerate(score.rows):
        of_row = {f.name: getattr(row.tally, f.name) for f in fields(Tally)} | {"peak_mb": np.array(row.peak_mb)}
        if row.matches is not None:
            of_row |= {f"matches/{key}": value for key, value in row.matches.to_arrays().items()}
        arrays |= {f"row/{index}/{key}": value for key, value in of_row.items()}
    for way, masks in score.masks.items():
        arrays |= {f"features/{way}": masks.features, f"counts/{way}": masks.counts}
    return arrays


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> ImageScore:
    rows = []
    for index in range(int(arrays["rows"])):
        of_row = _below(arrays, f"row/{index}/")
        matches = _below(of_row, "matches/")
        rows.append(
            RowScore(
                tally=Tally(**{f.name: of_row[f.name] for f in fields(Tally)}),
                peak_mb=float(of_row["peak_mb"]),
                matches=ImageMatches.from_arrays(matches) if matches else None,
            )
        )
    features, counts = _below(arrays, "features/"), _below(arrays, "counts/")
    return ImageScore(tuple(rows), {way: MaskCounts(features[way], counts[way]) for way in features})


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
