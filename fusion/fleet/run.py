"""A fleet: inputs + spec → shards, done by this process or by Ray's actors. The recipe of `emerseg batch`.

What is done is known by what is in the output alone: any number of processes may share it, each with its part of the
shards, and whatever ends one of them, the same call does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from fusion.fleet.choices import Png
from fusion.fleet.cluster import Cluster, run_file_there, run_there
from fusion.fleet.files import FLEET, FleetFile, ShardEntry, ShardStats, stats_of, table_of, tar_of
from fusion.fleet.plan import Shard, plan_shards
from fusion.fleet.sources import Files
from fusion.fleet.store import Store, leftovers
from fusion.fleet.worker import ShardOutcome, ShardWorker, Stopped, Work, outcome_of
from fusion.formats.parquet import check_parquet
from fusion.formats.schema import RunFile
from fusion.runs.spec import RunSpec

SHARD_SIZE = 1000  # images


@dataclass(frozen=True)
class Fleet:
    """Shards of a run, and which of them this process is to do."""

    work: Work
    finished: Sequence[ShardOutcome]  # by earlier runs
    wanted: Sequence[Shard]
    cluster: Cluster | None

    def start(self, stop: Callable[[], bool] = lambda: False) -> Generator[ShardOutcome, None, None]:
        """Yields what became of each shard: first those that are finished, then the others as they come.

        Ends early once `stop()` is true; a shard that is in hand then is begun anew by the next run.
        """
        yield from self.finished
        if not self.wanted:
            return
        if self.cluster is not None:
            yield from run_there(self.cluster, self.work, self.wanted)
            return
        worker = ShardWorker(self.work)
        for shard in self.wanted:
            try:
                yield worker.do(shard, stop)
            except Stopped:
                return


def open_fleet(
    spec: RunSpec,
    inputs: Sequence[str],
    output: str,
    *,
    png: Iterable[str] = (),
    shard_size: int = SHARD_SIZE,
    part: tuple[int, int] = (0, 1),
    cluster: Cluster | None = None,
    read_ahead: int = 4,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> Fleet:
    """The fleet of `inputs` (see `plan_shards`), with its results in `output`, a folder or a URL that fsspec writes.

    `part` (i, n) takes every n-th shard from the i-th on, i from 0: n processes with one i each do all. With a
    `cluster` Ray's actors work, else this process does. A shard is finished if its figures are there, of the same
    configuration and of images that the inputs list as they did; with `retry_failed` one that has images that failed
    is not. ValueError if `spec` has no labels, on inputs and outputs that cannot be reached, if a tar or a table of the
    inputs lies in `output`, and if that holds results of another configuration, unless `overwrite`.
    """
    index, count = part
    if not 0 <= index < count:
        raise ValueError(f"shard is {index}/{count}, expected i/n with i from 0 to n - 1")
    if not spec.labels:
        raise ValueError("there are no labels, expected at least one")
    if spec.tile is not None:
        raise ValueError(f"tile is {spec.tile}, expected none: `emerseg segment` cuts large images into tiles")
    if read_ahead < 1:
        raise ValueError(f"batch_size is {read_ahead!r}, expected a whole number from 1")
    check_parquet()
    kinds = tuple(Png.of(kind, "png") for kind in png)
    store = Store(output)
    root, shards = plan_shards(inputs, shard_size)
    _check_apart(store, shards)
    run = spec.run_file([], 0.0) if cluster is None else run_file_there(cluster, spec)
    _begin(store, run, root, kinds, shards, overwrite=overwrite)
    mine = shards[index::count]
    sizes = store.sizes()
    store.remove(leftovers(sizes, (shard.name for shard in mine)))
    done = {} if overwrite else finished(store, sizes, (shard.name for shard in mine))

    def is_finished(shard: Shard) -> bool:
        stats = done.get(shard.name)
        if stats is None or (retry_failed and stats.failed):
            return False
        return (stats.config_hash, stats.digest, stats.png) == (run.config_hash, shard.digest, list(map(str, kinds)))

    skipped = [outcome_of(done[shard.name], "skipped") for shard in mine if is_finished(shard)]
    wanted = [shard for shard in mine if not is_finished(shard)]
    if not kinds:  # tars of an earlier call that asked for them
        store.remove(tar for shard in wanted if (tar := tar_of(shard.name)) in sizes)
    return Fleet(Work(spec, run.config_hash, output, kinds, read_ahead), skipped, wanted, cluster)


def finished(store: Store, sizes: dict[str, int], shards: Iterable[str]) -> dict[str, ShardStats]:
    """The figures of those `shards` whose files are all there, as they were written; `sizes` are those of `store`."""
    names = [stats_of(shard) for shard in shards]
    found: dict[str, ShardStats] = {}
    for data in store.read_all(name for name in names if name in sizes).values():
        try:
            stats = ShardStats.from_bytes(data)
        except ValueError:  # damaged: it is done again
            continue
        if all(sizes.get(name) == size for name, size in stats.outputs.items()):
            found[stats.shard] = stats
    return found


def read_fleet(store: Store) -> FleetFile | None:
    """The fleet.json of a folder; None if there is none. ValueError, in one line, if it is damaged."""
    try:
        return FleetFile.from_bytes(store.read(FLEET))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{store.place}/{FLEET} is not what `emerseg batch` writes, or damaged: {error}") from None


def _begin(
    store: Store, run: RunFile, root: str, png: Sequence[Png], shards: Sequence[Shard], *, overwrite: bool
) -> None:
    """Write fleet.json, unless it is there as it shall be; files of shards that an earlier one names alone go."""
    earlier = read_fleet(store)
    if earlier is not None and earlier.run.config_hash != run.config_hash and not overwrite:
        raise ValueError(
            f"{store.place} holds results of another configuration ({earlier.run.config_hash[:12]}, now "
            f"{run.config_hash[:12]}): choose another --output, or give --overwrite"
        )
    entries = [ShardEntry(name=shard.name, source=shard.about, digest=shard.digest) for shard in shards]
    fleet = FleetFile(run=run, root=root, png=[str(kind) for kind in png], shards=entries)
    if fleet == earlier:
        return
    store.put_bytes(FLEET, fleet.to_lines())
    if earlier is not None:
        gone = {entry.name for entry in earlier.shards} - {entry.name for entry in entries}
        store.remove(name for shard in sorted(gone) for name in (stats_of(shard), table_of(shard), tar_of(shard)))


def _check_apart(store: Store, shards: Sequence[Shard]) -> None:
    """ValueError if a tar or a table that is read lies where those are written: one may be called as the other."""
    for shard in shards:
        if not isinstance(shard.source, Files) and store.holds(shard.source.place):
            raise ValueError(f"{shard.source.place} lies in the output {store.place}: choose another --output")
