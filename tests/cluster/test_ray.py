"""`emerseg batch` on a real Ray cluster of two workers: the bytes of one process, whatever dies meanwhile.

make test-ray
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest
from test_cli import emerseg
from test_cli_segment import LABELS
from test_fleet import MARGIN, batch, contents, merged, photos, tar_of, whole  # noqa: F401  (fixtures)

from fusion.fleet import cluster
from fusion.fleet.cluster import Cluster, _Actor
from fusion.fleet.run import open_fleet
from fusion.runs.spec import RunSpec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
TWO = ("--concurrency", "2")


def actors() -> set[int]:
    """Process ids of the pool's workers that belong to this process."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            title = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::") and b"_Actor" in title and os.getpid() in ancestors(int(path.name)):
            found.add(int(path.name))
    return found


def ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            break
        pid = int(status.split("PPid:")[1].split()[0])
        found.add(pid)
    return found


def test_two_workers_write_what_one_process_does(photos, whole, tiny_preset, tmp_path):  # noqa: F811
    options = ("--shard-size", 2, "--png", "semantic,overlays")
    assert batch(photos, tmp_path / "one", tiny_preset, *options, "--threads", 1) == 1
    assert batch(photos, tmp_path / "two", tiny_preset, *options, *TWO) == 1
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert merged(tmp_path / "two", tmp_path) == (whole / "instances.json").read_bytes()
    assert batch(photos, tmp_path / "two", tiny_preset, *options, *TWO) == 1  # nothing to do
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_a_killed_worker_is_started_again(photos, tiny_preset, tmp_path):  # noqa: F811
    data = (photos / "a.png").read_bytes()
    for number in range(8):
        tar_of(tmp_path / f"{number}.tar", {f"{index}.png": data for index in range(12)})
    given = tmp_path / "{0..7}.tar"
    assert batch(given, tmp_path / "one", tiny_preset, "--threads", 1) == 0
    killed = []

    def kill() -> None:
        while not list((tmp_path / "two").glob("*_stats.json")) or not actors():
            time.sleep(0.02)
        killed.append(min(actors()))
        os.kill(killed[0], signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    margin = [f"fusion.min_margin={MARGIN[1]}"]
    spec = RunSpec(tiny_preset, LABELS.split(", "), masks="grid").with_overrides(margin)
    fleet = open_fleet(spec, [str(given)], str(tmp_path / "two"), cluster=Cluster(2))
    outcomes = list(fleet.start())
    killer.join()
    assert killed and len(fleet.wanted) == 8
    assert sorted(outcome.name for outcome in outcomes) == [f"{number:05}" for number in range(8)]
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


class Deadly(_Actor):
    """Dies of one shard each time."""

    def __call__(self, row):
        if b"00001" in row["shard"]:
            os._exit(1)
        return super().__call__(row)


def test_a_shard_that_kills_each_worker_is_the_only_one_that_fails(photos, tiny_preset, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(cluster, "_Actor", Deadly)
    spec = RunSpec(tiny_preset, ["cat"], masks="grid")
    fleet = open_fleet(spec, [str(photos)], str(tmp_path / "out"), shard_size=2, cluster=Cluster(2))
    outcomes = {outcome.name: outcome for outcome in fleet.start()}
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "00000": "done",
        "00001": "failed",
        "00002": "done",
        "00003": "done",
    }
    assert "its worker died, or could not answer, more than" in outcomes["00001"].reason


def test_an_object_store_is_read_and_written(photos, whole, tiny_preset, tmp_path, s3, capsys):  # noqa: F811
    import s3fs

    files = s3fs.S3FileSystem()
    files.put(str(photos), "bucket/in", recursive=True)
    options = ("--shard-size", 3, "--png", "semantic")
    assert batch(f"{s3}/in", f"{s3}/out", tiny_preset, *options, *TWO) == 1
    assert merged(f"{s3}/out", tmp_path) == (whole / "instances.json").read_bytes()
    assert batch(f"{s3}/in", f"{s3}/out", tiny_preset, *options, *TWO) == 1
    files.invalidate_cache()
    names = {name.split("/")[-1] for name in files.ls("bucket/out")}
    kinds = (".parquet", ".tar", "_stats.json")
    assert names == {"fleet.json", *(f"0000{number}{kind}" for number in range(3) for kind in kinds)}

    data = (photos / "a.png").read_bytes()
    tar_of(tmp_path / "0.tar", {"a.png": data})
    files.put_file(str(tmp_path / "0.tar"), "bucket/shards/0.tar")
    files.pipe_file("bucket/shards/1.tar", (tmp_path / "0.tar").read_bytes()[:700])
    capsys.readouterr()
    assert batch(f"{s3}/shards/{{0..1}}.tar", f"{s3}/tars", tiny_preset, *TWO) == 1
    shown = capsys.readouterr().err
    assert f"failed: shard 00001: {s3}/shards/1.tar: {s3}/shards/1.tar is no tar, or damaged after 1 members" in shown
    assert emerseg("merge", f"{s3}/tars", "--output", tmp_path / "m.json", "--partial") == 0
    assert [image["file_name"] for image in json.loads((tmp_path / "m.json").read_text())["images"]] == ["0/a.png"]


def test_what_is_wrong_on_the_workers_is_one_line(photos, tiny_preset, tmp_path, capsys):  # noqa: F811
    assert batch(photos, tmp_path / "out", tiny_preset, *TWO, "--device", "cuda:7") == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("emerseg: error: ") and "cuda" in shown


def test_a_worker_that_cannot_begin_is_one_line(photos, tiny_preset, tmp_path, capsys):  # noqa: F811
    preset = tmp_path / "gone.yaml"
    preset.write_text(tiny_preset.read_text().replace("/clip", "/gone"))
    assert batch(photos, tmp_path / "out", preset, *TWO) == 2
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("emerseg: error")]
    assert len(shown) == 1 and "a worker could not begin or go on" in shown[0] and "/gone" in shown[0]
