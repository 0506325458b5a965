"""Batches with a simple job: order, failures, resuming, interruption, another configuration, odd folders."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from filelock import Timeout
from PIL import Image

from fusion.formats.record import Record
from fusion.formats.schema import JOURNAL, RUN, JournalEntry
from fusion.runs import batch
from fusion.runs.batch import LOCK, locked, plan_run, run_batch
from fusion.runs.inputs import name_outputs
from fusion.runs.job import Encoded, Job
from fusion.runs.journal import Journal, Numbering
from fusion.runs.outputs import output_file
from ground.files import own_size, read_own, replacing, write_bytes, write_json


class Images(Record):
    """What run.json holds of these runs."""

    images: list[dict]
    largest: float


def mean_of(image, name):
    """The mean colour of an image."""
    if image.max() == 0:
        raise RuntimeError("too\ndark")
    return image.mean(axis=(0, 1)).tolist()


def mean_job(output: Path, config_hash: str = "one") -> Job:
    """Writes every mean colour, and its ids, to annotations/NAME.json, and all of them to all.json: two each."""

    def encode(mean, first_id_of):
        first_id = first_id_of(2)
        files = {"masks": b"masks", "annotations": json.dumps([mean, first_id]).encode()}
        return Encoded((3, 4), files, first_id, 2)

    def export(finished):
        listed, damaged = [], {}
        for image in finished:
            if image.entry.status == "done":
                try:
                    mean = json.loads(output_file(output, "annotations", image.entry.name).read_bytes())
                    listed.append([image.file_name, *mean, image.entry.image_id])
                except (OSError, ValueError):
                    damaged[image.entry.source] = "damaged"
        write_json(output / "all.json", listed)
        return damaged

    return Job(
        config_hash=config_hash,
        kinds=("masks", "annotations"),
        encode=encode,
        exports=("all.json",),
        export=export,
        run_file=lambda images, largest: Images(images=[image.to_json() for image in images], largest=largest),
    )


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / "photos" / f"{name}.png" for name in "abc"]
    paths[0].parent.mkdir()
    for grey, path in enumerate(paths, start=1):
        Image.new("RGB", (4, 3), (grey, grey, grey)).save(path)
    return paths


def begin(photos, output, how=mean_of, *, overwrite=False, config_hash="one", **options):
    """The outcomes of a run, one by one."""
    job, journal = mean_job(output, config_hash), Journal.open(output)
    plan = plan_run(name_outputs(photos, journal.names), journal, job, overwrite=overwrite)
    return run_batch(plan, job, how if plan.wanted else None, **options)


def run(photos, output, how=mean_of, **settings):
    return [(outcome.name, outcome.status) for outcome in begin(photos, output, how, **settings)]


def interrupting(stop_at):
    """Ctrl-C while that image is worked on."""

    def compute(image, name):
        if name == stop_at:
            raise KeyboardInterrupt
        return mean_of(image, name)

    return compute


def noting(seen):
    return lambda image, name: seen.append(name) or mean_of(image, name)


def contents(folder):
    """What a run leaves, without its times."""
    run_files = (JOURNAL, RUN, LOCK)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in run_files}


def names(output):
    """Of the images that all.json lists."""
    return [name for name, *_ in json.loads((output / "all.json").read_text())]


def test_all_are_done_in_order_and_a_second_run_skips_them(photos, tmp_path):
    output = tmp_path / "out"
    assert run(photos, output) == [("a", "done"), ("b", "done"), ("c", "done")]
    first = contents(output)
    assert json.loads(first["all.json"]) == [
        [f"{n}.png", [g, g, g], 2 * g - 1, g] for g, n in enumerate("abc", start=1)
    ]
    seen: list[str] = []
    assert run(photos, output, noting(seen)) == [("a", "skipped"), ("b", "skipped"), ("c", "skipped")]
    assert seen == []
    assert contents(output) == first


def test_failures_are_recorded_the_rest_goes_on_and_they_are_tried_again(photos, tmp_path):
    output = tmp_path / "out"
    Image.new("RGB", (4, 3)).save(photos[1])
    photos[2].write_text("no image")
    assert run(photos, output) == [("a", "done"), ("b", "failed"), ("c", "failed")]
    images = json.loads((output / RUN).read_text())["images"]
    assert [image["reason"] for image in images] == [
        None,
        "too dark",
        "not an image, or of a kind that Pillow cannot read",
    ]
    assert names(output) == ["a.png"]
    Image.new("RGB", (4, 3), "white").save(photos[2])
    assert run(photos, output) == [("a", "skipped"), ("b", "failed"), ("c", "done")]
    assert names(output) == ["a.png", "c.png"]


@pytest.mark.parametrize("stop_at", ["a", "b", "c"])
def test_an_interrupted_run_leaves_valid_files_and_resumes_to_the_same_bytes(photos, tmp_path, stop_at):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(photos, whole)
    with pytest.raises(KeyboardInterrupt):
        run(photos, resumed, interrupting(stop_at))
    assert names(resumed) == [f"{name}.png" for name in "abc" if name < stop_at]
    seen: list[str] = []
    run(photos, resumed, noting(seen))
    assert seen == [name for name in "abc" if name >= stop_at]
    assert contents(resumed) == contents(whole)


@pytest.mark.parametrize("cut", [1, 10, 10_000])
def test_a_killed_run_resumes_to_the_same_bytes(photos, tmp_path, cut):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(photos, whole)
    run(photos[:2], killed)
    for name in ("all.json", RUN):  # never written: the process was killed before
        (killed / name).unlink()
    journal = killed / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-cut])  # nor was the last line, or the whole journal
    (killed / "annotations" / "b.json.part").write_bytes(b"half")
    (killed / "annotations" / "b.json").write_bytes(b"of a run that was killed later")
    run(photos, killed)
    assert contents(killed) == contents(whole)


def test_closing_the_iterator_ends_in_good_order(photos, tmp_path):
    output = tmp_path / "out"
    outcomes = begin(photos, output)
    next(outcomes)
    outcomes.close()
    assert names(output) == ["a.png", "b.png"]  # b was begun while a was written


def test_no_image_is_begun_once_told_to_stop(photos, tmp_path):
    output = tmp_path / "out"
    told = iter((False, True))
    assert run(photos, output, stop=lambda: next(told)) == [("a", "done")]
    statuses = [image["status"] for image in json.loads((output / RUN).read_text())["images"]]
    assert statuses == ["done", "pending", "pending"]


def test_the_lock_of_a_folder_is_one_process_s(tmp_path):
    with locked(tmp_path / "out"), pytest.raises(ValueError, match="another process"), locked(tmp_path / "out"):
        pass
    with locked(tmp_path / "out"):
        pass


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_named_with_a_way_out(tmp_path, monkeypatch, error):
    def flock(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    expected = rf"{tmp_path}/out/\.lock cannot be locked, as its file system has no locks .*: choose an --output on"
    with pytest.raises(ValueError, match=expected), locked(tmp_path / "out"):
        pass


def test_a_lock_that_another_machine_left_is_named_with_its_owner(tmp_path, monkeypatch):
    """Where the file itself is the lock, nobody here can tell whether its process still runs."""

    class Taken:
        def __init__(self, path, timeout):
            self.path = path

        def acquire(self):
            raise Timeout(str(self.path))

    monkeypatch.setattr(batch, "FileLock", Taken)
    lock = tmp_path / "out" / ".lock"
    lock.parent.mkdir()
    lock.write_text("4242\nother-host\n")
    expected = f"by its lock file: 4242 other-host; if that runs no more, even on another machine, delete {lock}"
    with pytest.raises(ValueError, match=re.escape(expected)), locked(tmp_path / "out"):
        pass


def test_errors_of_the_work_under_a_lock_are_its_own(tmp_path):
    with pytest.raises(OSError, match="of the work"), locked(tmp_path / "out"):
        raise OSError(errno.ENOLCK, "of the work")
    with locked(tmp_path / "out"):
        pass


def test_another_configuration_takes_over_and_leaves_masks_alone(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    assert run(photos[:1], output, config_hash="two") == [("a", "done")]
    # What is of the other configuration is gone, but masks do not depend on it, and names stay.
    assert sorted(contents(output)) == ["all.json", "annotations/a.json", "masks/a.npz", "masks/b.npz", "masks/c.npz"]
    assert names(output) == ["a.png"]
    (tmp_path / "more").mkdir()
    shutil.copy(photos[1], tmp_path / "more")
    assert run([tmp_path / "more" / "b.png", *photos[1:]], output, config_hash="two") == [
        ("b-2", "done"),
        ("b", "done"),
        ("c", "done"),
    ]


@pytest.mark.parametrize("stop_at", ["a", "b", "c"])
def test_another_configuration_that_is_interrupted_resumes_to_the_same_bytes(photos, tmp_path, stop_at):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for output in (whole, resumed):
        run(photos, output)
    run(photos[:2], whole, config_hash="two")
    with pytest.raises(KeyboardInterrupt):
        run(photos[:2] if stop_at != "c" else photos, resumed, interrupting(stop_at), config_hash="two")
    run(photos[:2], resumed, config_hash="two")
    assert contents(resumed) == contents(whole)


def test_nothing_is_removed_before_its_successor_is_there(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    before = {**contents(output), **{name: (output / name).read_bytes() for name in (JOURNAL, RUN)}}
    kept = [path.rename(path.with_suffix(".away")) for path in photos]
    # Not one of the images can be done: the other configuration never takes over.
    assert run(photos, output, config_hash="two") == [("a", "failed"), ("b", "failed"), ("c", "failed")]
    assert {**contents(output), **{name: (output / name).read_bytes() for name in (JOURNAL, RUN)}} == before
    kept[1].rename(photos[1])
    assert run(photos, output, config_hash="two") == [("a", "failed"), ("b", "done"), ("c", "failed")]
    assert names(output) == ["b.png"]
    assert contents(output)["annotations/a.json"] == before["annotations/a.json"]
    reasons = {image["name"]: image["reason"] for image in json.loads((output / RUN).read_text())["images"]}
    assert reasons == {"a": f"no image file {photos[0]}", "b": None, "c": f"no image file {photos[2]}"}


def test_a_result_stays_if_its_image_can_no_longer_be_done(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    before = contents(output)
    photos[0].unlink()
    photos[1].write_text("no image")
    Image.new("RGB", (4, 3)).save(photos[2])
    for overwrite in (False, True):
        assert run(photos, output, overwrite=overwrite) == [("a", "failed"), ("b", "failed"), ("c", "failed")]
        assert contents(output) == before


def test_overwrite_does_finished_images_again(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    assert run(photos, output, overwrite=True) == [("a", "done"), ("b", "done"), ("c", "done")]
    assert len(json.loads((output / "all.json").read_text())) == 3


def test_a_changed_file_is_done_again(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(photos[1])
    assert run(photos, output) == [("a", "skipped"), ("b", "done"), ("c", "skipped")]
    assert json.loads((output / "all.json").read_text())[1] == ["b.png", [9, 9, 9], 3, 2]


def test_an_image_whose_outputs_were_deleted_is_done_again(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    before = contents(output)
    (output / "annotations" / "b.json").unlink()
    assert run(photos, output) == [("a", "skipped"), ("b", "done"), ("c", "skipped")]
    assert contents(output) == before


@pytest.mark.parametrize("kind", ["masks", "annotations"])
@pytest.mark.parametrize("damage", ["emptied", "cut", "a link"])
def test_an_image_whose_outputs_were_damaged_is_done_again(photos, tmp_path, kind, damage):
    output = tmp_path / "out"
    run(photos, output)
    before = contents(output)
    path = output_file(output, kind, "b")
    if damage == "a link":
        shutil.move(path, tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(b"" if damage == "emptied" else path.read_bytes()[:-1])
    assert run(photos, output) == [("a", "skipped"), ("b", "done"), ("c", "skipped")]
    assert contents(output) == before and not path.is_symlink()


@pytest.mark.parametrize("how", ["gone", "other bytes"])
def test_a_damaged_record_is_named_the_rest_is_written_and_it_is_made_again(photos, tmp_path, how):
    output = tmp_path / "out"
    run(photos, output)
    before = contents(output)
    path = output / "annotations" / "b.json"
    if how == "gone":
        path.unlink()
    else:  # of the same length, so that only reading tells
        path.write_bytes(b"?" * path.stat().st_size)
    (tmp_path / "photos" / "d.png").write_bytes(photos[2].read_bytes())
    given = [photos[0], photos[2], tmp_path / "photos" / "d.png"]  # b is no input now
    statuses = {"a": "skipped", "c": "skipped", "d": "done"}
    assert run(given, output) == [*statuses.items(), ("b", "failed")]
    assert names(output) == ["a.png", "c.png", "d.png"]
    assert run(photos, output) == [("a", "skipped"), ("b", "done"), ("c", "skipped")]
    assert names(output) == ["d.png", "a.png", "b.png", "c.png"]
    assert contents(output)["annotations/b.json"] == before["annotations/b.json"]


def test_a_run_with_nothing_to_do_writes_nothing(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.name != LOCK}
    plan = plan_run(name_outputs(photos, {}), Journal.open(output), mean_job(output))
    assert not plan.wanted
    run(photos, output)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for name in ("all.json", RUN):  # emptied, they are written again
        whole = (output / name).read_bytes()
        (output / name).write_bytes(b"")
        run(photos, output)
        assert (output / name).read_bytes() == whole
    run(photos[:1], output)  # the order of the images is that of the last inputs
    assert names(output) == ["b.png", "c.png", "a.png"]


def test_a_killed_run_that_wrote_all_but_its_last_line_ends_the_same(photos, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for output in (whole, killed):
        run(photos, output)
    journal = killed / JOURNAL
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    (killed / "all.json").write_text("[]")  # of the same age as the journal, and stale
    run(photos, killed)
    assert contents(killed) == contents(whole)


def test_outputs_are_on_disk_before_the_journal_says_so(photos, tmp_path, monkeypatch):
    output, synced = tmp_path / "out", []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino) or fsync(number))
    run(photos[:1], output)
    order = [synced.index((output / name).stat().st_ino) for name in ("masks/a.npz", "annotations/a.json", JOURNAL)]
    last = len(synced) - 1 - synced[::-1].index((output / JOURNAL).stat().st_ino)
    assert order[0] < order[1] < last


def test_images_of_earlier_runs_stay_in_the_files_about_all(photos, tmp_path):
    output = tmp_path / "out"
    run(photos[1:], output)
    run(photos[:1], output)
    assert names(output) == ["b.png", "c.png", "a.png"]
    assert [image["name"] for image in json.loads((output / RUN).read_text())["images"]] == ["b", "c", "a"]


def test_a_damaged_journal_is_cut_where_it_can_no_longer_be_read(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    path = output / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"source": 1}\n', *lines[2:]]))
    journal = Journal.open(output)
    assert (journal.config_hash, list(journal.names.values())) == ("one", ["a"])
    assert path.read_bytes() == b"".join(lines[:2])


@pytest.mark.parametrize("name", ["../../../x", "/tmp/x", "..", "", "a/b", "a\0b"])
def test_names_that_lead_out_of_the_folder_are_no_names(photos, tmp_path, name):
    output = tmp_path / "deep" / "out"
    run(photos, output)
    path = output / JOURNAL
    path.write_text(path.read_text().replace('"name":"b"', f'"name":{json.dumps(name)}'))
    victim = tmp_path / "x.json"
    victim.write_text("mine")
    assert run(photos[:1], output, config_hash="two", overwrite=True) == [("a", "done")]
    assert run(photos, output, config_hash="two") == [("a", "skipped"), ("b", "done"), ("c", "done")]
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "photos", "x.json"]


def test_two_images_of_one_name_in_a_journal_get_outputs_of_their_own(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    path = output / JOURNAL
    path.write_text(path.read_text().replace('"name":"b"', '"name":"A"'))
    run(photos, output, overwrite=True)
    assert [image["name"] for image in json.loads((output / RUN).read_text())["images"]] == ["a", "b", "c"]


@pytest.mark.parametrize("planted", [JOURNAL, LOCK, "annotations", "masks"])
def test_a_link_in_the_folder_is_not_followed(photos, tmp_path, planted):
    output, victim = tmp_path / "out", tmp_path / "victim"
    run(photos, output)
    if (output / planted).is_dir():
        shutil.move(output / planted, victim)
    else:
        victim.write_text("mine")
        (output / planted).unlink(missing_ok=True)
    before = contents(victim) if victim.is_dir() else victim.read_text()
    (output / planted).symlink_to(victim)
    with pytest.raises((OSError, ValueError), match=f"{planted} is a link, expected a"), locked(output):
        run(photos, output, overwrite=True)
    assert (contents(victim) if victim.is_dir() else victim.read_text()) == before


@pytest.mark.parametrize("name", ["annotations/b.json", "all.json", RUN, "annotations/b.json.part", "all.json.part"])
def test_a_link_in_the_place_of_a_file_is_replaced(photos, tmp_path, name):
    output, victim = tmp_path / "out", tmp_path / "victim"
    run(photos, output)
    victim.write_text("mine")
    (output / name).unlink(missing_ok=True)
    (output / name).symlink_to(victim)
    run(photos, output, overwrite=True)
    assert victim.read_text() == "mine"
    assert not (output / name).is_symlink()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / JOURNAL)
    with pytest.raises(OSError, match=r"journal\.jsonl is no file, expected a file"):
        Journal.open(tmp_path)
    for read in (read_own, own_size):
        with pytest.raises(OSError, match="is no file"):
            read(tmp_path / JOURNAL)


@pytest.mark.parametrize("moved", ["all", "the output", "the images"])
def test_what_is_moved_is_found_again(photos, tmp_path, moved):
    """Together, the output alone, or the images alone, which are then new ones."""
    project, elsewhere = tmp_path / "project", tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    project.mkdir()
    shutil.move(photos[0].parent, project / "photos")
    output = project / "out"
    given = [project / "photos" / path.name for path in photos]
    run(given, output)
    before = contents(output)
    assert {image["source"] for image in json.loads((output / RUN).read_text())["images"]} == {
        f"../photos/{name}.png" for name in "abc"
    }
    if moved == "all":
        project = shutil.move(project, elsewhere / "renamed")
        output = project / "out"
    elif moved == "the output":
        output = shutil.move(output, elsewhere / "out")
    else:
        shutil.move(project / "photos", elsewhere / "photos")
    given = [(elsewhere if moved == "the images" else project) / "photos" / path.name for path in photos]
    if moved == "the images":
        assert run(given, output) == [("a-2", "done"), ("b-2", "done"), ("c-2", "done")]
        return
    for _ in range(2):
        assert run(given, output) == [("a", "skipped"), ("b", "skipped"), ("c", "skipped")]
        assert contents(output) == before
    assert Journal.open(output).earlier_folder == str(output)
    Image.new("RGB", (4, 3), "white").save(given[0])
    assert run(given, output) == [("a", "done"), ("b", "skipped"), ("c", "skipped")]


def test_ids_are_given_once_in_the_order_of_finishing_and_stay(photos, tmp_path):
    output = tmp_path / "out"
    run(photos[1:], output)
    run(photos, output)
    assert json.loads((output / "all.json").read_text()) == [
        ["a.png", [1, 1, 1], 5, 3],
        ["b.png", [2, 2, 2], 1, 1],
        ["c.png", [3, 3, 3], 3, 2],
    ]
    before = contents(output)
    run(photos, output, overwrite=True)
    assert contents(output) == before


def test_an_image_with_another_number_of_annotations_gets_new_ids_for_them():
    def entry(source, image_id, first_id, num_annotations):
        return JournalEntry(
            source=source,
            name=source,
            fingerprint=[],
            status="done" if image_id else "failed",
            reason=None,
            seconds=0.0,
            image_id=image_id,
            first_id=first_id,
            num_annotations=num_annotations,
            size_hw=None,
            outputs={},
        )

    numbering = Numbering([entry("a", 1, 1, 2), entry("b", 2, 0, 0), entry("c", 0, 0, 0)])
    assert [numbering.image_id(source) for source in "abcd"] == [1, 2, 3, 3]
    assert [numbering.first_id("a", count) for count in (2, 0, 3)] == [1, 0, 3]
    numbering.note(entry("a", 1, 3, 3))
    assert numbering.first_id("d", 1) == 6
    assert Numbering([]).first_id("a", 4) == Numbering([]).image_id("a") == 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half of the new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
