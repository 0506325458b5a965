"""Who may see the page: a token that is given once, in the page's address or in a form, and kept by the browser.

Browsers cannot send a token with a page. `Gate` turns its cookie into the header that `fusion.serve.guard` asks for,
and tells browsers to load nothing from anywhere else.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "emerseg_page"
# gradio runs code that it makes from text, as our own components do.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>emerseg</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{font:16px/1.5 system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;color:#1b1d22}
form{display:grid;gap:.8rem;width:min(20rem,90vw)}input,button{font:inherit;padding:.5rem .7rem}</style>
<form method="get" action="/"><strong>emerseg</strong>
<label for="token">The token that the server was begun with</label>
<input id="token" name="token" type="password" autofocus required><button>Open</button></form></html>"""


class Gate:
    """ASGI middleware, outside the guard."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app = app
        self.token = token
        # What the browser keeps does not tell the token.
        self._mark = hashlib.sha256(f"emerseg web {token}".encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there is none here
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = None if self.token is None else self._admitted(scope, self.token)
        await (self.app if answer is None else answer)(scope, receive, _with_policy(send))

    def _admitted(self, scope: Scope, token: str) -> Response | None:
        """None if the request goes on to the guard, which looks at its header; else what it is answered."""
        headers = Headers(scope=scope)
        if _same(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""), self._mark):
            MutableHeaders(scope=scope)["authorization"] = f"Bearer {token}"
            return None
        if scope["path"] != "/" or scope["method"] != "GET" or "authorization" in headers:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not _same(given, token):
            return HTMLResponse(_FORM, 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self._mark, httponly=True, samesite="strict", path="/")
        return answer


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _with_policy(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = _POLICY
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "no-referrer"
        await send(message)

    return sent
