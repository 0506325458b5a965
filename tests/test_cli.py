"""`emerseg`: light help, and one clear line with exit code 2 for every wrong use."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from fusion.cli import app, options
from fusion.cli.labels import labels_of

HEAVY = ("torch", "numpy", "PIL", "cv2", "diffusers", "transformers", "open_clip", "skimage", "scipy", "yaml")


def emerseg(*arguments) -> int:
    """Run the command line in this process; its exit code."""
    return app([str(argument) for argument in arguments], standalone_mode=False) or 0


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 6)).save(path)
    return path


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["eval", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    script = (
        "import sys\n"
        "from fusion.cli import main\n"
        f"sys.argv = ['emerseg', *{arguments}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "loaded: []" in shown
    assert "Usage" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["segmnt"], "no command 'segmnt', expected one of segment, masks, relabel, validate, eval"),
        (["segment"], "Missing argument"),
        (["segment", "PHOTO", "--output", "OUT"], "--labels"),
        (["segment", "PHOTO", "--labels", "cat"], "--output"),
        (["segment", "gone.jpg", "--labels", "cat", "--output", "OUT"], "no file or folder gone.jpg"),
        (
            ["segment", "PHOTO", "--labels", "gone.txt", "--output", "OUT"],
            "no label file gone.txt; labels are given as",
        ),
        (["segment", "PHOTO", "--labels", "", "--output", "OUT"], "label 1"),
        (["segment", "PHOTO", "--labels", "cat, cat", "--output", "OUT"], "'cat'"),
        (["segment", "PHOTO", "--labels", "cat", "--background", "cat", "--output", "OUT"], "background label 1"),
        (
            ["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--masks", "sam"],
            "'emerdiff', 'naive', 'slic', 'grid'",
        ),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--clip", "dino"], "maskclip"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--fuse", "vote"], "'overlap', 'embedding'"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--clusters", "many"], "--clusters"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--min-score", "2"], "--min-score"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--preset", "sd99"], "sd15"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--set", "clusters=3"], "SECTION.KEY=VALUE"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--set", "emerdiff.k=3"], "clusters"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "PHOTO"], "--output"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--bogus"], "--bogus"),
        (["masks", "PHOTO", "--output", "OUT", "--masks", "none"], "CLIP alone, and there are no labels"),
        (["eval", "--dataset", "ade", "--root", "1:2"], "expected one of toy"),
        (["eval", "--dataset", "toy", "--root", "2:1"], "FIRST:END"),
        (["eval", "--dataset", "toy", "--root", "1:2", "--masks", "naive,sam"], "'sam'"),
        (["eval", "--dataset", "toy", "--root", "1:2", "--masks", "naive,naive"], "twice"),
        (["eval", "--dataset", "toy", "--root", "1:2", "--protocol", "closed"], "open, bound"),
        (["labels", "gone.yaml"], "gone.yaml"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(photo, tmp_path, capsys, arguments, expected):
    places = {"PHOTO": photo, "OUT": tmp_path / "out"}
    assert emerseg(*(places.get(argument, argument) for argument in arguments)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("emerseg: error: ")
    assert shown.err.count("\n") == 1
    assert expected in shown.err
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_here_are_named_with_the_command_that_fetches_them(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    assert emerseg("segment", photo, "--labels", "cat", "--output", tmp_path / "out", "--preset", "sd15") == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "`emerseg download sd15`" in shown
    assert "4270 MB" in shown


def test_a_download_without_network_says_what_it_would_have_fetched(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    assert emerseg("download", "sd14") == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "CompVis/stable-diffusion-v1-4" in shown


def test_a_download_of_what_is_here_says_where(tiny_preset, capsys):
    assert emerseg("download", tiny_preset) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"emerdiff: {tiny_preset.parent / 'sd'}",
        f"ovseg: {tiny_preset.parent / 'clip'}",
    ]


def test_the_console_script_ends_with_the_exit_code(tmp_path):
    script = "import sys; from fusion.cli import main; sys.argv = ['emerseg', 'labels', 'gone.txt']; main()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr


def test_no_command_shows_the_help(capsys):
    assert emerseg() == 0
    assert "segment" in capsys.readouterr().out


def test_presets_are_listed_with_models_and_licences(capsys):
    assert emerseg("presets") == 0
    shown = capsys.readouterr().out
    for text in ("mini", "sd14", "sd15", "sd21", "builtin:mini", "stable-diffusion-v1-4", "CreativeML Open RAIL-M"):
        assert text in shown


def test_labels_shows_how_a_file_is_read(tmp_path, capsys):
    path = tmp_path / "words.yaml"
    path.write_text('- name: "[b]cat"\n  synonyms: [kitty]\n- name: sky\n  stuff: true\n  color: "#0a0b0c"\n')
    assert emerseg("labels", path) == 0
    shown = capsys.readouterr().out
    for text in ("[b]cat", "kitty", "stuff", "#0a0b0c"):
        assert text in shown


def test_words_are_text_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("cat, kitty\nsky\n")
    (tmp_path / "cat").touch()
    assert [label.name for label in labels_of("words.txt")] == ["cat", "sky"]
    assert [label.name for label in labels_of("cat")] == ["cat"]
    assert [label.name for label in labels_of(", ".join(f"word {i}" for i in range(1000)))][-1] == "word 999"


def test_options_become_overrides_and_set_has_the_last_word():
    given = options.overrides_of(["emerdiff.clusters=5"], clusters=4, min_score=0.0, fuse=None)
    assert given == ["emerdiff.clusters=4", "fusion.min_score=0.0", "emerdiff.clusters=5"]


def test_every_choice_in_the_help_is_one_and_none_is_missing(capsys, monkeypatch):
    from fusion.step.choices import FuseRule, MaskSource
    from ovseg.choices import DenseVariant

    monkeypatch.setenv("COLUMNS", "200")  # no name of a choice is broken in two
    assert emerseg("segment", "--help") == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for choices in (FuseRule.values(), MaskSource.values(), DenseVariant.values()):
        assert all(choice in shown for choice in choices)
