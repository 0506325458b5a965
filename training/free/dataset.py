"""A training set in the layout of docs/training.md: images/SOURCE, labels/SOURCE, captions.csv and where it is from."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from training.free.choose import Kind, by_label, draw_things, sizes
from training.free.compose import Load, compose
from training.free.cutouts import Cutout

# Labels that a map of 8 bits holds beside 255, which is unknown.
MOST_LABELS = 255
QUALITY = 80
# A row of captions.csv: path, tags, caption.
Row = tuple[str, str, str]


def write_composites(
    folder: Path, kind: Kind, cutouts: Sequence[Cutout], load: Load, count: int, side: int
) -> list[Row]:
    """`count` composites of `kind` with their label maps; image i is the same for the same cut-outs."""
    source = f"composite_{kind.name}"
    images, maps = (folder / of / source for of in ("images", "labels"))
    for some in (images, maps):
        some.mkdir(parents=True, exist_ok=True)
    found = by_label(cutouts)
    names: list[str] = []
    rows = []
    for index in range(count):
        rng = np.random.default_rng([index, *kind.name.encode()])
        scene = kind.scene(rng, sizes(rng, side))
        made = compose(rng, scene, draw_things(rng, kind, found), load)
        new = [name for name in made.names if name and name not in names]
        names += new[: MOST_LABELS - len(names)]
        table = np.array([names.index(name) if name in names else MOST_LABELS for name in made.names], np.uint8)
        Image.fromarray(made.image).save(images / f"{index:05}.jpg", quality=QUALITY)
        Image.fromarray(table[made.labels]).save(maps / f"{index:05}.png", optimize=True)
        rows.append((f"images/{source}/{index:05}.jpg", ";".join(made.tags), ""))
    (maps / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return rows


def write_table(folder: Path, rows: Iterable[Row]) -> None:
    """captions.csv of all sources."""
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "tags", "caption"))
        writer.writerows(rows)


def write_words(folder: Path, cutouts: Iterable[Cutout], others: Mapping[str, str]) -> None:
    """broader.csv: each label with the broader words for it; `others` take the place of those of cut-outs."""
    broader = {**{cutout.label: cutout.broad for cutout in cutouts if cutout.broad}, **others}
    with (folder / "broader.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "broader"))
        writer.writerows(sorted(broader.items()))


def counted(cutouts: Iterable[Cutout]) -> str:
    """How many cut-outs there are of each source and licence, one line each."""
    counts = Counter((cutout.source, cutout.licence) for cutout in cutouts)
    return "\n".join(f"{source}: {count} under {licence}" for (source, licence), count in sorted(counts.items()))
