"""Websockets of a cluster's dashboard, joined to the person's browser."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import ensure_async
from tornado import httpclient, web
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketHandler, websocket_connect

from labwright.api.errors import LabwrightError
from labwright.extensions.paths import safe_path
from labwright.extensions.services import Services

CONNECT_SECONDS = 15.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class DashboardSocket(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """`{base_url}labwright/clusters/<id>/dashboard/…/ws`."""

    auth_resource = "labwright"

    def initialize(self, services: Services) -> None:
        self.services = services
        self._upstream: WebSocketClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    def set_default_headers(self) -> None:
        """A websocket has none of Jupyter's."""

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return self._upstream.selected_subprotocol if self._upstream is not None else None

    async def get(self, *args: Any, **kwargs: Any) -> None:
        if self.current_user is None:
            raise web.HTTPError(403)
        allowed = await ensure_async(self.authorizer.is_authorized(self, self.current_user, "read", self.auth_resource))
        if not allowed:
            raise web.HTTPError(403)
        self._upstream = await self.connect_upstream()
        await super().get(*args, **kwargs)

    async def connect_upstream(self) -> WebSocketClientConnection:
        below = self.request.path[len(f"{self.base_url}labwright/clusters/") :]
        cluster, _, rest = below.partition("/")
        try:
            base, prefix = self.services.upstream("clusters", safe_path(cluster))
            path = safe_path(rest.partition("/")[2])
            request = httpclient.HTTPRequest(
                f"{base}{prefix}/{path}{query(self.request)}".replace("http", "ws", 1),
                headers={"Authorization": f"Bearer {self.services.endpoints.bearer()}"},
                follow_redirects=False,
                connect_timeout=CONNECT_SECONDS,
            )
            offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
            return await asyncio.wait_for(
                websocket_connect(
                    request,
                    subprotocols=[name.strip() for name in offered.split(",") if name.strip()] or None,
                    max_message_size=MAX_MESSAGE_BYTES,
                ),
                CONNECT_SECONDS,
            )
        except LabwrightError as error:
            raise web.HTTPError(error.status) from None
        except (OSError, TimeoutError, httpclient.HTTPError, StreamClosedError):
            raise web.HTTPError(503, reason="The dashboard cannot be reached") from None

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self.set_nodelay(True)
        self._reader = asyncio.create_task(self.read_upstream())

    async def read_upstream(self) -> None:
        assert self._upstream is not None
        try:
            while (message := await self._upstream.read_message()) is not None:
                await self.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            pass
        finally:
            self.close()

    async def on_message(self, message: str | bytes) -> None:
        if self._upstream is not None:
            try:
                await self._upstream.write_message(message, binary=isinstance(message, bytes))
            except WebSocketClosedError:
                self.close()

    def on_close(self) -> None:
        super().on_close()
        if self._upstream is not None:
            self._upstream.close()


def query(request: HTTPServerRequest) -> str:
    return f"?{request.query}" if request.query else ""
