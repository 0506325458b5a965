"""`emerseg`: light help, and one clear line with exit code 2 for every wrong use."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from test_ovseg_backbone import VIT_B16_SHAPED
from tiny_ovseg import save_with_bert

from fusion.cli import app, console, options
from fusion.cli.labels import labels_of
from ovseg import as_labels

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


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["segment", "--help"],
        ["eval", "--help"],
        ["demo", "--help"],
        ["adapt", "--help"],
        ["serve", "--help"],
        ["batch", "--help"],
    ],
)
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
        (["segmnt"], "no command 'segmnt', expected one of segment, masks, relabel, validate, convert, merge, eval"),
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
        (["labels", "~gone.txt"], "no label file ~gone.txt"),
        (["segment", "~gone.png", "--labels", "cat", "--output", "OUT"], "no file or folder ~gone.png"),
        (
            ["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--preset", "~gone.yaml"],
            "no preset file ~gone.yaml",
        ),
        (
            ["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--set", f"ovseg.dense={'[' * 9999}"],
            "is no YAML",
        ),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--set", "ovseg.dense=2024-13-45"], "is no YAML"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--seed", "-1"], "--seed"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--seed", str(2**64)], "--seed"),
        (["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--bits", "8"], "--bits"),
        (["eval", "--dataset", "pictures", "--root", "~gone"], "~gone"),
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


def test_labels_are_text_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("cat, kitty\nsky\n")
    (tmp_path / "coco.names").write_text("person\nwine glass\n")
    (tmp_path / "list.json").write_text('["cat", {"name": "sea", "stuff": true}]')
    (tmp_path / "~a, b.txt").write_text("dog\n")
    (tmp_path / "dog").mkdir()  # as data sets of classes have them

    def read(text):
        return [(label.name, label.stuff) for label in as_labels(labels_of(text))]

    assert read("words.txt") == [("cat", False), ("sky", True)]
    assert read("coco.names") == [("person", False), ("wine glass", False)]
    assert read("list.json") == [("cat", False), ("sea", True)]
    assert read("~a, b.txt") == [("dog", False)]
    assert read("dog") == [("dog", False)]
    assert read(", ".join(f"word {i}" for i in range(1000)))[-1] == ("word 999", False)


@pytest.mark.parametrize("name", ["classes.csv", "cat", "labels.md", "pipe"])
def test_what_is_a_file_is_never_a_label(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(name) if name == "pipe" else Path(name).write_text("cat\n")
    assert emerseg("labels", name) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"emerseg: error: {name} is a file, and label files end in .txt, .yaml")
    assert f'as a label it is "{name} [thing]"' in shown
    assert emerseg("labels", f"{name} [thing]") == 0
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gone.names", "gone.csv", "gone.json", "~gone.txt"])
def test_what_is_named_like_a_label_file_is_one(capsys, name):
    assert emerseg("labels", name) == 2
    assert capsys.readouterr().err.startswith(f"emerseg: error: no label file {name}; labels are given as in")


def test_labels_says_what_text_is_read_as_and_what_panopticapi_cannot_do_without(capsys, caplog):
    assert emerseg("labels", "cat, goo [stuff], sky [thing]") == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[2:5:2]] for row in rows] == [
        ["cat", "thing"],
        ["goo", "stuff"],
        ["sky", "thing"],
    ]
    assert not caplog.messages
    assert emerseg("labels", "cat, dog") == emerseg("labels", "goo [stuff]") == 0
    assert caplog.messages == [
        'all labels are things: panopticapi divides by zero where there is no stuff; say "NAME [stuff]"',
        'all labels are stuff: panopticapi divides by zero where there is no thing; say "NAME [thing]"',
    ]


def run(arguments, shell="", **variables):
    """The console script in a process of its own, with redirections of the shell: its exit code, and what it prints."""
    script = f"import sys; from fusion.cli import main; sys.argv = ['emerseg', *{arguments}]; main()"
    command = f'exec "$0" -c "$1" {shell}'
    ended = subprocess.run(
        ["sh", "-c", command, sys.executable, script], capture_output=True, env=os.environ | variables, timeout=200
    )
    assert b"Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_terminal_will_do(encoding):
    code, shown, _ = run(["labels", "dog, 犬, café"], PYTHONIOENCODING=encoding)
    assert code == 0
    assert "犬".encode(encoding, "backslashreplace") in shown and "café".encode(encoding, "backslashreplace") in shown
    assert run(["segment", "--help"], PYTHONIOENCODING=encoding)[0] == 0


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_tracebacks(shell, tmp_path):
    assert run(["labels", "dog"], shell)[0] == 0
    code, _, error = run(["segment", "-", "--labels", "cat", "--output", str(tmp_path / "out")], shell + " <&-")
    assert code == 2
    assert error == b"" if "2>&-" in shell else b"emerseg: error: standard input is closed" in error


def test_nothing_is_written_where_nobody_reads():
    assert run(["presets"], "| true")[2] == b""


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "", "--labels", "cat", "--output", "OUT"],
        ["segment", "PHOTO", "--labels", "cat", "--output", ""],
        ["segment", "PHOTO", "--labels", "cat", "-o", " "],
        ["masks", "", "--output", "OUT"],
        ["masks", "PHOTO", "--output", ""],
        ["relabel", "", "--labels", "cat"],
        ["validate", ""],
        ["demo", "--output", ""],
    ],
)
def test_empty_text_is_not_the_current_folder(photo, tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(photo.parent)
    places = {"PHOTO": photo, "OUT": tmp_path / "out"}
    assert emerseg(*(places.get(argument, argument) for argument in arguments)) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "is '', expected" in shown or "is ' ', expected" in shown
    assert [path.name for path in photo.parent.iterdir()] == ["a.png"]


def test_output_folders_are_those_of_the_home_folder_too(tmp_path, monkeypatch):
    """As in `--output=~/x`, where the shell leaves the tilde."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert options.folder("~/x") == tmp_path / "x"


