"""`emerseg serve` on the command line: its options reach the service, wrong ones are one line, Ctrl-C ends it well."""

from __future__ import annotations

import logging
import signal
from contextlib import nullcontext

import pytest
from test_cli import emerseg

pytest.importorskip("uvicorn")
import uvicorn
from fastapi.testclient import TestClient

from fusion.cli import serve as command
from fusion.serve import server
from fusion.serve.line import LineClosed
from fusion.serve.service import Service
from ground.images import limit_pixels


@pytest.fixture
def served(monkeypatch):
    """What would have been served: (app, service), without a socket."""
    found = []
    monkeypatch.setattr(server, "bound_socket", lambda host, port: nullcontext((host, port)))
    monkeypatch.setattr(server, "address", lambda sock: f"http://{sock[0]}:{sock[1]}")
    monkeypatch.setattr(server, "serve", lambda app, service, sock, verbose: found.append((app, service)))
    notes = logging.getLogger("ovseg")
    level = notes.level
    yield found
    notes.setLevel(level)
    for _, service in found:
        service.close()
    limit_pixels()


def test_options_reach_the_service(served, tiny_preset, capsys):
    options = ["--queue", 3, "--timeout", 7, "--max-megabytes", 1.5, "--max-labels", 9, "--cache-megabytes", 2]
    options += ["--labels", "cat, sky", "--background", "wall", "--masks", "grid", "--set", "fusion.min_area=5"]
    assert (
        emerseg("serve", "--preset", tiny_preset, *options, "--host", "0.0.0.0", "--token", "secret", "--port", 0) == 0
    )
    app, service = served[0]
    assert capsys.readouterr().err == f"serving {tiny_preset} at http://0.0.0.0:0; Ctrl-C ends it\n"
    limits = service.limits
    assert (limits.queue, limits.timeout, limits.max_bytes) == (3, 7.0, 1_500_000)
    assert (limits.max_labels, limits.max_megapixels, limits.cache_megabytes) == (9, 50.0, 2.0)
    assert [label.name for label in service.labels] == ["cat", "sky"] and service.background == ("wall",)
    assert (service.masks, service.preset.fusion.min_area) == ("grid", 5)
    client = TestClient(app, base_url="http://server.example.org")
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "host is '0.0.0.0', which others can reach: give a token"),
        (["--token", ""], "the token is empty"),
        (["--cors", "*"], "origin is '*', expected one such as"),
        (["--timeout", "0"], "limits.timeout is 0.0, expected a number above 0"),
        (["--labels", "gone.txt"], "no label file gone.txt"),
        (["--preset", "sd99"], "sd15"),
        (["--queue", "many"], "--queue"),
    ],
)
def test_wrong_use_is_one_line(served, tiny_preset, capsys, options, message):
    assert emerseg("serve", "--preset", tiny_preset, "--masks", "grid", *options) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1 and not served


def test_the_token_may_come_from_the_environment(served, tiny_preset, monkeypatch):
    monkeypatch.setenv("EMERSEG_TOKEN", "secret")
    assert emerseg("serve", "--preset", tiny_preset, "--masks", "grid", "--host", "::", "-q") == 0
    assert len(served) == 1


def test_a_missing_extra_is_named_with_its_command(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "fastapi" else name)
    assert emerseg("serve") == 2
    assert capsys.readouterr().err == "emerseg: error: emerseg serve needs fastapi: pip install 'emerseg[serve]'\n"


def test_ctrl_c_lets_the_line_go_first(tiny_preset):
    service = Service(tiny_preset, masks="grid")
    running = server._Server(uvicorn.Config(app=None), service)
    running.handle_exit(signal.SIGINT, None)
    assert running.should_exit and not running.force_exit
    with pytest.raises(LineClosed):
        service.line.submit(str)
    running.handle_exit(signal.SIGINT, None)
    assert running.force_exit
    service.close()
