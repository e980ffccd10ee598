"""The proxy in front of a service that streams: piece by piece, in both directions, and no more than it must hold."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest
from tornado import web, websocket
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from workbench import workbench_settings

from labwright.hub.settings import Settings

MEGABYTE = 1 << 20
SECONDS = 15.0
T = TypeVar("T")


@dataclass
class Service:
    """What the handlers below tell the test, and what they wait for."""

    go_on: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    received: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    together: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(20))


class Told(web.RequestHandler):
    def initialize(self, service: Service) -> None:
        self.service = service

    def on_connection_close(self) -> None:
        self.service.gone.set()


class Events(Told):
    """Tells the next event only when the test has asked for it."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        for number in range(3):
            self.write(f"data: {number}\n\n")
            await self.flush()
            await self.service.go_on.get()


class Large(Told):
    async def get(self) -> None:
        self.set_header("Content-Length", str(256 * MEGABYTE))
        with contextlib.suppress(StreamClosedError):
            for _ in range(256):
                self.write(b"x" * MEGABYTE)
                await self.flush()
                self.service.sent += MEGABYTE


class Broken(Told):
    """Promises more than it gives."""

    async def get(self) -> None:
        if self.get_query_argument("length", ""):
            self.set_header("Content-Length", "1000")
        self.write("half")
        await self.flush()
        assert self.request.connection
        self.request.connection.stream.close()  # type: ignore[attr-defined]


@web.stream_request_body
class Upload(Told):
    async def data_received(self, chunk: bytes) -> None:
        await self.service.received.put(chunk)

    def post(self) -> None:
        self.write("taken")


class Refusing(Told):
    """Answers before it has read the body."""

    def prepare(self) -> None:
        self.set_status(413)
        self.finish("too much")

    def post(self) -> None:
        raise AssertionError


class Plain(Told):
    def get(self) -> None:
        self.service.paths.append(self.request.uri or "")
        self.service.headers.append(dict(self.request.headers))
        self.add_header("Set-Cookie", "one=1")
        self.add_header("Set-Cookie", "two=2")
        self.set_header("Content-Encoding", "gzip")
        self.finish(gzip.compress(b"hello"))

    def head(self) -> None:
        self.set_header("Content-Length", "5")


class Bodiless(Told):
    def get(self, status: str) -> None:
        self.set_status(int(status))
        if status == "304":
            self.set_header("Etag", "same")
        self.finish()


class Together(Told):
    """Answers when twenty have come."""

    async def get(self) -> None:
        await self.service.together.wait()
        self.write("all here")


class Echo(websocket.WebSocketHandler):
    def initialize(self, service: Service) -> None:
        self.service = service

    def prepare(self) -> None:
        if self.get_query_argument("token", "") != "good":
            raise web.HTTPError(403)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0] if subprotocols else None

    def on_message(self, message: str | bytes) -> None:
        if message == "bye":
            self.close(4001, "enough")
        else:
            self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        self.service.gone.set()


class ErrorPage(Told):
    def get(self, code: str) -> None:
        self.write(f"the hub's page for {code} at {self.get_query_argument('url')}")


@dataclass
class Proxied:
    """The proxy's process before a service that stands where the hub would."""

    url: str
    service: Service
    process: psutil.Process
    settings: Settings


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> object:
    settings = workbench_settings(tmp_path_factory.mktemp("proxy"), LABWRIGHT_BY_USER="0")
    settings.hub_folder.mkdir(parents=True)
    (settings.hub_folder / "proxy.token").write_text("secret")
    log = settings.home / "proxy.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "labwright.hub.proxy"],
            env={**os.environ, **settings.as_environment()},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    yield settings, process, log
    process.terminate()
    process.wait(10)
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
async def proxied(proxy: tuple[Settings, subprocess.Popen[bytes], Path]) -> AsyncIterator[Proxied]:
    settings, process, log = proxy
    service = Service()
    handlers = {
        "/events": Events,
        "/large": Large,
        "/broken": Broken,
        "/upload": Upload,
        "/refusing": Refusing,
        "/together": Together,
        "/echo": Echo,
        r"/bodiless/(\d+)": Bodiless,
        r"/hub/error/(\d+)": ErrorPage,
        "/.*": Plain,
    }
    told = {"service": service}
    application = web.Application(
        [(path, handler, told) for path, handler in handlers.items()], websocket_max_message_size=64 * MEGABYTE
    )
    server = HTTPServer(application, max_body_size=1 << 40)
    server.listen(settings.hub_port, "127.0.0.1")
    url = f"http://127.0.0.1:{settings.port}"
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", settings.port)
                    writer.close()
                    await writer.wait_closed()
                    break
                await asyncio.sleep(0.02)
        yield Proxied(url, service, psutil.Process(process.pid), settings)
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.fixture
async def client(proxied: Proxied) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxied.url, trust_env=False, timeout=SECONDS) as client:
        yield client


