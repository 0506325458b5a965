"""What goes wrong → a status and one line, without a traceback and without a path of the server."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.responses import JSONResponse

from fusion.serve.line import LineClosed, LineFull
from fusion.serve.service import UnknownToken

log = logging.getLogger(__name__)


class RequestError(Exception):
    """What the client is told: an HTTP status, a code for programs, and a line for people."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = " ".join(message.split())
        self.retry_after = retry_after  # s

    def response(self) -> JSONResponse:
        """The answer. Its form is that of X-AnyLabeling's protocol, for all paths alike."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        body = {"success": False, "error": {"code": self.code, "message": self.message}}
        return JSONResponse(body, self.status, headers)


def as_request_error(error: Exception) -> RequestError:
    """What a client is told of an error of the service. What is wrong with the server itself, its log says alone."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, LineFull):
        return RequestError(429, "QUEUE_FULL", str(error), error.retry_after)
    if isinstance(error, LineClosed):
        return RequestError(503, "SHUTTING_DOWN", str(error))
    if isinstance(error, UnknownToken):
        return RequestError(404, "UNKNOWN_MASK_TOKEN", str(error))
    if isinstance(error, ValueError):
        code = "INVALID_IMAGE" if str(error).startswith("image: ") else "INVALID_REQUEST"
        return RequestError(422, code, str(error))
    log.error("a request failed", exc_info=error)
    return RequestError(500, "INFERENCE_ERROR", "the server failed: its log says why")
