"""The page behind HTTP: gradio in an application of ours, guarded as `emerseg serve` is. It serves no other files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from fusion.serve.guard import Access, Guard
from fusion.serve.service import Service
from fusion.web.gate import Gate


def create_app(service: Service, access: Access | None = None, root: Path | None = None) -> FastAPI:
    """The ASGI application; its shutdown closes the service and deletes what was uploaded.

    `root` is the folder whose images pages may choose. ValueError if it is none.
    """
    if root is not None and not root.is_dir():
        raise ValueError(f"root is {str(root)!r}, expected a folder")
    access = access or Access(open_paths=())
    folder = Path(tempfile.mkdtemp(prefix="emerseg-web-"))
    # Read when gradio is imported: nothing is reported, and uploads are kept apart from those of others.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    import gradio as gr

    from fusion.web.page import Events, page, style, theme

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(service.close)
            shutil.rmtree(folder, ignore_errors=True)

    middleware = [
        Middleware(Gate, token=access.token),
        Middleware(Guard, access=access, max_bytes=service.limits.max_bytes),
    ]
    app = FastAPI(
        title="emerseg", docs_url=None, redoc_url=None, openapi_url=None, middleware=middleware, lifespan=lifespan
    )
    return gr.mount_gradio_app(
        app,
        page(Events(service, root, folder)),
        path="/",
        show_error=False,
        max_file_size=service.limits.max_bytes,
        allowed_paths=[],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        css=style(),
    )
