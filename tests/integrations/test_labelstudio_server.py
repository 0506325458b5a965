"""Label Studio itself: a project asks the ML backend, stores what it predicts, and exports it.

`LABEL_STUDIO=PATH` names the executable `label-studio`, of a virtual environment of its own. It is skipped without.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import threading
import time
import zipfile

import numpy as np
import pytest
import pytest_socket
from PIL import Image

requests = pytest.importorskip("requests")
pytest.importorskip("label_studio_ml.model")

from label_studio_ml.api import init_app  # noqa: E402
from label_studio_sdk.converter.brush import decode_rle  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

from emerseg.integrations.labelstudio import backend  # noqa: E402

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.timeout(600),
    pytest.mark.skipif("LABEL_STUDIO" not in os.environ, reason="LABEL_STUDIO does not say where label-studio is"),
]
TOKEN = "a" * 40
NAMES = {"animal_01": "cat", "grass": "grass", "sky": "sky"}
CONFIG = """<View>
  <Image name="photo" value="$image"/>
  <BrushLabels name="brush" toName="photo">
    <Label value="cat" alias="animal_01"/>
    <Label value="grass" stuff="true"/>
    <Label value="sky"/>
  </BrushLabels>
</View>"""


class Client:
    """Requests to Label Studio's API."""

    def __init__(self, url):
        self.url = url

    def __call__(self, method, path, **content):
        headers = {"Authorization": f"Token {TOKEN}"}
        answer = requests.request(method, self.url + path, headers=headers, timeout=120, **content)
        assert answer.status_code < 300, answer.text
        return answer

    def is_up(self):
        try:
            return requests.get(f"{self.url}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def label_studio(tmp_path):
    """A Label Studio of its own, with an empty database."""
    pytest_socket.enable_socket()
    port = free_port()
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        # It refuses a backend on this machine otherwise.
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    user = ["--username", "a@example.com", "--password", "Secret123456", "--user-token", TOKEN]
    command = [os.environ["LABEL_STUDIO"], "start", "--no-browser", "--internal-host", "127.0.0.1"]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), *user], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    client = Client(f"http://127.0.0.1:{port}")
    while server.poll() is None and not client.is_up():
        time.sleep(1)
    assert server.poll() is None, (tmp_path / "log").read_text()
    yield client
    server.terminate()
    server.wait()


@pytest.fixture
def backend_url(folder, label_studio, monkeypatch, tmp_path):
    """The ML backend, in a thread, on the preset of the folder."""
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of the SDK, for images that it fetched
    app = init_app(backend(preset=str(folder.preset)), model_dir=str(tmp_path / "jobs"))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_project_stores_and_exports_what_the_folder_holds(folder, label_studio, backend_url):
    project = label_studio("post", "/api/projects", json={"title": "test", "label_config": CONFIG}).json()["id"]
    with open(folder.image, "rb") as image:
        label_studio("post", f"/api/projects/{project}/import", files={"file": image})
    label_studio("post", "/api/ml", json={"project": project, "url": backend_url, "title": "emerseg"})
    everything = {"selectedItems": {"all": True, "excluded": []}, "project": str(project)}
    action = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
    label_studio("post", action, json=everything)
    (prediction,) = label_studio("get", f"/api/predictions?project={project}").json()

    height, width = folder.semantic.shape
    regions = prediction["result"]
    masks = [decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3] > 0 for region in regions]
    folder.assert_same_pixels(masks, [NAMES[region["value"]["brushlabels"][0]] for region in regions])
    assert [region["score"] for region in regions] == folder.scores

    # What an annotator accepts, as Label Studio exports it.
    label_studio("post", f"/api/tasks/{prediction['task']}/annotations/", json={"result": regions})
    exported = label_studio("get", f"/api/projects/{project}/export?exportType=BRUSH_TO_PNG")
    with zipfile.ZipFile(io.BytesIO(exported.content)) as files:
        for number, name in enumerate(NAMES, start=1):
            whole = np.zeros((height, width), bool)
            for file in files.namelist():
                if f"-brush-{name}-" in file:
                    whole |= np.asarray(Image.open(files.open(file))) > 0
            np.testing.assert_array_equal(whole, folder.semantic == number)