NASTY = "a\x1b[31m\nb\u202e\udce9\x9b.png"
SHOWN = r"a\x1b[31m\nb\u202e\udce9\x9b.png"


def test_control_characters_are_shown_as_escapes():
    assert console.printable(NASTY) == SHOWN
    assert console.printable("犬 é 👩‍🚒 \u200d") == "犬 é 👩‍🚒 \u200d"


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", NASTY, "--labels", "cat", "--output", "OUT"],
        ["segment", "PHOTO", "--labels", NASTY.replace(".png", ".txt"), "--output", "OUT"],
        ["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--preset", NASTY],
        ["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--masks", NASTY],
        ["segment", "PHOTO", "--labels", "cat", "--output", "OUT", "--set", NASTY],
        ["relabel", NASTY, "--labels", "cat"],
        ["validate", NASTY],
        ["labels", NASTY],
        ["labels", "\x1b[31m, \x1b[31m"],
        ["download", NASTY],
        [NASTY],
    ],
)
def test_errors_hold_no_control_characters(photo, tmp_path, capsys, arguments):
    places = {"PHOTO": photo, "OUT": tmp_path / "out"}
    assert emerseg(*(places.get(argument, argument) for argument in arguments)) == 2
    shown = capsys.readouterr().err
    assert shown.endswith("\n") and shown.count("\n") == 1
    assert console.printable(shown[:-1]) == shown[:-1] and "x1b[31m" in shown


def test_labels_and_notes_hold_no_control_characters(capsys):
    assert emerseg("labels", "a\x1b[31mb, c\u2028d") == 0
    assert "a\\x1b[31mb" in (shown := capsys.readouterr().out) and "\x1b" not in shown and "\u2028" not in shown
    record = logging.makeLogRecord({"msg": "no font has %s", "args": (NASTY,), "name": "fusion"})
    assert console._OneLine("%(name)s: %(message)s").format(record) == f"fusion: no font has {SHOWN}"
    try:
        raise ValueError(NASTY)
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    assert "\x1b" not in console._OneLine("%(message)s").format(record)


def test_quiet_silences_notes():
    script = (
        "import logging\nfrom fusion.cli.console import set_up_output\nset_up_output(verbose=False, quiet={})\n"
        "logging.getLogger('ovseg').warning('a note')\nlogging.getLogger('ovseg').error('an error')\n"
    )
    for quiet, shown in ((True, "emerseg: an error\n"), (False, "emerseg: a note\nemerseg: an error\n")):
        ended = subprocess.run([sys.executable, "-c", script.format(quiet)], capture_output=True, text=True, check=True)
        assert ended.stderr == shown


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


def test_a_piped_yes_runs_no_code_of_a_model_folder(tmp_path, photo, tiny_preset):
    folder, ran = tmp_path / "model", tmp_path / "ran"
    save_with_bert(folder, VIT_B16_SHAPED["vision_cfg"])
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')")
    settings = ["--preset", str(tiny_preset), "--set", f"ovseg.model=local-dir:{folder}", "--masks", "grid"]
    command = ["segment", str(photo), "--labels", "cat", "-q", "--output", str(tmp_path / "out"), *settings]
    (tmp_path / "yes").write_text("y\ny\n")
    code, _, error = run(command, f"< {tmp_path / 'yes'}")
    assert code == 2 and error.count(b"\n") == 1 and b"by which a model runs code of its own" in error
    assert not ran.exists()
