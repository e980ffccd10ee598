"""The dashboards of clusters, for their owners: HTTP and websockets, passed on to a port of loopback.

A request with a bearer token (the Lab server extension adds it) is passed on. A browser that comes without one is sent
to its own server, whose extension asks here with the person's token; so no cookie of ours is needed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import websockets
from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from labwright.api import names
from labwright.api.errors import Forbidden, LabwrightError, Unavailable
from labwright.hub.callers import Caller, bearer_token
from labwright.hub.clusters.engine import ClusterRow, Engine
from labwright.hub.clusters.service import ClusterService
from labwright.hub.core.context import Core

HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
    "upgrade", "host", "content-length", "content-encoding",
}  # fmt: skip
# What names the caller or his session stays here; the cluster is a process that runs anybody's code.
PRIVATE = {"authorization", "cookie", "x-xsrftoken", "x-forwarded-context", "x-labwright-dashboard"}
CONTEXT = re.compile(r"/[A-Za-z0-9._~%@/-]*")
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]


class Dashboards:
    def __init__(self, core: Core, service: ClusterService, engines: dict[str, Engine]) -> None:
        self._core = core
        self._service = service
        self._engines = engines
        self.router = APIRouter()
        self.router.add_api_route(
            "/clusters/{id}/dashboard/{path:path}", self.page, methods=METHODS, include_in_schema=False
        )
        self.router.add_api_websocket_route("/clusters/{id}/dashboard/{path:path}", self.socket)

    async def page(self, request: Request, id: str, path: str) -> Response:
        if "authorization" not in request.headers and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(f"/hub/user-redirect/labwright/clusters/{quote(id)}/dashboard/{quote(path)}")
        cluster = await self._cluster(id, bearer_token(request))
        engine = self._engines[cluster.engine]
        context = context_of(request.headers.get("x-forwarded-context"), id)
        if not path:
            return RedirectResponse(f"{context}/{engine.dashboard_page()}")
        headers = passed_on(request.headers.items()) | engine.dashboard_headers(cluster)
        headers["X-Forwarded-Context"] = context
        ask = self._core.http.build_request(
            request.method,
            f"{cluster.dashboard}/{quote(path)}",
            params=request.query_params,
            headers=headers,
            content=request.stream() if request.method in ("POST", "PUT") else None,
            timeout=30.0,
        )
        try:
            answer = await self._core.http.send(ask, stream=True, follow_redirects=False)
        except httpx.TransportError:
            raise Unavailable("The cluster's dashboard") from None
        back = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        if "location" in back:
            back["location"] = relocated(back["location"], str(cluster.dashboard), context)
        return StreamingResponse(
            answer.aiter_bytes(), answer.status_code, back, background=BackgroundTask(answer.aclose)
        )

    async def _cluster(self, id: str, token: str) -> ClusterRow:
        caller = await self._core.resolver.resolve(token)
        check(caller)
        cluster = await run_in_threadpool(self._service.get, id, caller)
        if cluster.state != "running" or not cluster.dashboard:
            raise Unavailable("The cluster's dashboard", remedy=f"The cluster is {cluster.state}.")
        return cluster

    async def socket(self, websocket: WebSocket, id: str, path: str) -> None:
        scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
        try:
            cluster = await self._cluster(id, token.strip() if scheme.lower() in ("bearer", "token") else "")
        except LabwrightError:
            await websocket.close(4403)
            return
        url = f"ws://{urlsplit(str(cluster.dashboard)).netloc}/{quote(path)}"
        if websocket.url.query:
            url += f"?{websocket.url.query}"
        protocols: list[Any] = list(websocket.scope.get("subprotocols") or [])
        headers = self._engines[cluster.engine].dashboard_headers(cluster)
        try:
            async with websockets.connect(
                url,
                additional_headers=headers,
                subprotocols=protocols or None,
                # Bokeh checks that the page and its socket share an origin; both are the dashboard's own here.
                origin=websockets.Origin(str(cluster.dashboard)),
                max_size=64 << 20,
                open_timeout=10,
                proxy=None,
            ) as far:
                await websocket.accept(subprotocol=far.subprotocol)
                await pump(websocket, far)
        except (OSError, TimeoutError, websockets.WebSocketException):
            await websocket.close(1014)


async def pump(near: WebSocket, far: websockets.ClientConnection) -> None:
    """Pass messages both ways until one side ends."""

    async def outward() -> None:
        while True:
            message = await near.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            await far.send(text if text is not None else message["bytes"])

    async def inward() -> None:
        async for message in far:
            await (near.send_text(message) if isinstance(message, str) else near.send_bytes(message))

    tasks = [asyncio.create_task(outward()), asyncio.create_task(inward())]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    closed = (asyncio.CancelledError, WebSocketDisconnect, websockets.ConnectionClosed)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, closed):
            raise result


def check(caller: Caller) -> None:
    if names.SCOPE_CLUSTERS not in caller.scopes:
        raise Forbidden(f"This needs the right '{names.SCOPE_CLUSTERS}'.", remedy="Ask your admin for it.")


def passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in HOP_BY_HOP | PRIVATE}


def context_of(header: str | None, id: str) -> str:
    """The path under which the browser sees the dashboard: what the forwarder says, or our own."""
    if header and CONTEXT.fullmatch(header) and "//" not in header:
        return header.rstrip("/")
    return f"{names.CORE_PREFIX}/clusters/{id}/dashboard"


def relocated(location: str, dashboard: str, context: str) -> str:
    """A redirect of the dashboard, as the browser must follow it."""
    path = location.removeprefix(dashboard)
    if path.startswith("/") and not path.startswith((f"{context}/", "//")):
        return context + path
    return path
