"""Shards on Ray: a pool of actors, each with its models, fed by Ray Data, which says who does what, and when again.

This file alone imports ray (the extra `ray`). A worker that dies is started again and its shard is done again, as a
shard is written when all of it is there.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

from fusion.fleet.plan import Shard
from fusion.fleet.worker import ShardOutcome, ShardWorker, Work
from fusion.formats.schema import RunFile
from fusion.runs.spec import RunSpec

log = logging.getLogger(__name__)

# How often a shard is begun again after its worker died: an image on which each of them dies ends neither the run nor
# keeps it for ever.
RETRIES = 3
_NO_OUTCOME = f"its worker died, or could not answer, more than {RETRIES} times; Ray's logs say why"


@dataclass(frozen=True)
class Cluster:
    """What of a Ray cluster is used: the one of RAY_ADDRESS, one that runs on this machine, or a new one here."""

    workers: int  # actors, each with its models
    num_gpus: float | None = None  # of each; None: one if the cluster has any
    num_cpus: int = 1  # of each: the threads that it computes with

    def __post_init__(self) -> None:
        if self.workers < 1 or self.num_cpus < 1:
            raise ValueError(f"concurrency is {self.workers} with {self.num_cpus} threads each, expected from 1")
        if self.num_gpus is not None and self.num_gpus < 0:
            raise ValueError(f"num_gpus is {self.num_gpus}, expected a number from 0")
        if find_spec("ray") is None:
            raise ValueError("a cluster needs the package ray: pip install 'emerseg[ray]'")


def run_file_there(cluster: Cluster, spec: RunSpec) -> RunFile:
    """`RunSpec.run_file`, without images, as it is where the workers run: devices and versions are theirs."""
    ray = _connected()
    note_shortage(ray.cluster_resources(), cluster)
    task = ray.remote(num_cpus=cluster.num_cpus, num_gpus=_gpus(ray, cluster), max_retries=RETRIES)(_run_file)
    try:
        return RunFile.from_bytes(ray.get(task.remote(pickle.dumps(_fresh(spec)))))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (ValueError, OSError)):
            raise error.cause from None
        raise


def run_there(cluster: Cluster, work: Work, shards: Sequence[Shard]) -> Iterator[ShardOutcome]:
    """Do `shards` on the cluster; yields what became of each, as they come. ValueError if a worker cannot begin."""
    ray = _connected()
    missing = {shard.name: shard for shard in shards}
    with _quiet(ray.data.DataContext.get_current()):
        try:
            for row in _outcomes(ray, cluster, work, shards):
                outcome = ShardOutcome(**row | {"reason": row["reason"] or None})
                del missing[outcome.name]
                yield outcome
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise ValueError(f"Ray gave up, as a worker could not begin or go on: {lines[-1]}") from error
    for shard in missing.values():
        yield ShardOutcome(shard.name, shard.about, "failed", _NO_OUTCOME, 0, 0, 0.0)


def _outcomes(ray: Any, cluster: Cluster, work: Work, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
    rows = [{"shard": pickle.dumps(shard)} for shard in shards]
    there = replace(work, spec=_fresh(work.spec))
    outcomes = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Actor,
        fn_constructor_args=(pickle.dumps(there),),
        # One shard at a time for each, so that none waits for a worker while another has nothing to do.
        compute=ray.data.ActorPoolStrategy(size=min(cluster.workers, len(shards)), max_tasks_in_flight_per_actor=1),
        num_gpus=_gpus(ray, cluster),
        num_cpus=cluster.num_cpus,
        ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
    )
    yield from outcomes.iter_rows()


@contextmanager
def _quiet(context: Any) -> Iterator[None]:
    """Ray Data says no more than errors, and a block that is lost for good, here a shard, does not end all."""
    settings = {"enable_progress_bars": False, "print_on_execution_start": False, "max_errored_blocks": -1}
    before = {name: getattr(context, name) for name in settings}
    handlers = [one for one in logging.getLogger("ray.data").handlers if isinstance(one, logging.StreamHandler)]
    levels = [one.level for one in handlers]
    try:
        for name, value in settings.items():
            setattr(context, name, value)
        for handler in handlers:
            handler.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of arguments that have no successor yet
            yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


def note_shortage(resources: Mapping[str, float], cluster: Cluster) -> None:
    """Warn if a cluster has less than the workers take: some of them wait, perhaps for ever, unless it grows."""
    for name, each in (("CPU", cluster.num_cpus), ("GPU", cluster.num_gpus or 0)):
        there, taken = resources.get(name, 0.0), cluster.workers * each
        if taken > there:
            log.warning("%d workers take %g %ss, the cluster has %g: some wait", cluster.workers, taken, name, there)


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, work: bytes) -> None:
        import ray

        _use_threads(int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
        self._worker = ShardWorker(pickle.loads(work))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        outcome = self._worker.do(pickle.loads(row["shard"]))
        return asdict(outcome) | {"reason": outcome.reason or ""}


def _run_file(spec: bytes) -> bytes:
    loaded: RunSpec = pickle.loads(spec)
    return loaded.run_file([], 0.0).to_bytes()


def _use_threads(count: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def _gpus(ray: Any, cluster: Cluster) -> float:
    if cluster.num_gpus is not None:
        return cluster.num_gpus
    return 1.0 if ray.cluster_resources().get("GPU") else 0.0


def _connected() -> Any:
    """ray, connected to a cluster until this process ends."""
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    return ray


def _fresh(spec: RunSpec) -> RunSpec:
    """The spec without what this machine found out for it: its device is that of the workers."""
    return replace(spec)
