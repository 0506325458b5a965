"""Videos: frames by their exact number, one in memory; what is damaged is named, and a run goes on frame by frame."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_cli import emerseg
from test_cli_segment import assert_consistent, contents, segment

from emerseg import RunSpec, run_folder
from fusion.runs import batch
from fusion.runs.inputs import find_images, name_outputs
from fusion.validate import validate
from ground import video
from ground.images import limit_pixels
from ground.video import FrameReader, frame_path, frames_of, split_frame

GRID = ("--masks", "grid", "-q")
KINDS = [("clip.avi", "MJPG"), ("clip.mp4", "mp4v")]
LENGTH = 23


def write_video(path, code, length=LENGTH):
    """64 x 48 px; frame n is of red 10 n, with a square that moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video._keep_quiet()  # FFmpeg takes the level that it is begun with
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this build of OpenCV writes no {code}")
    for number in range(length):
        frame = np.full((48, 64, 3), (0, 60, 10 * number), np.uint8)
        frame[10:30, number : number + 20] = (200, 60, 10 * number)
        writer.write(frame)
    writer.release()
    return path


def number_of(image):
    """Which frame it is, by its red."""
    return round(float(np.median(image[..., 0])) / 10)


@pytest.mark.parametrize(("name", "code"), KINDS)
def test_frames_are_those_of_their_numbers(tmp_path, name, code):
    path = write_video(tmp_path / name, code)
    assert frames_of(path, 5) == [frame_path(path, number) for number in (0, 5, 10, 15, 20)]
    assert frames_of(path, 100) == [frame_path(path, 0)]
    assert len(frames_of(path, 1)) == LENGTH
    reader = FrameReader()
    for number in (0, 1, 7, 22, 21, 3, 3):  # forth, back, and the same once more
        image = reader.read(path, number)
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert number_of(image) == number
        np.testing.assert_array_equal(image, FrameReader().read(path, number))
    with pytest.raises(ValueError, match="frame 23 cannot be read: 23 of 23 frames can be"):
        reader.read(path, LENGTH)
    assert number_of(reader.read(path, 2)) == 2
    reader.close()


def test_frames_are_decoded_one_by_one(tmp_path, monkeypatch):
    """Those between are passed over, none is read twice, and no video is opened again."""
    path = write_video(tmp_path / "clip.avi", "MJPG")
    opened, real = [], cv2.VideoCapture
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda name: opened.append(Counting(real(name))) or opened[-1])
    reader = FrameReader()
    for number in (0, 10, 20):
        reader.read(path, number)
    (capture,) = opened
    assert (capture.grabbed, capture.retrieved) == (21, 3)


class Counting:
    """A capture that counts."""

    def __init__(self, capture):
        self.capture, self.grabbed, self.retrieved = capture, 0, 0

    def __getattr__(self, name):
        return getattr(self.capture, name)

    def grab(self):
        self.grabbed += 1
        return self.capture.grab()

    def retrieve(self):
        self.retrieved += 1
        return self.capture.retrieve()


def test_what_is_really_called_like_a_frame_is_a_file(tmp_path):
    path = tmp_path / "a.mp4#3"
    assert split_frame(path) == (tmp_path / "a.mp4", 3)
    path.touch()
    assert split_frame(path) == (path, None)
    assert split_frame("a.png#3") == (Path("a.png#3"), None)
    assert split_frame("../A.MOV#000") == (Path("../A.MOV"), 0)


def test_an_image_called_like_a_frame_is_an_image(tiny_preset, tmp_path):
    path = tmp_path / "clip.mp4#3"
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(path, format="PNG")
    assert segment(path, tmp_path / "out", tiny_preset, *GRID) == 0
    assert list(validate(tmp_path / "out")) == [] and not (tmp_path / "out/video-frames").exists()


