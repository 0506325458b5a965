"""What surrounds the page, without gradio: the command's errors, the gate with its token, the folder of the server."""

from __future__ import annotations

import pytest
from test_cli import emerseg

pytest.importorskip("starlette")
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fusion.cli import listening
from fusion.serve.guard import Access, Guard
from fusion.web.folder import listed, read_inside
from fusion.web.gate import COOKIE, Gate

TOKEN = "a-secret;of=the,tests"


def client(token=None):
    """A page that says "here", behind the gate and the guard."""
    middleware = [
        Middleware(Gate, token=token),
        Middleware(Guard, access=Access(token=token, open_paths=()), max_bytes=10),
    ]
    pages = [Route(path, lambda request: PlainTextResponse("here")) for path in ("/", "/docs", "/config")]
    return TestClient(Starlette(routes=pages, middleware=middleware), base_url="http://127.0.0.1:7860")


def test_without_a_token_the_page_is_there_and_may_load_nothing_from_elsewhere():
    answer = client().get("/")
    assert answer.text == "here"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "//" not in policy and "*" not in policy


def test_a_token_opens_all_paths_and_nothing_else_does():
    for path in ("/", "/docs", "/config"):
        assert client(TOKEN).get(path).status_code == 401
        assert client(TOKEN).get(path, headers={"Cookie": f"{COOKIE}={TOKEN}"}).status_code == 401
        assert client(TOKEN).get(path, headers={"Authorization": f"Bearer {TOKEN}"}).text == "here"
    page = client(TOKEN)
    assert page.get("/", params={"token": "wrong"}).status_code == 401
    answer = page.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    for path in ("/", "/docs", "/config"):
        assert page.get(path).text == "here"
    assert page.get("/", headers={"Host": "evil.example.org"}).status_code == 403


def test_a_form_asks_people_for_the_token():
    answer = client(TOKEN).get("/")
    assert 'name="token"' in answer.text and TOKEN not in answer.text


def test_no_name_leads_out_of_the_folder(tmp_path):
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    for path in (root / "one.png", root / "inner/two.PNG", tmp_path / "secret.png", root / "notes.txt"):
        path.write_bytes(path.name.encode())
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "outside").symlink_to(tmp_path)
    assert listed(root) == ["inner/two.PNG", "one.png"] and listed(None) == []
    assert read_inside(root, "inner/two.PNG", 100) == b"two.PNG"
    for name in (
        "../secret.png",
        "link.png",
        "notes.txt",
        str(tmp_path / "secret.png"),
        "outside/secret.png",
        "",
        "a\0",
    ):
        with pytest.raises(ValueError, match="in the folder of the server"):
            read_inside(root, name, 100)
    with pytest.raises(ValueError, match=r"one\.png: has 0 MB, expected 3e-06 at most"):
        read_inside(root, "one.png", 3)


def test_a_missing_extra_is_named_with_its_command(monkeypatch, capsys):
    monkeypatch.setattr(listening, "find_spec", lambda name: None if name == "gradio" else name)
    assert emerseg("web") == 2
    assert capsys.readouterr().err == "emerseg: error: emerseg web needs gradio: pip install 'emerseg[web]'\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "host is '0.0.0.0', which others can reach: give a token"),
        (["--token", ""], "the token is empty"),
        (["--root", "pyproject.toml"], "is a file, expected a folder"),
    ],
)
def test_wrong_use_is_one_line(tiny_preset, monkeypatch, capsys, options, message):
    monkeypatch.setattr(listening, "find_spec", lambda name: name)
    assert emerseg("web", "--preset", tiny_preset, "--masks", "grid", *options) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
