"""Batches with a simple job: order, failures, resuming, interruption, another configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from fusion.formats.schema import JOURNAL, RUN, JournalEntry
from fusion.runs.batch import LOCK, locked, plan_run, run_batch
from fusion.runs.job import Job, Written
from fusion.runs.journal import Numbering, open_journal
from ground.files import replacing, write_bytes, write_json


def mean_job(output: Path, config_hash: str = "one", interrupt_at: str = "", seen: list[str] | None = None) -> Job:
    """Writes every image's mean colour, and its ids, to NAME.txt, and all of them to all.json: two annotations each."""

    def compute(image, name):
        if seen is not None:
            seen.append(name)
        if name == interrupt_at:
            raise KeyboardInterrupt
        if image.max() == 0:
            raise RuntimeError("too\ndark")
        return image.mean(axis=(0, 1)).tolist()

    def write(mean, name, first_id_of):
        first_id = first_id_of(2)
        write_bytes(output / f"{name}.txt", json.dumps([mean, first_id]).encode())
        return Written((3, 4), first_id, 2)

    def finish(finished, images):
        done = [image for image in finished if image.entry.status == "done"]
        means = [json.loads((output / f"{image.entry.name}.txt").read_bytes()) for image in done]
        ids = [image.entry.image_id for image in done]
        listed = [[image.file_name, *mean, i] for image, mean, i in zip(done, means, ids, strict=True)]
        write_json(output / "all.json", listed)
        write_json(output / RUN, {"images": [image.to_json() for image in images]})

    return Job(
        config_hash=config_hash,
        compute=compute,
        write=write,
        finish=finish,
        is_whole=lambda name: (output / f"{name}.txt").is_file(),
        remove=lambda name, keep: (output / f"{name}.txt").unlink(missing_ok=True),
    )


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / "photos" / f"{name}.png" for name in "abc"]
    paths[0].parent.mkdir()
    for grey, path in enumerate(paths, start=1):
        Image.new("RGB", (4, 3), (grey, grey, grey)).save(path)
    return paths


def run(photos, output, *, overwrite=False, **settings):
    job = mean_job(output, **settings)
    files = plan_run(photos, output, job.config_hash, overwrite=overwrite)
    return [(entry.name, entry.status) for entry in run_batch(files, output, job, overwrite=overwrite)]


def contents(folder):
    """What a run leaves, without its times."""
    run_files = (JOURNAL, RUN, LOCK)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name not in run_files}


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
    assert run(photos, output, seen=seen) == [("a", "skipped"), ("b", "skipped"), ("c", "skipped")]
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
        run(photos, resumed, interrupt_at=stop_at)
    assert names(resumed) == [f"{name}.png" for name in "abc" if name < stop_at]
    seen: list[str] = []
    run(photos, resumed, seen=seen)
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
    (killed / "b.txt.part").write_bytes(b"half")
    (killed / "b.txt").write_bytes(b"of a run that was killed later")
    run(photos, killed)
    assert contents(killed) == contents(whole)


def test_closing_the_iterator_ends_in_good_order(photos, tmp_path):
    output = tmp_path / "out"
    job = mean_job(output)
    entries = run_batch(plan_run(photos, output, "one", overwrite=False), output, job)
    next(entries)
    entries.close()
    assert names(output) == ["a.png", "b.png"]  # b was begun while a was written


def test_no_image_is_begun_once_told_to_stop(photos, tmp_path):
    output = tmp_path / "out"
    job, told = mean_job(output), iter((False, True))
    files = plan_run(photos, output, "one", overwrite=False)
    assert [entry.name for entry in run_batch(files, output, job, stop=lambda: next(told))] == ["a"]
    statuses = [image["status"] for image in json.loads((output / RUN).read_text())["images"]]
    assert statuses == ["done", "pending", "pending"]


def test_the_lock_of_a_folder_is_one_process_s(tmp_path):
    with locked(tmp_path / "out"), pytest.raises(ValueError, match="another process"), locked(tmp_path / "out"):
        pass
    with locked(tmp_path / "out"):
        pass


def test_another_configuration_is_refused_unless_overwritten(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    with pytest.raises(ValueError, match=r"another configuration.*--overwrite"):
        run(photos, output, config_hash="two")
    assert run(photos[:1], output, config_hash="two", overwrite=True) == [("a", "done")]
    assert sorted(contents(output)) == ["a.txt", "all.json"]  # what is not of this configuration is gone


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
    (output / "b.txt").unlink()
    assert run(photos, output) == [("a", "skipped"), ("b", "done"), ("c", "skipped")]
    assert contents(output) == before


def test_images_of_earlier_runs_stay_in_the_files_about_all(photos, tmp_path):
    output = tmp_path / "out"
    run(photos[1:], output)
    run(photos[:1], output)
    assert names(output) == ["b.png", "c.png", "a.png"]
    assert [image["name"] for image in json.loads((output / RUN).read_text())["images"]] == ["b", "c", "a"]


def test_a_damaged_journal_is_cut_where_it_can_no_longer_be_read(photos, tmp_path):
    output = tmp_path / "out"
    run(photos, output)
    journal = output / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b'{"source": 1}\n', *lines[2:]]))
    config_hash, entries = open_journal(journal)
    assert (config_hash, [entry.name for entry in entries.values()]) == ("one", ["a"])
    assert journal.read_bytes() == b"".join(lines[:2])


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
