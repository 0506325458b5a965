"""`emerseg serve` on the command line: its options reach the service, wrong ones are one line, Ctrl-C ends it well."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from test_cli import emerseg
from test_serve import body_of, held, png

pytest.importorskip("uvicorn")
import uvicorn
from fastapi.testclient import TestClient

from fusion.cli import listening
from fusion.serve import server
from fusion.serve.app import create_app
from fusion.serve.limits import Limits
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
    monkeypatch.setattr(listening, "find_spec", lambda name: None if name == "fastapi" else name)
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


class UnixConnection(HTTPConnection):
    """HTTP over a socket that is a file: no network."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)

    def ask(self, method, path, body=None):
        self.request(method, path, body, {"Content-Type": "application/json"})
        response = self.getresponse()
        return response.status, json.loads(response.read())


def listens(path):
    with suppress(OSError):
        UnixConnection(path).connect()
        return True
    return False


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets that are files")
def test_a_running_server_forgets_who_went_and_ends_by_ctrl_c(tiny_preset, monkeypatch):
    """uvicorn itself: three requests, one of whose clients goes; then Ctrl-C: only the one in hand is answered."""
    folder = tempfile.TemporaryDirectory()  # whose name is short, as those of sockets must be
    path = Path(folder.name) / "socket"
    service = Service(tiny_preset, masks="grid", limits=Limits(queue=4))
    found = {}

    def waiting():
        return len(service.line.state.waiting)

    def until(condition):
        ends = time.monotonic() + 60
        while not condition() and time.monotonic() < ends:
            time.sleep(0.005)

    def clients():
        with held(service, monkeypatch) as (entered, end, begun), ThreadPoolExecutor(2) as pool:
            try:
                until(lambda: listens(path))
                found["health"] = UnixConnection(path).ask("GET", "/health")
                answers = [pool.submit(UnixConnection(path).ask, "POST", "/v1/segment", body_of(png(1)))]
                entered.wait(60)
                goes = UnixConnection(path)
                goes.request("POST", "/v1/segment", body_of(png(2)), {"Content-Type": "application/json"})
                until(lambda: waiting() == 1)
                found["came"] = waiting()
                goes.close()
                until(lambda: waiting() == 0)
                found["went"] = waiting()
                answers.append(pool.submit(UnixConnection(path).ask, "POST", "/v1/segment", body_of(png(3))))
                until(lambda: waiting() == 1)
            finally:
                os.kill(os.getpid(), signal.SIGINT)
            found["waiting"] = answers[1].result(60)
            end.set()
            found["in hand"] = answers[0].result(60)
            found["begun"] = list(begun)

    with socket.socket(socket.AF_UNIX) as sock, ThreadPoolExecutor(1) as pool:
        sock.bind(str(path))
        asked = pool.submit(clients)
        server.serve(create_app(service), service, sock)
        asked.result(60)
    assert found["health"][0] == 200 and (found["came"], found["went"]) == (1, 0)
    assert found["waiting"][0] == 503 and found["waiting"][1]["error"]["code"] == "SHUTTING_DOWN"
    assert found["in hand"][0] == 200 and found["in hand"][1]["annotations"]
    assert found["begun"] == [png(1)]
    assert not service.line._thread.is_alive()
    folder.cleanup()
