"""A Ray cluster on this machine for all tests of this folder, and a server that speaks the API of S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """URL of a bucket, for this process and for those that it begins."""
    s3fs = pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def cluster(s3: str) -> Iterator[None]:
    """Two processors; workers find the packages of this tree, and the tests."""
    ray = pytest.importorskip("ray")
    paths = [HERE.parent.parent, HERE.parent, HERE, os.environ.get("PYTHONPATH", "")]
    variables = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "HF_", "EMERSEG_"))}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": variables | {"PYTHONPATH": os.pathsep.join(map(str, paths))}},
    )
    yield
    ray.shutdown()
