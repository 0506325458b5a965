"""A running page on 127.0.0.1, for the tests of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from fusion.serve.guard import Access
from fusion.serve.limits import Limits
from fusion.serve.server import address, bound_socket
from fusion.serve.service import Service
from fusion.web.app import create_app
from ground.images import limit_pixels

LIMITS = Limits(max_megabytes=0.5, max_megapixels=0.05)


@dataclass(frozen=True)
class Site:
    """A running server."""

    url: str  # ends in "/"
    service: Service
    root: Path  # folder of the server that pages may choose from


@contextmanager
def running(preset: Path, root: Path, token: str | None = None) -> Iterator[Site]:
    """A server of its own, which ends with the context."""
    service = Service(preset, ("cat", "grass [stuff]"), limits=LIMITS)
    with bound_socket("127.0.0.1", 0) as sock:
        app = create_app(service, Access(token=token, open_paths=()), root)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield Site(address(sock) + "/", service, root)
        server.should_exit = True
        thread.join()
    limit_pixels()