def test_frames_too_large_are_refused(tmp_path):
    path = write_video(tmp_path / "clip.avi", "MJPG", 2)
    limit_pixels(0.001)
    try:
        with pytest.raises(ValueError, match="too large: frames of 64 x 48 px"):
            FrameReader().read(path, 0)
    finally:
        limit_pixels()


# Runs


@pytest.fixture
def inputs(tmp_path):
    """A folder of an image, a video of 23 frames, and the like in a subfolder: clip.png is called like a video."""
    folder = tmp_path / "in"
    write_video(folder / "clip.mp4", "mp4v")
    write_video(folder / "sub/clip.avi", "MJPG", 11)
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(folder / "clip.png")
    return folder


def test_images_and_frames_in_one_folder(inputs, tiny_preset, tmp_path):
    output = tmp_path / "out"
    assert segment(inputs, output, tiny_preset, *GRID, "--every", "10", "--export", "yolo") == 0
    assert list(validate(output)) == []
    assert_consistent(output)
    run = json.loads((output / "run.json").read_text())
    assert [(image["name"], image["file_name"], image["source"]) for image in run["images"]] == [
        ("clip-000000", "clip-000000.png", "../in/clip.mp4#0"),
        ("clip-000010", "clip-000010.png", "../in/clip.mp4#10"),
        ("clip-000020", "clip-000020.png", "../in/clip.mp4#20"),
        ("clip", "clip.png", "../in/clip.png"),
        ("clip-000000-2", "sub/clip-000000-2.png", "../in/sub/clip.avi#0"),
        ("clip-000010-2", "sub/clip-000010-2.png", "../in/sub/clip.avi#10"),
    ]
    frames = {path.stem: np.asarray(Image.open(path)) for path in (output / "video-frames").iterdir()}
    assert {name: number_of(frame) for name, frame in frames.items()} == {
        "clip-000000": 0,
        "clip-000010": 10,
        "clip-000020": 20,
        "clip-000000-2": 0,
        "clip-000010-2": 10,
    }
    for name, frame in frames.items():
        np.testing.assert_array_equal(np.asarray(Image.open(output / "yolo/images" / f"{name}.png")), frame)
    (output / "video-frames/clip-000010.png").unlink()
    assert [fault.path for fault in validate(output)] == ["video-frames/clip-000010.png"]


def test_a_run_goes_on_frame_by_frame_to_the_same_bytes(inputs, tiny_preset, tmp_path, monkeypatch):
    whole, output = tmp_path / "whole", tmp_path / "out"
    spec = RunSpec(tiny_preset, ["cat", "sky"], masks="grid")
    run_folder(spec, inputs, whole, every=10)
    real, computed = batch.compute, []

    def interrupting(file, *rest):
        if len(computed) == 2:
            computed.append(None)
            raise KeyboardInterrupt
        computed.append(file.name)
        return real(file, *rest)

    monkeypatch.setattr(batch, "compute", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run_folder(spec, inputs, output, every=10)
    outcomes = run_folder(spec, inputs, output, every=10)
    assert [outcome.status for outcome in outcomes] == ["skipped"] * 2 + ["done"] * 4
    assert contents(output) == contents(whole)
    # Other frames are added; those that are there serve
    outcomes = run_folder(spec, inputs / "clip.mp4", output, every=5)
    assert [outcome.status for outcome in outcomes] == ["skipped", "done", "skipped", "done", "skipped"]
    # A frame that was changed or deleted on disk is done again, as is all of a video that was changed
    (output / "video-frames/clip-000010.png").write_bytes(b"x")
    outcomes = run_folder(spec, inputs / "clip.mp4", output, every=10)
    assert [outcome.status for outcome in outcomes] == ["skipped", "done", "skipped"]
    write_video(inputs / "clip.mp4", "mp4v", 22)
    assert [outcome.status for outcome in run_folder(spec, inputs / "clip.mp4", output, every=10)] == ["done"] * 3
    assert list(validate(output)) == []


def test_relabelled_moved_and_merged(inputs, tiny_preset, tmp_path):
    output = inputs / "out"
    assert segment(inputs, output, tiny_preset, *GRID, "--every", "10") == 0
    moved = tmp_path / "moved"
    shutil.move(inputs, moved)
    assert emerseg("relabel", moved / "out", "--labels", "dog, tree", "-q") == 0
    assert list(validate(moved / "out")) == []
    fresh = tmp_path / "fresh"
    run_folder(RunSpec(tiny_preset, ["dog", "tree"], masks="grid"), moved, fresh, every=10)
    assert contents(fresh) == contents(moved / "out")
    assert emerseg("merge", fresh, "--output", tmp_path / "m.json") == 0
    assert json.loads((tmp_path / "m.json").read_text()) == json.loads((fresh / "instances.json").read_text())


@pytest.mark.parametrize(("name", "code"), KINDS)
def test_a_damaged_video_is_named_and_the_rest_goes_on(inputs, tiny_preset, tmp_path, capfd, name, code):
    path = write_video(inputs / "z" / name, code)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    output = tmp_path / "out"
    capfd.readouterr()
    assert segment(inputs, output, tiny_preset, *GRID, "--every", "5") == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"failed: {path}#") and "cannot be read" in line
    assert list(validate(output)) == []
    images = json.loads((output / "run.json").read_text())["images"]
    assert [image["status"] for image in images].count("failed") == 1
    assert len([image for image in images if image["status"] == "done"]) >= 9
    path.write_bytes(data)
    assert segment(inputs, output, tiny_preset, *GRID, "--every", "5") == 0
    assert list(validate(output)) == []
    assert number_of(np.asarray(Image.open(output / "video-frames/clip-000020-2.png"))) == 20


