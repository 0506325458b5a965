"""Who may use the page, and what it never gives away: tokens, limits, and files of the server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from test_web_edit import photo

from fusion.web.app import create_app
from fusion.web.folder import listed, read_inside

TOKEN = "a-secret-of-the-tests"
ROOT = Path(__file__).parents[2]


def call(site, name, data, client=httpx):
    """What a function of the page answers to a program."""
    found = client.post(f"{site.url}gradio_api/call/{name}", json={"data": data})
    if found.status_code != 200:
        return found.status_code
    with client.stream("GET", f"{site.url}gradio_api/call/{name}/{found.json()['event_id']}") as answer:
        return answer.read().decode()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "pyproject.toml",
        str(ROOT / "pyproject.toml"),
        "../../../../etc/passwd",
        "{root}/one.png",
        "{root}/notes.txt",
        "{root}/../outside0/secret.png",
    ],
)
def test_no_file_of_the_server_is_served(site, path):
    path = path.format(root=site.root)
    for start in ("gradio_api/file=", "file=", "gradio_api/file/", "static/", "assets/", "theme/", "custom_component/"):
        for form in (path, quote(path, safe=""), f"..%2F..%2F..{quote(path, safe='')}"):
            assert httpx.get(site.url + start + form).status_code in (400, 403, 404, 405), start + form


@pytest.mark.parametrize(
    "name",
    [
        "../outside0/secret.png",
        "link.png",
        "notes.txt",
        "/etc/passwd",
        "inner/../one.png",
        "",
        ".",
        "a\0b",
        "~/x.png",
    ],
)
def test_no_name_leads_out_of_the_folder(root, name):
    assert listed(root) == ["inner/two.png", "one.png"]
    with pytest.raises(ValueError, match=r"no image .* in the folder of the server"):
        read_inside(root, name, 10**6)
    with pytest.raises(ValueError, match="no image"):
        read_inside(None, name, 10**6)


def test_a_file_of_the_folder_may_be_too_large(root):
    assert read_inside(root, "one.png", 10**6) == photo(5)
    with pytest.raises(ValueError, match=r"one\.png: has 0 MB, expected 1e-05 at most"):
        read_inside(root, "one.png", 10)


def test_uploads_that_are_too_large_are_refused(site):
    files = {"files": ("big.png", b"0" * 600_000)}
    assert httpx.post(site.url + "gradio_api/upload", files=files).status_code == 413
    assert httpx.post(site.url + "gradio_api/upload", files={"files": ("a.png", photo(0))}).status_code == 200


def test_other_sites_may_not_use_it(site):
    assert httpx.get(site.url, headers={"Host": "evil.example.org"}).status_code == 403
    assert httpx.get(site.url, headers={"Origin": "https://evil.example.org"}).status_code == 403
    policy = httpx.get(site.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy


def test_programs_find_no_function_to_call(site):
    names = httpx.get(site.url + "gradio_api/info").json()
    assert names["named_endpoints"] == {} and names["unnamed_endpoints"] == {}
    assert "/etc/passwd" not in json.dumps(call(site, "segment", [["/etc/passwd"], [], [], "", "", 3, 0]))


@pytest.fixture(scope="module")
def locked(tiny_preset, root):
    from running_page import running

    with running(tiny_preset, root, TOKEN) as site:
        yield site


def test_a_token_opens_the_page(open_page, locked):
    page = open_page(locked, path=f"?token={TOKEN}")
    page.locator("#segment").wait_for()
    assert page.url == locked.url


def test_without_the_token_there_is_a_form_and_nothing_else(browser, locked):
    for path in ("", "config", "gradio_api/info", "gradio_api/startup-events", "theme.css", "docs", "openapi.json"):
        assert httpx.get(locked.url + path).status_code == 401, path
    assert httpx.get(locked.url + "?token=wrong").status_code == 401
    files = {"files": ("a.png", photo(0))}
    assert httpx.post(locked.url + "gradio_api/upload", files=files).status_code == 401
    page = browser.new_context().new_page()
    page.goto(locked.url)
    page.get_by_label("The token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    page.locator("#segment").wait_for()
    cookie = page.context.cookies()[0]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and TOKEN not in cookie["value"]
    page.context.close()


def test_a_root_must_be_a_folder(site, tmp_path):
    with pytest.raises(ValueError, match="expected a folder"):
        create_app(site.service, root=tmp_path / "none")


def test_uploads_are_deleted_with_the_server(tiny_preset, root, tmp_path, monkeypatch):
    import tempfile

    from running_page import running

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with running(tiny_preset, root):
        assert len(list(tmp_path.iterdir())) == 1
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
