"""For all tests: no network, one thread, tiny models on disk, and a mark for those that need the embedded weights."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest
import pytest_socket

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: no attempt, hence no wait, for the network
os.environ["EMERSEG_CACHE"] = "off"  # the user's stays as it is
os.environ["TOKENIZERS_PARALLELISM"] = "false"
hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("untimed")
ROOT = Path(__file__).parent.parent
WEIGHTS = [
    ROOT / "emerdiff/weights/mini/model_index.json",
    ROOT / "ovseg/weights/mini/open_clip_config.json",
    ROOT / "ovseg/weights/photo/open_clip_config.json",
    ROOT / "emerdiff/weights/research/model_index.json",
    ROOT / "ovseg/weights/research/overlay.safetensors",
]


def pytest_configure(config: pytest.Config) -> None:
    import torch

    with suppress(ImportError):
        import urllib3  # noqa: F401  (asks for IPv6 when it is imported, by opening a socket)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("web") or item.get_closest_marker("ray"):
        pytest_socket.socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)
    else:
        pytest_socket.disable_socket(allow_unix_socket=True)
    missing = [str(path.parent.relative_to(ROOT)) for path in WEIGHTS if not path.is_file()]
    if item.get_closest_marker("weights") and missing:
        pytest.skip(f"the embedded weights are not in this tree: {', '.join(missing)}")


def pytest_runtest_teardown() -> None:
    pytest_socket.enable_socket()
    pytest_socket._remove_restrictions()


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preset file of tiny random models of the real classes, saved in the layouts that users have."""
    from tiny_fusion import save_preset

    return save_preset(tmp_path_factory.mktemp("tiny"))
