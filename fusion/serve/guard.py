"""Who may ask: the checks before anything of a request is read. They are ASGI, and know nothing of what is asked.

A page of another site must not use a server on this machine: not by a name of its own that leads here (DNS rebinding:
the Host says it), nor by a form or script that posts here (the Origin says it).
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusion.serve.errors import RequestError

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# They say nothing that is not public, and browsers cannot send a token for a page.
OPEN_PATHS = ("/", "/docs", "/openapi.json", "/health")


@dataclass(frozen=True)
class Access:
    """Who may ask. ValueError if others than this machine may and there is no token, or on a token that is none."""

    host: str = "127.0.0.1"  # that the server listens on
    token: str | None = None  # that requests must carry
    origins: tuple[str, ...] = ()  # of other sites whose pages may ask, such as "https://labels.example.org"
    open_paths: tuple[str, ...] = OPEN_PATHS  # that need no token

    def __post_init__(self) -> None:
        if self.token is not None and not (
            self.token.isascii() and self.token.isprintable() and self.token.split() == [self.token]
        ):
            raise ValueError("the token is empty or has signs other than ASCII letters, digits and punctuation")
        if self.token is None and not self.is_local:
            raise ValueError(f"host is {self.host!r}, which others can reach: give a token, or listen on 127.0.0.1")
        if bad := [origin for origin in self.origins if not _is_origin(origin)]:
            raise ValueError(f"origin is {bad[0]!r}, expected one such as https://labels.example.org")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check(self, path: str, method: str, headers: Headers) -> None:
        """RequestError unless a request with these headers may pass."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.is_local and _name(host) not in {*LOCAL_NAMES, self.host}:
            raise RequestError(403, "FORBIDDEN_HOST", f"Host is {host[:100]!r}, expected a name of this machine")
        is_own = origin is None or urlsplit(origin).netloc == host or origin in self.origins
        if not is_own:
            raise RequestError(403, "FORBIDDEN_ORIGIN", f"pages of {str(origin)[:100]!r} may not use this server")
        if self.token is not None and path not in self.open_paths and method != "OPTIONS" and not self._knows(headers):
            raise RequestError(401, "UNAUTHORIZED", "no or wrong token, expected a header Authorization: Bearer TOKEN")

    def _knows(self, headers: Headers) -> bool:
        """Whether the token is there, as a bearer's or in X-AnyLabeling's header; in constant time."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("token", "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self.token or "").encode())


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_origin(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.netloc) and text == f"{parts.scheme}://{parts.netloc}"


class Guard:
    """ASGI middleware: requests that may not pass, or whose body is too long, end here."""

    def __init__(self, app: ASGIApp, access: Access, max_bytes: int) -> None:
        self.app = app
        self.access = access
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self.access.check(scope["path"], scope["method"], headers)
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > self.max_bytes:
                raise self._too_large()
        except RequestError as error:
            await error.response()(scope, receive, send)
            return
        await self.app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        """`receive`, which raises once more has come than may: what a header says of the length may be wrong."""
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.max_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> RequestError:
        return RequestError(413, "TOO_LARGE", f"the request has more than {self.max_bytes / 1e6:g} MB")
