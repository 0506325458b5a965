"""For the tests of the page: a running server on 127.0.0.1, and a Chromium that tells of every fault of the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("uvicorn")
from running_page import running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.web)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A folder of the server with an image, one in a folder of it, a link that leads out of it, and a text."""
    from test_web_edit import photo

    outside = tmp_path_factory.mktemp("outside")
    root = tmp_path_factory.mktemp("root")
    (root / "inner").mkdir()
    (root / "one.png").write_bytes(photo(5))
    (root / "inner/two.png").write_bytes(photo(6))
    (root / "notes.txt").write_text("not to be read")
    (outside / "secret.png").write_bytes(photo(7))
    (root / "link.png").symlink_to(outside / "secret.png")
    return root


@pytest.fixture(scope="session")
def site(tiny_preset, root):
    with running(tiny_preset, root) as site:
        yield site


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens the page of a site. Afterwards: no error in its console, no dialog, no request to another host."""
    contexts, faults = [], []

    def opened(site, size_wh=(1280, 860), path="", **options):
        contexts.append(browser.new_context(viewport={"width": size_wh[0], "height": size_wh[1]}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: faults.append(request.url) if is_foreign(request.url) else None)

        def is_foreign(url):
            return not url.startswith((site.url, "data:", f"blob:{site.url}"))

        page.faults = faults
        page.goto(site.url + path)
        page.locator(".es-empty").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
