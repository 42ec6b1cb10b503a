"""Who may ask: the console has no password, so it answers only what was meant for it.

A page of somebody else's, open in the same browser, can send requests to loopback: by a name that it lets resolve
to 127.0.0.1 (DNS rebinding), or by a WebSocket, which no same-origin rule stops. Neither gets an answer here.
"""

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["Guard", "is_loopback"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY: Final = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
"""Nothing from elsewhere. NiceGUI starts from inline scripts and compiles templates in the browser."""
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def is_loopback(host: str) -> bool:
    """Return whether a host, by name or address, is this machine itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """An ASGI application in front of the console's."""

    def __init__(self, app: App, names: frozenset[str]) -> None:
        """Guard `app`, which answers when it is asked by a loopback name or by one of `names`."""
        self.app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to what is not meant for the console, and add headers to the rest."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if not self._is_meant_for_us(dict(scope["headers"])):
            await _refuse(scope, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _is_meant_for_us(self, headers: dict[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        try:
            asked = urlsplit(f"//{host}").hostname or ""
            if not is_loopback(asked) and asked not in self._names:
                return False
            return not origin or urlsplit(origin).netloc == host
        except ValueError:  # neither a host nor an origin
            return False


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"This console is not served under that name.\n"})
