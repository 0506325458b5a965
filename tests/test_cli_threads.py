"""Threads: the command line's own way of waiting, which gives way to the user's, and `--threads`."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import pytest
import torch

from fusion.cli import app
from fusion.cli.threads import WAITING, use_threads, wait_briefly


@pytest.mark.parametrize("theirs", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}, {}])
def test_threads_wait_as_the_user_has_set_it_or_briefly(monkeypatch, theirs):
    monkeypatch.setattr(os, "environ", dict(theirs))
    wait_briefly()
    assert os.environ == (theirs or WAITING)


def test_the_console_script_sets_it_before_torch_is_loaded_and_packages_do_not():
    script = (
        "import os, sys\n"
        "import emerdiff, emerseg, fusion, ovseg\n"
        "from fusion.cli import app, main\n"
        "assert 'GOMP_SPINCOUNT' not in os.environ\n"
        "sys.argv = ['emerseg', '--version']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])\n"
    )
    unset = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=unset)
    assert shown.stdout.split()[-2:] == ["False", WAITING["GOMP_SPINCOUNT"]]


def test_as_many_threads_as_asked_for(monkeypatch):
    before = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        use_threads(3)
        assert (torch.get_num_threads(), cv2.getNumThreads(), os.environ["OMP_NUM_THREADS"]) == (3, 3, "3")
        use_threads(None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


@pytest.mark.parametrize("command", ["segment", "masks", "relabel", "eval", "demo"])
def test_every_command_that_computes_refuses_less_than_one_thread(tmp_path, capsys, command):
    needed = {
        "segment": [tmp_path, "--labels", "cat", "--output", tmp_path / "out"],
        "masks": [tmp_path, "--output", tmp_path / "out"],
        "relabel": [tmp_path, "--labels", "cat"],
        "eval": ["--dataset", "toy", "--root", "1:2"],
        "demo": [],
    }[command]
    assert app([command, *map(str, needed), "--threads", "0"], standalone_mode=False) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("emerseg: error: ") and shown.count("\n") == 1 and "--threads" in shown
