"""The web server: the page, `/api/v1/nodes` and `/healthz`."""

import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
import uvicorn
from fastapi import FastAPI, Response
from nicegui import ui

from broker.contract.errors import SettingsError, StoreError
from dashboard.console.guard import Guard
from dashboard.console.looks import FAVICON
from dashboard.console.page import show
from dashboard.console.readings import Node, NoStoreYetError, Reader, presence
from dashboard.console.watch import Watch, now_us

__all__ = ["listen", "serve"]

_GRACE_S: Final = 1
"""Open pages hold a WebSocket; they are cut off after this long."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0: any free one.

    Raises:
        SettingsError: the address is not this machine's, or somebody listens there already.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        msg = f"host {host!r}: {error.strerror}"
        raise SettingsError(msg) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        msg = f"cannot listen on {host} port {port}: {error.strerror}; --port 0 takes any free port"
        raise SettingsError(msg) from error
    return listener


def serve(reader: Reader, listener: socket.socket, names: frozenset[str], ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        reader: the store.
        listener: where to.
        names: by which it may be asked, beside loopback names.
        ready: called when pages are answered.
    """
    watch = Watch(reader)
    api = FastAPI(title="Sottovoce console", docs_url=None, redoc_url=None, openapi_url=None)
    _add_routes(api, watch)

    async def page() -> None:
        await show(watch)

    ui.page("/", title="Sottovoce", favicon=FAVICON, language="en-US")(page)
    ui.run_with(api, dark=None, tailwind=False, show_welcome_message=False, binding_refresh_interval=None)
    config = uvicorn.Config(
        Guard(api, names),
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        server_header=False,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _Server(config, ready).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that tells when it has started."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _add_routes(api: FastAPI, watch: Watch) -> None:
    @api.get("/api/v1/nodes")
    async def nodes() -> Response:
        """Return the current state of all nodes."""
        try:
            live = await watch.live.get()
        except NoStoreYetError:
            return _json({"time_us": now_us(), "nodes": []})
        except StoreError as error:
            return _json({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
        now = now_us()
        return _json({"time_us": now, "nodes": [_described(node, now) for node in live.nodes]})

    @api.get("/healthz")
    async def health() -> Response:
        """Return 200 while the console can do its work; a store that is not there yet is no fault."""
        try:
            await watch.live.get()
        except NoStoreYetError as error:
            return _json({"status": "ok", "store": "missing", "reason": str(error)})
        except StoreError as error:
            return _json(
                {"status": "failing", "store": "unreadable", "reason": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE
            )
        return _json({"status": "ok", "store": "connected"})


def _described(node: Node, now: int) -> dict[str, Any]:
    return {
        "site": node.id.site,
        "node": node.id.node,
        "presence": presence(node, now),
        "heard_us": node.heard_us,
        "status": node.status,
        "emotion": None
        if node.emotion is None
        else {
            name: getattr(node.emotion, name)
            for name in ("boot_id", "seq", "time_us", "label", "confidence", "model", "total_us")
        }
        | {"age_us": node.emotion.age_us(now), "current": node.emotion.is_current(now)},
        "health": node.health,
        "update": node.update,
    }


def _json(body: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json", headers=headers)
