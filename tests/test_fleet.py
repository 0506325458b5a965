"""`emerseg batch` without Ray: the same images give the same bytes as `emerseg segment`, whatever holds them."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import tarfile
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_cli import emerseg
from test_cli_segment import LABELS, segment

from fusion.fleet import cluster, run
from fusion.fleet import worker as workers
from fusion.fleet.plan import plan_shards
from fusion.fleet.run import open_fleet
from fusion.fleet.sources import Table, Tar, images_of
from fusion.fleet.store import Store
from fusion.fleet.worker import ShardWorker
from fusion.runs.spec import RunSpec

pytest.importorskip("pyarrow")
GRID = ("--masks", "grid", "-q")
NAMES = ("a.png", "b.jpg", "damaged.png", "one colour.png", "x/a.png", "x/c.jpg", "y/d.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven images in a folder and two folders in it; one is damaged, one is turned by EXIF."""
    folder = tmp_path_factory.mktemp("fleet") / "photos"
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(pixels).save(folder / name, **({"exif": exif} if name == "b.jpg" else {}))
    Image.new("RGB", (32, 24), (9, 9, 9)).save(folder / "one colour.png")
    (folder / "damaged.png").write_bytes((folder / "damaged.png").read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def whole(photos, tiny_preset, tmp_path_factory):
    """The output of `emerseg segment` over them; with this margin some have no regions at all."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert segment(photos, output, tiny_preset, *GRID, *MARGIN) == 1
    counts = [0] * 6
    document = json.loads((output / "instances.json").read_text())
    for annotation in document["annotations"]:
        counts[annotation["image_id"] - 1] += 1
    assert 0 in counts and sum(counts) > 2
    return output


MARGIN = ("--min-margin", "0.45")


@pytest.fixture
def memory():
    """URL of a folder in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return "memory://fleet"


def batch(inputs, output, preset, *options):
    given = inputs if isinstance(inputs, list) else [inputs]
    return emerseg(
        "batch", *given, "--labels", LABELS, "--output", output, "--preset", preset, *GRID, *MARGIN, *options
    )


def merged(output, tmp_path, *options):
    path = tmp_path / "merged.json"
    assert emerseg("merge", output, "--output", path, *options) == 0
    return path.read_bytes()


def contents(output):
    """The files of a fleet, without times."""
    files = {path.name: path.read_bytes() for path in Path(output).iterdir()}
    stats = {name: json.loads(data) | {"seconds": 0} for name, data in files.items() if name.endswith("_stats.json")}
    return files | stats


def tar_of(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


# The same bytes


@pytest.mark.parametrize("size", [2, 100])
def test_a_folder_gives_what_segment_gives(photos, whole, tiny_preset, tmp_path, size):
    output = tmp_path / "out"
    assert batch(photos, output, tiny_preset, "--shard-size", size, "--png", "semantic,overlays") == 1
    assert merged(output, tmp_path) == (whole / "instances.json").read_bytes()
    pngs = {}
    for path in output.glob("*.tar"):
        with tarfile.open(path) as tar:
            pngs |= {member.name: tar.extractfile(member).read() for member in tar}
    images = json.loads((whole / "run.json").read_text())["images"]
    done = [image for image in images if image["status"] == "done"]
    assert set(pngs) == {f"{image['file_name']}.{kind}.png" for image in done for kind in ("semantic", "overlays")}
    for image in done:
        for kind in ("semantic", "overlays"):
            assert pngs[f"{image['file_name']}.{kind}.png"] == (whole / kind / f"{image['name']}.png").read_bytes()
    stats = [json.loads(path.read_text()) for path in sorted(output.glob("*_stats.json"))]
    assert sum(one["images"] for one in stats) == len(NAMES) and len(stats) == -(-len(NAMES) // size)
    (failure,) = [one for shard in stats for one in shard["failures"]]
    (failed,) = [image for image in images if image["status"] == "failed"]
    assert failure == {"key": "damaged.png", "reason": failed["reason"]}
    fleet = json.loads((output / "fleet.json").read_text())
    earlier = json.loads((whole / "run.json").read_text())
    assert fleet["run"] == earlier | {"images": [], "max_megapixels": fleet["run"]["max_megapixels"]}


def test_a_store_is_as_good_as_a_folder(photos, whole, tiny_preset, tmp_path, memory, capsys):
    fsspec.filesystem("memory").put(str(photos), "/fleet/in", recursive=True)
    assert batch(f"{memory}/in", f"{memory}/out", tiny_preset, "--shard-size", 3, "--png", "semantic") == 1
    assert merged(f"{memory}/out", tmp_path) == (whole / "instances.json").read_bytes()
    assert batch(photos, tmp_path / "out", tiny_preset, "--shard-size", 3, "--png", "semantic") == 1
    for name in ("00000.parquet", "00001.parquet", "00002.parquet", "00000.tar", "00001.tar", "00002.tar"):
        assert fsspec.filesystem("memory").cat(f"/fleet/out/{name}") == (tmp_path / "out" / name).read_bytes()
    assert batch(f"{memory}/in/**/*.png", f"{memory}/glob", tiny_preset) == 1
    keys = [image["file_name"] for image in json.loads(merged(f"{memory}/glob", tmp_path))["images"]]
    assert keys == [name for name in NAMES if name.endswith(".png") and name != "damaged.png"]
    assert batch(f"{memory}/in/a.png", f"{memory}/one", tiny_preset) == 0
    assert batch(f"{memory}/gone", f"{memory}/none", tiny_preset) == 2
    assert "no file matches or is in memory://fleet/gone" in capsys.readouterr().err


def test_tars_are_folders_of_their_names(photos, tiny_preset, tmp_path, memory):
    for folder, names in {"00": ("a.png", "damaged.png"), "01": ("b.jpg", "x/a.png", "y/d.png")}.items():
        members = {f"./{name}": (photos / name).read_bytes() for name in names}
        tar_of(tmp_path / f"{folder}.tar", {"00.json": b"{}", "note.txt": b"x"} | members)
        for name in names:
            (tmp_path / "unpacked" / folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / name, tmp_path / "unpacked" / folder / name)
    assert segment(tmp_path / "unpacked", tmp_path / "whole", tiny_preset, *GRID, *MARGIN) == 1
    expected = (tmp_path / "whole" / "instances.json").read_bytes()
    for number, tars in enumerate(("{00..01}.tar", "*.tar")):
        assert batch(f"{tmp_path}/{tars}", tmp_path / f"out{number}", tiny_preset) == 1
        assert merged(tmp_path / f"out{number}", tmp_path) == expected
    fsspec.filesystem("memory").put([str(tmp_path / "00.tar"), str(tmp_path / "01.tar")], "/fleet/")
    assert batch(f"{memory}/{{00..01}}.tar", f"{memory}/out", tiny_preset) == 1
    assert merged(f"{memory}/out", tmp_path) == expected


@pytest.mark.parametrize("column", ["path", "url", "bytes", "image"])
def test_tables_name_images_or_hold_them(photos, whole, tiny_preset, tmp_path, memory, column):
    import pyarrow as pa
    from pyarrow import parquet

    fsspec.filesystem("memory").put(str(photos), "/fleet/in", recursive=True)
    values = {
        "path": list(NAMES),
        "url": [f"{memory}/in/{name}" for name in NAMES],
        "bytes": [(photos / name).read_bytes() for name in NAMES],
        "image": [{"bytes": (photos / name).read_bytes(), "path": name} for name in NAMES],
    }[column]
    keys = {} if column in ("path", "image") else {"key": list(NAMES)}
    folder = shutil.copytree(photos, tmp_path / "table")
    parquet.write_table(pa.table({column: values, **keys}), folder / "t.parquet", row_group_size=2)
    assert batch(folder / "t.parquet", tmp_path / "out", tiny_preset, "--shard-size", 3) == 1
    assert [len(list((tmp_path / "out").glob(end))) for end in ("*.parquet", "*_stats.json")] == [3, 3]
    assert merged(tmp_path / "out", tmp_path) == (whole / "instances.json").read_bytes()


def test_rows_without_a_key_are_called_by_their_number(photos, tmp_path, capsys, tiny_preset):
    import pyarrow as pa
    from pyarrow import parquet

    data = (photos / "a.png").read_bytes()
    parquet.write_table(pa.table({"bytes": [data, None, data]}), tmp_path / "t.parquet")
    found = list(images_of(Table(str(tmp_path / "t.parquet"), "t", 1, 3)))
    assert [key for key, _ in found] == ["t/00000001", "t/00000002"]
    assert found[1][1]() == data
    with pytest.raises(ValueError, match="row 1 says no image"):
        found[0][1]()
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "u.parquet")
    assert batch(tmp_path / "u.parquet", tmp_path / "out", tiny_preset) == 2
    assert "u.parquet has the columns text, expected one of bytes, url, path, image" in capsys.readouterr().err
    (tmp_path / "u.parquet").write_bytes(b"PAR1 no")
    assert batch(tmp_path / "u.parquet", tmp_path / "out", tiny_preset) == 2
    assert "is no parquet file, or damaged" in capsys.readouterr().err


# Whatever goes wrong


def test_a_damaged_tar_is_named_and_the_others_go_on(photos, tiny_preset, tmp_path, capsys):
    data = (photos / "a.png").read_bytes()
    for number in range(3):
        tar_of(tmp_path / f"{number}.tar", {f"{index}.png": data for index in range(3)})
    good = (tmp_path / "1.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(good[: 2 * (512 + 512 * -(-len(data) // 512))])  # at the end of a member
    output = tmp_path / "out"
    assert batch(tmp_path / "{0..2}.tar", output, tiny_preset) == 1
    shown = capsys.readouterr().err
    assert shown == (
        f"failed: shard 00001: {tmp_path}/1.tar: {tmp_path}/1.tar is no tar, or damaged after 2 members: empty header\n"
    )
    assert sorted(path.name for path in output.iterdir()) == [
        "00000.parquet",
        "00000_stats.json",
        "00002.parquet",
        "00002_stats.json",
        "fleet.json",
    ]
    assert emerseg("merge", output, "--output", tmp_path / "m.json") == 2
    assert f"1 of 3 shards of {output} are not finished: 00001 ({tmp_path}/1.tar)" in capsys.readouterr().err
    assert len(json.loads(merged(output, tmp_path, "--partial"))["images"]) == 6
    (tmp_path / "1.tar").write_bytes(good)
    assert batch(tmp_path / "{0..2}.tar", output, tiny_preset) == 0
    assert len(json.loads(merged(output, tmp_path))["images"]) == 9


MEMBERS = {"a.png": b"x" * 700, "b.png": b"", "c.txt": b"text", "d.jpg": b"y" * 10}


@given(st.data())
def test_a_tar_that_is_cut_or_changed_gives_all_or_an_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("tar", numbered=True)
    path = tar_of(folder / "t.tar", MEMBERS)
    raw = path.read_bytes()
    headers = sum(512 + 512 * -(-len(one) // 512) for one in MEMBERS.values())
    expected = [("t/a.png", b"x" * 700), ("t/b.png", b""), ("t/d.jpg", b"y" * 10)]
    cut = data.draw(st.integers(0, len(raw)))
    path.write_bytes(raw[:cut])
    try:
        assert [(key, how()) for key, how in images_of(Tar(str(path), "t"))] == expected
        assert cut > headers
    except ValueError as error:
        assert "is no tar, or damaged after" in str(error) and "\n" not in str(error)
        assert cut < headers + 512


def test_an_image_that_cannot_be_fetched_is_one_failure_and_all_of_them_are_the_shards(
    photos, tiny_preset, tmp_path, capsys
):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos / 'a.png'}\n{tmp_path / 'gone.png'}\n")
    assert batch(listed, tmp_path / "out", tiny_preset) == 1
    (failure,) = json.loads((tmp_path / "out" / "00000_stats.json").read_text())["failures"]
    assert failure["reason"] == f"no image file {tmp_path / 'gone.png'}"
    Image.new("RGB", (8, 8)).save(tmp_path / "gone.png")
    assert batch(listed, tmp_path / "out", tiny_preset) == 0  # the list's image is another now
    spec = RunSpec(tiny_preset, ["cat"], masks="grid")
    shutil.copy(photos / "a.png", tmp_path / "b.png")
    fleet = open_fleet(spec, [str(tmp_path / "b.png")], str(tmp_path / "none"))
    (tmp_path / "b.png").unlink()
    (outcome,) = fleet.start()
    assert (
        outcome.status == "failed"
        and outcome.reason == f"none of its images can be had or segmented: no image file {tmp_path}/b.png"
    )
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["fleet.json"]


def test_a_shard_of_damaged_images_is_finished_and_one_that_no_model_can_do_is_not(
    photos, tiny_preset, tmp_path, monkeypatch
):
    spec = RunSpec(tiny_preset, ["cat"], masks="grid")
    (outcome,) = open_fleet(spec, [str(photos / "damaged.png")], str(tmp_path / "damaged")).start()
    assert (outcome.status, outcome.images, outcome.failed) == ("done", 1, 1)

    def broken(*_):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(workers, "segmenting", lambda *_: broken)
    (outcome,) = open_fleet(spec, [str(photos / "x")], str(tmp_path / "broken")).start()
    assert (outcome.status, outcome.reason) == (
        "failed",
        "none of its images can be had or segmented: CUDA error: device-side assert triggered",
    )
    monkeypatch.undo()
    (outcome,) = open_fleet(spec, [str(photos / "x")], str(tmp_path / "broken")).start()
    assert (outcome.status, outcome.images, outcome.failed) == ("done", 2, 0)


# Going on


def test_finished_shards_are_left_alone_and_others_done(photos, tiny_preset, tmp_path, monkeypatch, capsys):
    images = shutil.copytree(photos, tmp_path / "photos")
    output = tmp_path / "out"
    options = ("--shard-size", 2, "--png", "semantic")
    assert batch(images, output, tiny_preset, *options) == 1
    before = contents(output)

    made = []
    monkeypatch.setattr(run, "ShardWorker", lambda work: made.append(work) or ShardWorker(work))
    times = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert batch(images, output, tiny_preset, *options) == 1  # an image of it failed
    assert made == [] and times == {path.name: path.stat().st_mtime_ns for path in output.iterdir()}

    (output / "00001.parquet").unlink()
    (output / "00002_stats.json").write_text("{}")
    (output / "00003.tar").write_bytes(b"short")
    (output / "00000.parquet.0a1b2c3d.part").write_bytes(b"of a killed process")
    assert batch(images, output, tiny_preset, *options) == 1
    assert contents(output) == before
    after = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert [name for name in after if after[name] == times[name]] == [
        name for name in after if name.startswith("00000") or name == "fleet.json"
    ]

    # The damaged image is in shard 1
    assert batch(images, output, tiny_preset, *options, "--retry-failed") == 1
    again = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert {name[:5] for name in again if again[name] != after[name]} == {"00001"}
    shutil.copy(images / "a.png", images / "damaged.png")
    assert batch(images, output, tiny_preset, *options) == 0
    last = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert {name[:5] for name in last if last[name] != again[name]} == {"00001", "fleet"}

    assert batch(images, output, tiny_preset, *options, "--seed", 1) == 2
    assert "holds results of another configuration" in capsys.readouterr().err
    assert batch(images, output, tiny_preset, *options, "--seed", 1, "--overwrite") == 0


def test_other_sizes_and_fewer_pngs_leave_nothing_of_before(photos, tiny_preset, tmp_path, capsys):
    output = tmp_path / "out"
    assert batch(photos, output, tiny_preset, "--shard-size", 2, "--png", "semantic") == 1
    assert batch(photos, output, tiny_preset, "--shard-size", 4) == 1
    assert batch(photos, tmp_path / "new", tiny_preset, "--shard-size", 4) == 1
    assert contents(output) == contents(tmp_path / "new")
    tar_of(output / "00000.tar", {"a.png": (photos / "a.png").read_bytes()})
    capsys.readouterr()
    assert batch(output / "*.tar", output, tiny_preset, "--overwrite") == 2
    assert "00000.tar lies in the output" in capsys.readouterr().err


def test_parts_are_the_whole(photos, tiny_preset, tmp_path):
    assert batch(photos, tmp_path / "whole", tiny_preset, "--shard-size", 2) == 1
    assert batch(photos, tmp_path / "parts", tiny_preset, "--shard-size", 2, "--shard", "1/3") == 1
    assert {path.name[:5] for path in (tmp_path / "parts").iterdir()} == {"fleet", "00001"}
    for part in ("0/3", "2/3"):
        assert batch(photos, tmp_path / "parts", tiny_preset, "--shard-size", 2, "--shard", part) == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_fleet_that_is_stopped_leaves_whole_shards(photos, tiny_preset, tmp_path):
    spec = RunSpec(tiny_preset, ["cat", "grass"], masks="grid")
    fleet = open_fleet(spec, [str(photos)], str(tmp_path / "out"), shard_size=3)
    asked = iter([False] * 4 + [True] * 9)
    assert [outcome.name for outcome in fleet.start(lambda: next(asked))] == ["00000"]
    assert {path.name[:5] for path in (tmp_path / "out").iterdir()} == {"00000", "fleet"}
    rest = open_fleet(spec, [str(photos)], str(tmp_path / "out"), shard_size=3)
    assert [outcome.status for outcome in rest.start()] == ["skipped", "done", "done"]


def test_ctrl_c_ends_with_130_and_the_same_command_does_the_rest(photos, tiny_preset, tmp_path, monkeypatch, capsys):
    class Interrupted(ShardWorker):
        def do(self, shard, stop):
            if shard.name == "00001":
                os.kill(os.getpid(), signal.SIGINT)
            return super().do(shard, stop)

    monkeypatch.setattr(run, "ShardWorker", Interrupted)
    assert batch(photos, tmp_path / "out", tiny_preset, "--shard-size", 3) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "interrupted: 1 shards done, 0 finished before, 0 failed of 3; the same command does the rest"
    )
    monkeypatch.undo()
    assert batch(photos, tmp_path / "out", tiny_preset, "--shard-size", 3) == 1
    assert batch(photos, tmp_path / "whole", tiny_preset, "--shard-size", 3) == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_cannot_be_written_leaves_nothing_half(tmp_path, monkeypatch):
    store = Store(str(tmp_path / "out"))
    store.put_bytes("a", b"first")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put_bytes("a", b"second")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [("a", b"first")]


def test_tiles_are_not_of_fleets(photos, tiny_preset, tmp_path):
    with pytest.raises(ValueError, match="tile is 64, expected none: `emerseg segment` cuts large images"):
        open_fleet(RunSpec(tiny_preset, ["cat"], tile=64), [str(photos)], str(tmp_path / "out"))


def test_a_worker_of_another_kind_refuses(tiny_preset, tmp_path):
    spec = RunSpec(tiny_preset, ["cat"], masks="grid", device="cpu", dtype="float32")
    with pytest.raises(ValueError, match="a worker would run on cpu in float32, others not"):
        ShardWorker(workers.Work(spec, "0" * 64, str(tmp_path)))


# Merging with others


def test_fleets_merge_with_folders_and_with_what_is_there(photos, tiny_preset, tmp_path, whole):
    assert batch(photos / "x", tmp_path / "x", tiny_preset) == 0
    assert batch(photos / "y", tmp_path / "y", tiny_preset) == 0
    assert segment(photos / "a.png", tmp_path / "a", tiny_preset, *GRID, *MARGIN) == 0
    path = tmp_path / "m.json"
    assert emerseg("merge", tmp_path / "a", tmp_path / "x", tmp_path / "y", "--output", path) == 0
    document = json.loads(path.read_bytes())
    assert [image["file_name"] for image in document["images"]] == ["a.png", "x/a.png", "x/c.jpg", "y/d.png"]
    expected = json.loads((whole / "instances.json").read_text())
    names = {image["id"]: image["file_name"] for image in expected["images"]}
    found = {image["id"]: image["file_name"] for image in document["images"]}

    def shapes(some, of):
        return [
            (of[one["image_id"]], one["category_id"], one["segmentation"], one["evidence"])
            for one in some["annotations"]
            if of[one["image_id"]] in found.values()
        ]

    assert shapes(document, found) == shapes(expected, names)
    assert emerseg("merge", tmp_path / "x", "--into", path, "--output", path, "--root", photos, "--keep", "ours") == 0
    assert [image["file_name"] for image in json.loads(path.read_bytes())["images"]] == list(found.values())


def test_a_table_that_was_changed_is_named(photos, tiny_preset, tmp_path, capsys):
    output = tmp_path / "out"
    assert batch(photos / "x", output, tiny_preset) == 0
    data = (output / "00000.parquet").read_bytes()
    (output / "00000.parquet").write_bytes(bytes(len(data)))
    assert emerseg("merge", output, "--output", tmp_path / "m.json") == 2
    assert "00000.parquet cannot be read" in capsys.readouterr().err
    (output / "fleet.json").write_text("{}")
    assert emerseg("merge", output, "--output", tmp_path / "m.json") == 2
    assert "fleet.json is not what `emerseg batch` writes" in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()


# Wrong use


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["PHOTOS", "--shard", "3/3"], "expected i/n with i from 0 to n - 1, such as 0/8"),
        (["PHOTOS", "--shard", "a"], "expected i/n"),
        (["PHOTOS", "--png", "panoptic"], "expected one of semantic, overlays"),
        (["PHOTOS", "--num-gpus", "1"], "give --concurrency, too"),
        (["foo://bucket/x"], "foo://bucket/x cannot be reached: Protocol not known: foo"),
        (["gone.tar"], "no file gone.tar"),
        (["{0..1}.tar"], "no file 0.tar"),
        (["gone*.tar"], "no file matches gone*.tar"),
        (["{2..1}.tar"], "has the range {2..1}, expected one that rises"),
        (["gone"], "no file or folder gone"),
    ],
)
def test_wrong_use_is_one_line(photos, tiny_preset, tmp_path, monkeypatch, capsys, options, expected):
    monkeypatch.chdir(tmp_path)
    inputs = [str(photos) if option == "PHOTOS" else option for option in options]
    assert batch(inputs, tmp_path / "out", tiny_preset) == 2
    shown = capsys.readouterr().err
    assert expected in shown and len(shown.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_ray_one_line_says_what_installs_it(photos, tiny_preset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert batch(photos, tmp_path / "out", tiny_preset, "--concurrency", 2) == 2
    assert capsys.readouterr().err == "emerseg: error: a cluster needs the package ray: pip install 'emerseg[ray]'\n"


def test_a_cluster_that_is_too_small_is_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    cluster.note_shortage({"CPU": 8.0, "GPU": 4.0}, cluster.Cluster(8, 0.5, 1))
    assert not caplog.records
    cluster.note_shortage({"CPU": 8.0}, cluster.Cluster(4, 1.0, 4))
    assert caplog.messages == [
        "4 workers take 16 CPUs, the cluster has 8: some wait",
        "4 workers take 4 GPUs, the cluster has 0: some wait",
    ]
    for wrong in ((0, None, 1), (1, -1.0, 1), (1, None, 0)):
        with pytest.raises(ValueError, match="expected"):
            cluster.Cluster(*wrong)


def test_shards_are_the_same_for_whoever_asks(photos, tmp_path):
    root, shards = plan_shards([str(photos)], 3)
    assert root == str(photos)
    assert (root, shards) == plan_shards([str(photos)], 3)
    assert [shard.name for shard in shards] == ["00000", "00001", "00002"]
    assert [key for shard in shards for key, _ in shard.source.items] == list(NAMES)