async def next_of(waiting: Awaitable[T]) -> T:
    async with asyncio.timeout(SECONDS):
        return await waiting


async def test_events_arrive_one_by_one(proxied: Proxied, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/events") as answer:
        pieces = answer.aiter_text()
        for number in range(3):
            assert await next_of(anext(pieces)) == f"data: {number}\n\n"
            proxied.service.go_on.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await next_of(anext(pieces))
    assert answer.headers["Content-Type"] == "text/event-stream"


async def test_who_leaves_a_stream_leaves_the_service_too(proxied: Proxied, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/events") as answer:
        await next_of(anext(answer.aiter_raw()))
    await next_of(proxied.service.gone.wait())


async def test_a_large_answer_waits_for_a_slow_reader(proxied: Proxied, client: httpx.AsyncClient) -> None:
    before = proxied.process.memory_info().rss
    size = 0
    async with client.stream("GET", "/large") as answer:
        pieces = answer.aiter_raw()
        size += len(await next_of(anext(pieces)))
        sent = -1
        while sent != proxied.service.sent:  # until the service is held up
            sent = proxied.service.sent
            await asyncio.sleep(0.3)
        assert sent < 64 * MEGABYTE
        async for piece in pieces:
            size += len(piece)
    assert size == 256 * MEGABYTE
    assert proxied.process.memory_info().rss - before < 32 * MEGABYTE


async def test_an_upload_is_passed_on_as_it_comes(proxied: Proxied, client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"piece {number}".encode()
            assert await next_of(proxied.service.received.get()) == f"piece {number}".encode()

    assert (await client.post("/upload", content=body())).text == "taken"


async def test_a_large_upload_passes(proxied: Proxied, client: httpx.AsyncClient) -> None:
    async def count() -> int:
        size = 0
        while size < 150 * MEGABYTE:
            size += len(await proxied.service.received.get())
        return size

    counting = asyncio.create_task(count())
    assert (await client.post("/upload", content=b"x" * (150 * MEGABYTE))).text == "taken"
    assert await next_of(counting) == 150 * MEGABYTE


async def test_a_service_may_refuse_before_the_upload_ends(proxied: Proxied, client: httpx.AsyncClient) -> None:
    started = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await next_of(started.wait())

    asking = asyncio.create_task(client.post("/refusing", content=body()))
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(asking)
        started.set()
        assert (await next_of(asking)).status_code == 413
    finally:
        started.set()


@pytest.mark.parametrize("query", ["", "?length=1"])
async def test_half_an_answer_is_no_answer(client: httpx.AsyncClient, query: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(f"/broken{query}")


async def test_more_than_a_few_may_wait_at_a_time(client: httpx.AsyncClient) -> None:
    answers = await next_of(asyncio.gather(*(client.get("/together") for _ in range(20))))
    assert {answer.text for answer in answers} == {"all here"}


async def test_nothing_of_a_request_or_an_answer_is_changed(proxied: Proxied, client: httpx.AsyncClient) -> None:
    path = "/a%2Fb/%C3%A4%20c?x=%2F&y=1%202"
    async with client.stream("GET", path) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert proxied.service.paths == [path]
    assert gzip.decompress(raw) == b"hello"
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers.get_list("Set-Cookie") == ["one=1", "two=2"]
    assert answer.headers.get_list("Server") == answer.headers.get_list("Server")[:1]
    (headers,) = proxied.service.headers
    assert headers["Host"] == proxied.url.removeprefix("http://")
    assert headers["X-Forwarded-Host"] == headers["Host"]
    assert (headers["X-Forwarded-For"], headers["X-Forwarded-Proto"]) == ("127.0.0.1", "http")
    assert headers["X-Forwarded-Port"] == str(proxied.settings.port)
    head = await client.head("/plain")
    assert (head.status_code, head.headers["Content-Length"]) == (200, "5")


async def test_a_connection_serves_on_after_answers_without_a_body(client: httpx.AsyncClient) -> None:
    for status in (204, 304, 302):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, f"/bodiless/{status}")
            assert answer.status_code in (status, 405)
            assert not answer.content or answer.status_code == 405
    assert (await client.get("/plain")).text == "hello"


async def test_websockets_carry_large_frames_and_the_reason_of_the_end(proxied: Proxied) -> None:
    url = proxied.url.replace("http", "ws", 1)
    large = os.urandom(24 * MEGABYTE)
    async with connect(f"{url}/echo?token=good", subprotocols=["v1.test"], max_size=None, proxy=None) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "v1.test"
        for message in ("text", "ä" * MEGABYTE, b"bytes", large):
            await socket.send(message)
            assert await next_of(socket.recv()) == message
        await socket.send("bye")
        with pytest.raises(ConnectionClosedError) as ended:
            await next_of(socket.recv())
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (4001, "enough")
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{url}/echo", proxy=None)
    assert refused.value.response.status_code == 403
    socket = await connect(f"{url}/echo?token=good", proxy=None)
    proxied.service.gone.clear()
    socket.transport.abort()
    await next_of(proxied.service.gone.wait())


async def test_a_refused_upgrade_gives_no_way_past_the_routes(proxied: Proxied) -> None:
    """What follows a refused upgrade on the same connection is a request like any other."""
    await add_route(proxied, "/elsewhere", "http://127.0.0.1:9")
    reader, writer = await asyncio.open_connection("127.0.0.1", proxied.settings.port)
    host = f"Host: 127.0.0.1:{proxied.settings.port}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    writer.write(f"GET /echo HTTP/1.1\r\n{host}{upgrade}\r\nGET /elsewhere HTTP/1.1\r\n{host}\r\n".encode())
    head = await next_of(reader.readuntil(b"\r\n\r\n"))
    assert head.startswith(b"HTTP/1.1 403")
    writer.write_eof()
    rest = await next_of(reader.read())
    assert b"HTTP/1.1 503" in rest or b"HTTP/1.1" not in rest
    writer.close()
    await writer.wait_closed()


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        *[("POST", f"Content-Length: {length}\r\n", "{}") for length in ("+2", "-2", "0x2", "2_0", "1e1", "²", "2, 5")],
        ("GET", f"{UPGRADE}Content-Length: 2\r\n", "{}"),
        ("POST", f"{UPGRADE}Content-Length: 0\r\n", ""),
        ("POST", f"{UPGRADE}Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
    ],
)
async def test_a_body_of_unclear_length_is_refused(proxied: Proxied, method: str, headers: str, body: str) -> None:
    """What two readers could read in two ways reaches no service."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxied.settings.port)
    writer.write(f"{method} /x HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n{body}".encode())
    assert (await next_of(reader.readline())).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()


async def test_a_body_keeps_its_length_whatever_its_connection_says(
    proxied: Proxied, client: httpx.AsyncClient
) -> None:
    inside = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    await client.request("GET", "/plain", headers={"Connection": "content-length, host"}, content=inside)
    (headers,) = proxied.service.headers
    assert headers["Content-Length"] == str(len(inside))
    assert headers["Host"] == f"127.0.0.1:{proxied.settings.port}"
    assert proxied.service.paths == ["/plain"]


async def test_a_service_that_is_away_has_the_hubs_page(proxied: Proxied, client: httpx.AsyncClient) -> None:
    await add_route(proxied, "/away", "http://127.0.0.1:9")
    for method in ("GET", "POST"):
        answer = await client.request(method, "/away/x?y=1")
        assert (answer.status_code, answer.text) == (503, "the hub's page for 503 at /away/x")


async def test_without_a_hub_the_page_says_so(proxy: tuple[Settings, subprocess.Popen[bytes], Path]) -> None:
    settings, _, _ = proxy
    async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
        answer = await client.get(f"http://127.0.0.1:{settings.port}/hub/login")
    assert answer.status_code == 503
    assert "not ready" in answer.text


async def test_a_body_of_no_known_length_needs_a_method_that_has_one(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    assert (await client.request("DELETE", "/x", content=body())).status_code == 411


async def test_the_routes_are_the_hubs_alone(proxied: Proxied, client: httpx.AsyncClient) -> None:
    api = f"http://127.0.0.1:{proxied.settings.proxy_api_port}/api/routes"
    for headers in ({}, {"Authorization": "token wrong"}):
        assert (await client.get(api, headers=headers)).status_code == 403
    assert (await client.get(api, headers={"Authorization": "token secret"})).status_code == 200


async def add_route(proxied: Proxied, path: str, target: str) -> None:
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "token secret"}) as hub:
        api = f"http://127.0.0.1:{proxied.settings.proxy_api_port}/api/routes{path}"
        (await hub.post(api, json={"target": target})).raise_for_status()