def test_what_is_no_video_is_one_failure(tiny_preset, tmp_path, capfd):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_text("hello")
    Image.new("RGB", (64, 48)).save(tmp_path / "in/b.png")
    assert segment(tmp_path / "in", tmp_path / "out", tiny_preset, *GRID, "--every", "5") == 1
    assert "a.mp4#0: cannot be read as a video: damaged, or of a kind" in capfd.readouterr().err


def test_without_every_videos_are_left_out(inputs, tiny_preset, tmp_path, capfd, caplog):
    assert [path.name for path in find_images([inputs])] == ["clip.png"]
    assert "skipped: 2 files of video (--every 10 takes each tenth frame)" in caplog.text
    assert segment(inputs / "clip.mp4", tmp_path / "out", tiny_preset) == 2
    assert "clip.mp4 is a video: --every 10 (every=10) takes each tenth frame of it" in capfd.readouterr().err
    assert segment(str(inputs / "clip.*"), tmp_path / "out", tiny_preset, *GRID) == 1
    assert "clip.mp4: is a video: --every 10" in capfd.readouterr().err
    with pytest.raises(ValueError, match=r"every is 1\.5, expected a whole number from 1"):
        find_images([inputs], every=1.5)
    assert segment(inputs, tmp_path / "out", tiny_preset, "--every", "0") == 2


def test_names_of_frames(tmp_path):
    paths = [tmp_path / "a.mp4#0", tmp_path / "a.mp4#1234567", tmp_path / "a.b.avi#7", tmp_path / "s/a.mp4#0"]
    assert [file.name for file in name_outputs(paths, {})] == ["a-000000", "a-1234567", "a.b-000007", "a-000000-2"]


def test_masks_of_frames(inputs, tiny_preset, tmp_path):
    output = tmp_path / "out"
    arguments = ("--output", output, "--preset", tiny_preset, "--masks", "grid", "-q", "--every", "20")
    assert emerseg("masks", inputs / "clip.mp4", *arguments) == 0
    assert sorted(path.name for path in (output / "video-frames").iterdir()) == ["clip-000000.png", "clip-000020.png"]
    assert sorted(path.name for path in (output / "masks").iterdir()) == ["clip-000000.npz", "clip-000020.npz"]
