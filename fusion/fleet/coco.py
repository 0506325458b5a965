"""A fleet's output → one COCO file: what instances.json of `emerseg segment` over the same images is, to the byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from fusion.fleet.files import FLEET, FleetFile, ShardEntry, ShardStats, table_of
from fusion.fleet.run import finished, read_fleet
from fusion.fleet.store import Store
from fusion.formats.coco import categories, info, with_ids
from fusion.formats.documents import JsonDocument
from fusion.formats.parquet import check_parquet
from fusion.formats.schema import INSTANCES, Evidence, ImageEntry, Region
from fusion.runs.merge import Instances, check_target, merge
from fusion.runs.merged import MergeCounts
from fusion.runs.spec import labels_of
from ground.files import replacing

_SHOWN = 5  # shards whose names an error says


def is_fleet(place: str) -> bool:
    """Whether a folder or URL is the output of a fleet."""
    return FLEET in Store(place).sizes()


def merge_all(
    places: Sequence[str],
    output: Path,
    *,
    into: Path | None = None,
    keep: str | None = None,
    root: Path | None = None,
    partial: bool = False,
) -> MergeCounts:
    """`fusion.runs.merge.merge` of output folders of `emerseg segment` and of outputs of fleets, folders or URLs.

    A fleet alone is written as it comes: memory does not grow with its annotations. Errors as for that, and for
    `write_fleet`.
    """
    if len(places) == 1 and into is None and root is None and is_fleet(places[0]):
        check_target(output)
        with replacing(output) as file:
            written = write_fleet(places[0], file, partial=partial)
        labels = len(written.fleet.run.labels)
        return MergeCounts(len(written.file_names), written.annotations, labels, shared=0)
    with ExitStack() as stack:
        folders = [
            stack.enter_context(fleet_instances(place, partial=partial)) if is_fleet(place) else Path(place)
            for place in places
        ]
        return merge(folders, output, into=into, keep=keep, root=root)


@contextmanager
def fleet_instances(place: str, *, partial: bool = False) -> Iterator[Instances]:
    """A fleet's COCO file in a temporary folder, for `fusion.runs.merge`; errors as for `write_fleet`."""
    with TemporaryDirectory(prefix="emerseg-") as folder:
        path = Path(folder) / INSTANCES
        with path.open("wb") as file:
            written = write_fleet(place, file, partial=partial)
        root = written.fleet.root
        yield Instances(path, place, {name: f"{root}/{name}" for name in written.file_names}, root)


@dataclass(frozen=True)
class Written:
    """What a COCO file was made of, and what it holds."""

    fleet: FleetFile
    file_names: list[str]  # of its images
    annotations: int


def write_fleet(place: str, file: IO[bytes], *, partial: bool = False) -> Written:
    """Write the COCO file of the fleet in a folder or URL.

    ValueError, in one line, if a shard is not finished, unless `partial`, and on files that are damaged.
    """
    check_parquet()
    store = Store(place)
    fleet = read_fleet(store)
    if fleet is None:
        raise ValueError(f"no {FLEET} in {place}: expected the output of `emerseg batch`")
    done = finished(store, store.sizes(), (entry.name for entry in fleet.shards))
    current = {name: stats for name, stats in done.items() if stats.config_hash == fleet.run.config_hash}
    missing = [entry for entry in fleet.shards if not _is_current(entry, current)]
    if missing and not partial:
        raise _unfinished(place, fleet.shards, missing)
    document = JsonDocument(file, {"info": info(), "licenses": []}, "annotations")
    images: list[ImageEntry] = []
    next_id = 1
    for entry in fleet.shards:
        if entry in missing:
            continue
        for key, (height, width), regions in _images(store, current[entry.name]):
            number = len(images) + 1
            images.append(ImageEntry(id=number, file_name=key, height=height, width=width))
            for annotation in with_ids(regions, number, next_id):
                document.add(annotation)
            next_id += len(regions)
    document.close({"images": images, "categories": categories(labels_of(fleet.run))})
    return Written(fleet, [image.file_name for image in images], next_id - 1)


def _is_current(entry: ShardEntry, done: dict[str, ShardStats]) -> bool:
    return entry.name in done and done[entry.name].digest == entry.digest


def _unfinished(place: str, shards: Sequence[ShardEntry], missing: Sequence[ShardEntry]) -> ValueError:
    names = ", ".join(f"{entry.name} ({entry.source})" for entry in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return ValueError(
        f"{len(missing)} of {len(shards)} shards of {place} are not finished: {names}{more}; give its `emerseg batch` "
        "again, or --partial for the others"
    )


def _images(store: Store, stats: ShardStats) -> Iterator[tuple[str, list[int], list[Region]]]:
    """(key, [height, width], regions) of each image of a shard that did not fail, in their order."""
    rows, empty = _rows(store, table_of(stats.shard)), iter(stats.empty)
    try:
        for count in stats.counts:
            if count is None:
                continue
            if count == 0:
                nothing = next(empty)
                yield nothing.key, nothing.size, []
                continue
            some = [next(rows) for _ in range(count)]
            yield some[0]["key"], some[0]["size"], [_region(row) for row in some]
    except (StopIteration, RuntimeError):
        raise ValueError(f"{store.place}/{table_of(stats.shard)} has fewer rows than its figures say") from None


def _rows(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a shard's table; some of them are in memory at once."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with store.open(name) as file, ParquetFile(file) as table:
            for batch in table.iter_batches():
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{store.place}/{name} cannot be read: {' '.join(str(error).split())}") from None


def _region(row: dict[str, Any]) -> Region:
    evidence = {key: row[key] for key in ("score", "share", "runner_up", "margin", "mask_ids")}
    return Region(
        category_id=row["category_id"],
        segmentation={"size": row["size"], "counts": row["rle"]},
        area=row["area"],
        bbox=row["bbox"],
        iscrowd=0,
        evidence=Evidence(**evidence),
    )
