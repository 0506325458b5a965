"""The service behind HTTP: paths, and what they answer. `create_app` makes an ASGI application for any server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from threading import BoundedSemaphore
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response

from fusion.serve import page, xanylabeling
from fusion.serve.answers import OUTPUTS
from fusion.serve.errors import RequestError, as_request_error
from fusion.serve.exchange import Exchange
from fusion.serve.fields import RELABEL_FIELDS, SEGMENT_FIELDS
from fusion.serve.guard import Access, Guard
from fusion.serve.line import LineClosed, LineFull
from fusion.serve.service import Answer, Service, UnknownToken
from ground.versions import own_version


def create_app(service: Service, access: Access | None = None) -> FastAPI:
    """The ASGI application; its shutdown closes the service."""
    access = access or Access()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    cors = [
        Middleware(CORSMiddleware, allow_origins=access.origins, allow_methods=["GET", "POST"], allow_headers=["*"])
    ]
    app = FastAPI(
        title="emerseg",
        summary="Open-vocabulary segmentation: an image and labels in, COCO annotations out.",
        version=own_version(),
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(Guard, access=access, max_bytes=service.limits.max_bytes),
            *(cors if access.origins else []),
        ],
        lifespan=lifespan,
    )
    # Bodies that may be read at once: what is in memory is bounded, too.
    app.state.reading = BoundedSemaphore(service.limits.queue + 1)
    _answer_errors(app)
    _add_paths(app, service)
    xanylabeling.add_paths(app, service)
    return app


def _add_paths(app: FastAPI, service: Service) -> None:
    @app.post("/v1/segment", **page.described(SEGMENT_FIELDS, "An image and labels in, COCO annotations out."))
    async def segment(request: Request, output: str = "coco") -> Response:
        exchange = Exchange(request, service)
        _known_output(output)
        fields = await exchange.fields(SEGMENT_FIELDS)
        image, file_name = fields.pop("image", b""), fields.pop("file_name", "image")
        if not image:
            raise ValueError("no image, expected a file (or its base64) in the field image")
        answer = await exchange.result(service.segment(image, service.spec(**fields), exchange.name))
        return await _response(answer, file_name, output, exchange.name)

    @app.post("/v1/relabel", **page.described(RELABEL_FIELDS, "Other labels for an image that was sent before."))
    async def relabel(request: Request, output: str = "coco") -> Response:
        exchange = Exchange(request, service)
        _known_output(output)
        fields = await exchange.fields(RELABEL_FIELDS)
        token, file_name = fields.pop("mask_token", ""), fields.pop("file_name", "image")
        answer = await exchange.result(service.relabel(token, service.spec(**fields), exchange.name))
        return await _response(answer, file_name, output, exchange.name)

    @app.get("/health", summary="Whether it is there, and who waits.")
    async def health() -> JSONResponse:
        return JSONResponse(health_of(service))

    @app.get("/docs", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.page(app.openapi()), headers=page.HEADERS)


def health_of(service: Service) -> dict[str, Any]:
    """What /health says; `status`, `models_loaded` and `timestamp` are what X-AnyLabeling's servers say."""
    line, (images, size) = service.line.state, service.cached
    return {
        "status": "healthy",
        "version": own_version(),
        "uptime_seconds": round(time.monotonic() - service.began, 1),
        "models_loaded": 1,
        "timestamp": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "queue": {
            "limit": line.limit,
            "busy": line.busy,
            "waiting": len(line.waiting),
            "done": line.done,
            "requests": [
                {"id": place.name, "position": place.position, "seconds": round(place.seconds, 1)}
                for place in line.waiting
            ],
        },
        "cache": {"images": images, "megabytes": round(size / 1e6, 1), "limit": service.limits.cache_megabytes},
    }


def _known_output(output: str) -> None:
    if output not in OUTPUTS:
        raise ValueError(f"output is {output[:60]!r}, expected one of {', '.join(OUTPUTS)}")


async def _response(answer: Answer, file_name: str, output: str, name: str) -> Response:
    media_type, encode = OUTPUTS[output]
    headers = {"X-Request-Id": name} | ({} if answer.token is None else {"X-Mask-Token": answer.token})
    return Response(await run_in_threadpool(encode, answer, file_name), media_type=media_type, headers=headers)


def _answer_errors(app: FastAPI) -> None:
    async def answer(request: Request, error: Exception) -> Response:
        return as_request_error(error).response()

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "INVALID_REQUEST")
        status = 422 if error.status_code == 400 else error.status_code
        return RequestError(status, code, f"{request.url.path[:100]}: {error.detail}").response()

    for kind in (RequestError, LineFull, LineClosed, UnknownToken, ValueError, Exception):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(HTTPException, answer_http)
