"""An application and an address → a running server that ends in good order: uvicorn, told to let the line go first."""

from __future__ import annotations

import socket
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fusion.serve.service import Service

# Connections beside those that wait: uploads, /health, and clients that wait to be refused.
_SPARE_CONNECTIONS = 64


class _Server(uvicorn.Server):
    """Begins to shut down by refusing what waits; uvicorn itself waits for all requests that it has taken."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.refuse()
        super().handle_exit(sig, frame)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at that address, which does not listen yet. OSError, in one line, if it cannot be had."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return sock


def address(sock: socket.socket) -> str:
    """The URL of a server at that socket, for people."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: FastAPI, service: Service, sock: socket.socket, *, verbose: bool = False, patience: int | None = None
) -> None:
    """Serve until Ctrl-C or SIGTERM: the request in hand is finished and answered, those that wait get 503.

    A second Ctrl-C ends it at once, as do `patience` seconds: answers of a page's events never end by themselves.
    `verbose` logs every request.
    """
    config = uvicorn.Config(
        app,
        log_level="info" if verbose else "error",
        access_log=verbose,
        server_header=False,
        limit_concurrency=service.limits.queue + _SPARE_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=patience,
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when all is done
        _Server(config, service).run(sockets=[sock])
