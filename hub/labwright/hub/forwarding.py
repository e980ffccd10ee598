"""Forwards requests to the target of their route, piece by piece in both directions.

Nothing is held back and nothing piles up: a piece is read when the one before has been taken. Who leaves early closes
the other side. A websocket is a tunnel of bytes once the target has agreed to it. Bodies pass as they are, compressed
or not. Each request has a connection of its own to its target, on the loopback.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http.client import responses
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httpclient import AsyncHTTPClient
from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient

from labwright.spawner import listeners

if TYPE_CHECKING:
    from configurable_http_proxy.configproxy import PythonProxy

log = logging.getLogger("labwright.proxy")

PIECE_BYTES = 1 << 16
CONNECT_SECONDS = 10.0
ANY_SIZE = 1 << 60  # how large a body may be is the target's choice
# Said to the next one on the way, not to the one at the end (RFC 9110, 7.6.1).
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
# Kept even when `Connection` names them: a body without its length would be read as the next request.
ESSENTIAL = {"content-length", "host"}
DIGITS = re.compile(r"[0-9]{1,18}")
NOT_READY = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>Labwright</title>
<p>The workbench is not ready yet, or this part of it is away. This page tries again by itself."""


class Forwarder(HTTPServerConnectionDelegate):
    """What the listener gives each request to."""

    def __init__(self, routes: PythonProxy, error_url: str) -> None:
        self.routes = routes
        self.error_url = error_url
        self.tcp = TCPClient()
        self.account: Callable[[str], int | None] = lambda prefix: None  # who must listen behind a route
        self.tasks: set[asyncio.Task[None]] = set()

    def start_request(self, server_conn: object, request_conn: HTTP1Connection) -> HTTPMessageDelegate:  # type: ignore[override]
        return Exchange(self, request_conn)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run to the end what no reader of a stream waits for."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, prefix: str, target: str) -> IOStream:
        """A connection to the target of a route; `OSError` when another account listens there than should.

        A person's server leaves its port free when it ends, and its route stays until the hub has noticed.
        """
        parts = urlsplit(target)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        secure = ssl.create_default_context() if parts.scheme == "https" else None
        stream = await self.tcp.connect(parts.hostname or "", port, ssl_options=secure, timeout=CONNECT_SECONDS)
        expected = self.account(prefix)
        if expected is not None and listeners.owner(port) != expected:
            stream.close()
            raise ConnectionRefusedError(f"port {port} is not of the account {expected}")
        stream.set_nodelay(True)
        return stream


