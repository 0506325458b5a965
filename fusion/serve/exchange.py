"""One exchange: the body of a request → its fields, and a future of the service → its answer, in time or not at all."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import uuid4

from starlette.datastructures import UploadFile
from starlette.requests import Request

from fusion.serve.errors import RequestError, as_request_error
from fusion.serve.fields import Field, read_fields
from fusion.serve.service import Service

MAX_FIELDS = 32  # of a form
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)  # of a request, as its client may choose it

Result = TypeVar("Result")


class Exchange:
    """A request that is being answered, until the service's time-out from now on."""

    def __init__(self, request: Request, service: Service) -> None:
        """Raises LineFull and LineClosed at once, before the body is sent for nothing."""
        self.request = request
        self.service = service
        # What it is called in /health: its header X-Request-Id, or a name of ours.
        given = request.headers.get("x-request-id", "")
        self.name = given if _NAME.fullmatch(given) else uuid4().hex[:12]
        self._ends = time.monotonic() + service.limits.timeout
        service.line.check_room()

    async def fields(self, known: Mapping[str, Field]) -> dict[str, Any]:
        """The fields of a form or of a JSON object. RequestError or ValueError on another body."""
        kind = self.request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return read_fields(await self._read(self._form()), known)
        if kind == "application/json":
            return read_fields((await self.json()).items(), known)
        raise RequestError(
            415, "UNSUPPORTED_TYPE", f"Content-Type is {kind[:100]!r}, expected multipart/form-data or application/json"
        )

    async def json(self) -> dict[str, Any]:
        """The object of JSON that the body is."""
        body = await self._read(self.request.body())
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is no JSON: {error}") from None
        if not isinstance(value, dict):
            raise ValueError(f"the body is {type(value).__name__}, expected an object of JSON")
        return value

    async def result(self, future: Future[Result]) -> Result:
        """What the future brings. It is cancelled, and leaves the line if it was not begun, when time is over or the
        client has gone."""
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(self._gone())
        try:
            both: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(both, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return self._outcome(answer)
            if gone.done():
                raise RequestError(499, "CLIENT_GONE", "the client has gone")
            raise self._too_late()
        finally:
            gone.cancel()
            if not answer.done():
                answer.cancel()

    @staticmethod
    def _outcome(answer: asyncio.Future[Result]) -> Result:
        try:
            return answer.result()
        except Exception as error:
            raise as_request_error(error) from None

    async def _form(self) -> list[tuple[str, Any]]:
        fields: list[tuple[str, Any]] = []
        async with self.request.form(max_files=1, max_fields=MAX_FIELDS) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    fields.append((name, await value.read()))
                    if name == "image" and value.filename and "file_name" not in form:
                        fields.append(("file_name", value.filename))
                else:
                    fields.append((name, value))
        return fields

    async def _gone(self) -> None:
        """Returns when the client has closed its connection."""
        while (await self.request.receive())["type"] != "http.disconnect":
            pass

    async def _read(self, body: Coroutine[Any, Any, Result]) -> Result:
        """What is read of the body, in time. LineFull if as many bodies are being read as may be."""
        reading = self.request.app.state.reading
        if not reading.acquire(blocking=False):
            body.close()
            raise self.service.line.full()
        try:
            return await asyncio.wait_for(body, self._left())
        except asyncio.TimeoutError:
            raise self._too_late() from None
        finally:
            reading.release()

    def _left(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    def _too_late(self) -> RequestError:
        return RequestError(504, "TIMEOUT", f"no answer within {self.service.limits.timeout:g} s")
