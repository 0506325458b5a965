"""`emerseg batch` on a Ray cluster of this machine, one worker killed: the bytes of one process, and the pace.

    python -m benchmarks.fleet [--images 2000] [--side 96] [--masks grid] [--shard-size 50] [--workers 2] [--folder DIR]

Small toy scenes, 5 % of them damaged in ten ways (those of `benchmarks.soak`), go through `emerseg segment`, through
`emerseg batch` in one process, on so many workers, and on as many of which one is killed once a fifth of the shards is
there. Ends with an error unless all tables, tars and figures are equal, but for times, and unless the COCO file that
`emerseg merge` makes of each is the instances.json of `segment`. Says images per second, from the first shard that is
written to the last, and from the start of the command to its end. Everything computes with one thread. Run it from the
root of the repository, with ray installed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.soak import EMERSEG, SETTINGS, begin, draw_images
from toyworld import KINDS


@dataclass(frozen=True)
class Pace:
    """How fast a command was."""

    seconds: float  # from its start to its end
    first: float  # when its first shard was there, s after its start
    last: float  # likewise
    shards: int
    images: int

    @property
    def overall(self) -> float:
        """Images per second of the whole command."""
        return self.images / self.seconds

    @property
    def steady(self) -> float:
        """Images per second between its first shard and its last."""
        return self.images * (self.shards - 1) / self.shards / (self.last - self.first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=96, help="px of the square images")
    parser.add_argument("--masks", default="grid", help="grid is quick")
    parser.add_argument("--shard-size", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are begun
    with tempfile.TemporaryDirectory() as temporary:
        compare(arguments.folder or Path(temporary), arguments)


def compare(folder: Path, arguments: argparse.Namespace) -> None:
    damaged = draw_images(folder / "images", arguments.images, arguments.side, random.Random(0))
    print(f"{arguments.images} images of {arguments.side}x{arguments.side}, {damaged} of them damaged", flush=True)
    start = time.perf_counter()
    assert begin(folder / "images", folder / "segment", arguments.masks).wait() == 1
    seconds = time.perf_counter() - start
    print(f"emerseg segment: {seconds:.0f} s, {arguments.images / seconds:.1f} images/s", flush=True)
    on_ray = ["--concurrency", str(arguments.workers)]
    paces = {
        name: run(folder, name, arguments, options, disturb)
        for name, options, disturb in (
            ("one process", [], nothing),
            (f"{arguments.workers} workers", on_ray, nothing),
            (f"{arguments.workers} workers, one killed", on_ray, kill_one),
        )
    }
    base = paces["one process"]
    for name, pace in paces.items():
        ratio = (
            f"{pace.steady / base.steady:.2f} times one process, {pace.overall / base.overall:.2f} with start and end"
        )
        print(f"{name}: {pace.seconds:.0f} s, {pace.steady:.1f} images/s, {ratio}")
        assert contents(folder / name) == contents(folder / "one process"), f"{name} differs"
        path = folder / f"{name}.json"
        subprocess.run([*EMERSEG, "merge", folder / name, "--output", path], check=True, stdout=subprocess.DEVNULL)
        assert path.read_bytes() == (folder / "segment" / "instances.json").read_bytes(), f"{name}: another COCO file"
    print("byte-identical, and the COCO files are that of emerseg segment")


def run(
    folder: Path,
    name: str,
    arguments: argparse.Namespace,
    options: list[str],
    disturb: Callable[[int, Path, int], bool],
) -> Pace:
    """Run `emerseg batch` to its end, with `disturb(process id, output, shards)` until it is true."""
    output, shards = folder / name, -(-arguments.images // arguments.shard_size)
    command = ["batch", folder / "images", "--labels", ", ".join(KINDS), "--output", output, "--masks", arguments.masks]
    more = ["--shard-size", str(arguments.shard_size), "--png", "semantic", *SETTINGS, *options]
    start = time.time()
    process = subprocess.Popen([*EMERSEG, *command, *more], stderr=subprocess.DEVNULL)
    disturbed = disturb is nothing
    while process.poll() is None:
        disturbed = disturbed or disturb(process.pid, output, shards)
        time.sleep(0.05)
    seconds = time.time() - start
    assert process.returncode == 1 and disturbed, f"{name} ended with {process.returncode}, disturbed: {disturbed}"
    times = [path.stat().st_mtime - start for path in output.glob("*_stats.json")]
    assert len(times) == shards
    return Pace(seconds, min(times), max(times), shards, arguments.images)


def nothing(pid: int, output: Path, shards: int) -> bool:
    return True


def kill_one(pid: int, output: Path, shards: int) -> bool:
    """Kill a worker of that process once a fifth of the shards is there; whether one was killed."""
    done = len(list(output.glob("*_stats.json")))
    workers = [worker for worker in descendants(pid) if title(worker).startswith(b"ray::MapWorker")]
    if done < shards / 5 or not workers:
        return False
    os.kill(min(workers), signal.SIGKILL)
    print(f"killed a worker with {done} of {shards} shards there", flush=True)
    return True


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def descendants(pid: int) -> set[int]:
    """The processes that a process began, and those that these did."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "status").read_text().split("PPid:")[1].split()[0])
        except OSError:
            continue
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}


def contents(output: Path) -> dict[str, object]:
    """The files of a fleet, without times."""
    files: dict[str, object] = {}
    for path in output.iterdir():
        data = path.read_bytes()
        files[path.name] = json.loads(data) | {"seconds": 0} if path.name.endswith("_stats.json") else data
    return files


if __name__ == "__main__":
    main()