class Exchange(HTTPMessageDelegate):
    """One request, as it arrives from the client (`down`) and goes to the target (`up`)."""

    def __init__(self, forwarder: Forwarder, down: HTTP1Connection) -> None:
        self.forwarder, self.down = forwarder, down
        self.up: HTTP1Connection | None = None
        self.request = RequestStartLine("", "/", "")
        self.prefix = ""
        self.refusal = 0  # a status that is ours, not the target's

    async def headers_received(  # type: ignore[override]
        self, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> None:
        self.request = start_line
        self.down.stream.set_nodelay(True)
        self.refusal = self.refuses(headers)
        if self.refusal:
            return
        route = self.forwarder.routes.target_for_req(None, self.path)
        if route is None:
            self.refusal = 404
            return
        self.prefix, target = route["prefix"], route["target"]
        try:
            stream = await self.forwarder.connect(self.prefix, target)
        except (OSError, TimeoutError, StreamClosedError) as error:
            log.warning("%s does not answer: %r", target, error)
            self.refusal = 503
            return
        parameters = HTTP1ConnectionParameters(no_keep_alive=True, chunk_size=PIECE_BYTES, max_body_size=ANY_SIZE)
        self.up = HTTP1Connection(stream, is_client=True, params=parameters)
        self.down.set_close_callback(self.up.close)
        await self.begin(urlsplit(target).path.rstrip("/"), headers)

    async def begin(self, target_path: str, headers: HTTPHeaders) -> None:
        """Send the head of the request, and let the answer come while the body is still on its way."""
        assert self.up is not None
        upgrade = is_upgrade(headers)
        line = RequestStartLine(self.request.method, target_path + self.request.path, "HTTP/1.1")
        answer = Answer(self, self.up, upgrade)
        try:
            await self.up.write_headers(line, self.outgoing(headers, upgrade))
        except StreamClosedError:
            self.refusal = 503
            return
        if upgrade:
            self.up.finish()
        self.forwarder.spawn(answer.relay())
        if upgrade and (stream := await answer.upgraded):  # here: only while a head is read can a stream be detached
            self.forwarder.spawn(tunnel(self.down.detach(), stream, self.used))

    def refuses(self, headers: HTTPHeaders) -> int:
        """The status for what cannot be forwarded, or 0."""
        length = headers.get("Content-Length")
        if not self.request.path.startswith("/") or (length is not None and not DIGITS.fullmatch(length)):
            return 400
        if is_upgrade(headers) and (self.request.method != "GET" or "Transfer-Encoding" in headers or int(length or 0)):
            return 400  # behind an upgrade's head come its own bytes, so it can have no body
        if "Transfer-Encoding" in headers and self.request.method not in ("POST", "PUT", "PATCH"):
            return 411  # tornado would send such a body without its length
        return 0

    @property
    def path(self) -> str:
        return self.request.path.partition("?")[0]

    def outgoing(self, headers: HTTPHeaders, upgrade: bool) -> HTTPHeaders:
        """The target's headers: those that came, and who asked at which address."""
        sent = end_to_end(headers)
        host = headers.get("Host", "")
        port = host.rpartition(":")[2]
        address = getattr(self.down.context, "remote_ip", "")
        for name, value in (("For", address), ("Port", port if port.isdigit() else "80"), ("Proto", "http")):
            before = headers.get(f"X-Forwarded-{name}")
            sent[f"X-Forwarded-{name}"] = f"{before},{value}" if before else value
        sent.setdefault("X-Forwarded-Host", host)
        sent["Connection"] = "Upgrade" if upgrade else "close"
        if upgrade:
            sent["Upgrade"] = "websocket"
        return sent

    async def data_received(self, chunk: bytes) -> None:
        if self.up is not None and not self.refusal:
            with suppress(StreamClosedError):  # the target answered without the rest, or is gone: its answer tells
                await self.up.write(chunk)

    def finish(self) -> None:
        if self.refusal:
            self.forwarder.spawn(self.show_error(self.refusal))
        elif self.up is not None and not self.up.stream.closed():
            self.up.finish()

    def on_connection_close(self) -> None:
        if self.up is not None:
            self.up.close()

    def used(self) -> None:
        """Tell the hub, when it asks, that the route was used just now."""
        if self.prefix:
            self.forwarder.routes.update_last_activity(self.prefix)

    async def show_error(self, code: int) -> None:
        """The hub's page for a status, or our own while the hub is away too."""
        if self.down.stream.closed():
            return
        headers, body = HTTPHeaders({"Content-Type": "text/html; charset=utf-8"}), NOT_READY.encode()
        url = f"{self.forwarder.error_url}/{code}?url={quote(self.path)}"
        try:
            page = await AsyncHTTPClient().fetch(url, connect_timeout=2.0, request_timeout=5.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no page
            log.info("no error page: %r", error)
        else:
            headers, body = HTTPHeaders({"Content-Type": page.headers.get("Content-Type", "text/html")}), page.body
        headers["Content-Length"] = str(len(body))
        try:
            await self.down.write_headers(ResponseStartLine("", code, responses.get(code, "Error")), headers)
            if self.request.method != "HEAD":
                await self.down.write(body)
            self.down.finish()
        except StreamClosedError:
            self.down.close()


class Answer(HTTPMessageDelegate):
    """The target's answer to one request, as it goes to the client."""

    def __init__(self, exchange: Exchange, up: HTTP1Connection, may_upgrade: bool) -> None:
        self.exchange, self.down, self.up = exchange, exchange.down, up
        self.may_upgrade = may_upgrade
        self.upgraded: asyncio.Future[IOStream | None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.complete = False

    async def relay(self) -> None:
        """Until the end of the answer, whoever ends it."""
        with suppress(StreamClosedError):  # told by `status` and `complete`
            await self.up.read_response(self)
        if self.status == 101:
            return
        self.tell(None)
        self.up.close()
        if not self.status:
            await self.exchange.show_error(503)
        elif not self.complete:
            self.down.close()  # the client sees that this was not all

    async def headers_received(  # type: ignore[override]
        self, start_line: ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        upgraded = start_line.code == 101 and self.may_upgrade
        if start_line.code < 200 and not upgraded:
            return
        self.status = start_line.code
        sent = end_to_end(headers)
        if upgraded:
            sent["Connection"], sent["Upgrade"] = "Upgrade", "websocket"
        try:
            await self.down.write_headers(start_line, sent)
        except StreamClosedError:
            self.up.close()
            return
        self.tell(self.up.detach() if upgraded else None)

    def tell(self, stream: IOStream | None) -> None:
        if not self.upgraded.done():
            self.upgraded.set_result(stream)

    async def data_received(self, chunk: bytes) -> None:
        try:
            await self.down.write(chunk)
        except StreamClosedError:
            self.up.close()

    def finish(self) -> None:
        self.complete = True
        if self.status < 300:
            self.exchange.used()
        self.down.finish()
        self.up.close()

    def on_connection_close(self) -> None:
        """`relay` sees to it."""


def is_upgrade(headers: HTTPHeaders) -> bool:
    return headers.get("Upgrade", "").lower() == "websocket"


def end_to_end(headers: HTTPHeaders) -> HTTPHeaders:
    """Without those that concern one connection."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    left_out = HOP_BY_HOP | (named - ESSENTIAL)
    kept = HTTPHeaders()
    for name, value in headers.get_all():
        if name.lower() not in left_out:
            kept.add(name, value)
    return kept


async def tunnel(one: IOStream, other: IOStream, used: Callable[[], None]) -> None:
    """Bytes both ways until one side ends, which ends the other."""

    async def carry(source: IOStream, sink: IOStream) -> None:
        while True:
            await sink.write(await source.read_bytes(PIECE_BYTES, partial=True))
            used()

    ways = [asyncio.create_task(carry(one, other)), asyncio.create_task(carry(other, one))]
    for stream in (one, other):
        stream.set_nodelay(True)
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        one.close()
        other.close()
        for ended in await asyncio.gather(*ways, return_exceptions=True):
            if not isinstance(ended, StreamClosedError):
                log.error("a tunnel broke: %r", ended)
