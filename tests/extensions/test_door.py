"""The server extension's door: a real Jupyter server before a real service that tells what it was asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory
from jupyter_server.serverapp import ServerApp
from tornado import httpserver, httputil, netutil, web, websocket
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from labwright.extensions.kernels import NotebookSessionManager, PromptConnection, below_home
from labwright.extensions.paths import moved, safe_path
from labwright.kernels.client import shared, shared_server
from labwright.kernels.provisioner import ForkServerProvisioner

TOKEN = "the-persons-token"
LOGIN = "lab-login"
DEADLINE = 60


@dataclass
class Backend:
    """Core and data at once: remembers each request, answers by path."""

    url: str = ""
    asked: list[httputil.HTTPServerRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


class Echo(web.RequestHandler):
    def initialize(self, backend: Backend) -> None:
        self.backend = backend

    def check_xsrf_cookie(self) -> None:
        """A service has no forms."""

    async def answer(self, path: str) -> None:
        self.backend.asked.append(self.request)
        self.backend.bodies.append(self.request.body)
        if path.endswith("/redirect"):
            self.set_status(302)
            self.set_header("Location", self.get_argument("to"))
        elif path.endswith("/events"):
            await self.stream()
        elif path.endswith("/refused"):
            self.set_status(409)
            self.set_header("Content-Type", "application/problem+json")
            self.finish(json.dumps({"code": "quota-exceeded", "detail": "Full."}))
        else:
            self.set_cookie("service", "secret")
            self.set_header("Access-Control-Allow-Origin", "*")
            self.finish({"path": self.request.path, "query": self.request.query})

    get = post = patch = delete = answer

    async def stream(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.write("id: 1\ndata: {}\n\n")
        await self.flush()
        await self.backend.release.wait()
        self.write("id: 2\ndata: {}\n\n")

    def on_connection_close(self) -> None:
        self.backend.left.set()
        self.backend.release.set()


class Socket(websocket.WebSocketHandler):
    def initialize(self, backend: Backend) -> None:
        self.backend = backend

    def open(self, *_: str) -> None:
        self.backend.asked.append(self.request)

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


@asynccontextmanager
async def serve_backend() -> AsyncIterator[Backend]:
    backend = Backend()
    own = {"backend": backend}
    app = web.Application([(r"(/.*/dashboard/.*ws)", Socket, own), (r"(/.*)", Echo, own)])
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    server = httpserver.HTTPServer(app)
    server.add_sockets(sockets)
    backend.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    try:
        yield backend
    finally:
        backend.release.set()
        server.stop()
        await server.close_all_connections()


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with serve_backend() as made:
        yield made


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_NO_CONFIG", "1")  # this extension alone
    monkeypatch.delenv("LABWRIGHT_TOKEN_FILE", raising=False)
    monkeypatch.setenv("LABWRIGHT_TOKEN", TOKEN)


@dataclass
class Server:
    app: ServerApp
    url: str

    def client(self, **headers: str) -> httpx.AsyncClient:
        """A caller that has logged in with Jupyter's token, as a program does."""
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"token {LOGIN}", **headers}, trust_env=False
        )

    async def browser(self) -> httpx.AsyncClient:
        """A caller with Jupyter's cookies, as a page has."""
        client = httpx.AsyncClient(base_url=self.url, trust_env=False)
        await client.get("/api/status", params={"token": LOGIN})
        return client


@pytest.fixture
async def server(backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Server]:
    monkeypatch.setenv("LABWRIGHT_CORE_URL", f"{backend.url}/services/core")
    monkeypatch.setenv("LABWRIGHT_DATA_URL", f"{backend.url}/services/data")
    KernelProvisionerFactory.clear_instance()  # the process has one, and keeps its configuration
    app = ServerApp(
        ip="127.0.0.1",
        port=0,
        open_browser=False,
        allow_root=True,
        base_url="/user/alice/",
        root_dir=str(tmp_path),
        jpserver_extensions={"labwright.extensions": True},
    )
    app.config.IdentityProvider.token = LOGIN
    app.config.ServerApp.jpserver_extensions = {"labwright.extensions": True}
    app.initialize(argv=[], new_httpserver=False)
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    http = httpserver.HTTPServer(app.web_app)
    http.add_sockets(sockets)
    try:
        yield Server(app, f"http://127.0.0.1:{sockets[0].getsockname()[1]}/user/alice")
    finally:
        http.stop()
        await http.close_all_connections()
        await app._cleanup()
        # Left to the garbage collector it warns or not, by the order in which that takes it and its manager.
        app.kernel_manager.context.destroy(linger=0)
        app.clear_instance()
        KernelProvisionerFactory.clear_instance()
        for _ in range(3):  # transports close in the loop's next rounds
            await asyncio.sleep(0)


async def test_each_part_reaches_its_service_with_the_persons_token(server: Server, backend: Backend) -> None:
    async with server.client() as client:
        for ours, theirs in [
            ("core/jobs", "/services/core/api/v1/jobs"),
            ("data/connections", "/services/data/api/v1/connections"),
            ("mlflow/api/2.0/mlflow/x", "/services/core/mlflow/api/2.0/mlflow/x"),
            ("clusters/c1/dashboard/status", "/services/core/clusters/c1/dashboard/status"),
        ]:
            answer = await client.get(f"/labwright/{ours}", params={"after": "1 2"})
            assert answer.status_code == 200
            assert answer.json() == {"path": theirs, "query": "after=1+2"}
            assert backend.asked[-1].headers["Authorization"] == f"Bearer {TOKEN}"


async def test_cookies_neither_leave_nor_come_back(server: Server, backend: Backend) -> None:
    async with aclosing(await server.browser()) as client:
        answer = await client.get("/labwright/core/me", headers={"Referer": server.url, "X-Forwarded-User": "root"})
    assert answer.status_code == 200
    assert not {"Cookie", "Referer", "X-Forwarded-User"} & set(backend.asked[-1].headers)
    assert "service" not in answer.headers.get("Set-Cookie", "")
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_without_a_login_nothing_is_forwarded(server: Server, backend: Backend) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as stranger:
        for path in ("core/me", "data/connections", "mlflow/", "clusters/c/dashboard/", "status", "examples"):
            assert (await stranger.get(f"/labwright/{path}")).status_code == 403
            assert (await stranger.post(f"/labwright/{path}", json={})).status_code == 403
        # The connection is closed with the body unread, so the answer says so: nobody asks again on it.
        for _ in range(20):
            assert (await stranger.get("/labwright/core/jobs")).headers["Connection"] == "close"
    assert backend.asked == []


async def test_the_examples_are_there_and_nothing_beside_them(server: Server) -> None:
    async with server.client() as client:
        names = (await client.get("/labwright/examples")).json()["items"]
        assert {"welcome.ipynb", "late_flights.ipynb"} <= set(names)
        for name in names:
            assert (await client.get(f"/labwright/examples/{name}")).json()["nbformat"] == 4
        for name in ("no.ipynb", "..%2F..%2Fjupyter%2Flab%2Fsettings%2Foverrides.json", "%2e%2e"):
            assert (await client.get(f"/labwright/examples/{name}")).status_code == 404


async def test_a_page_without_the_xsrf_token_changes_nothing(server: Server, backend: Backend) -> None:
    async with aclosing(await server.browser()) as client:
        refused = await client.post("/labwright/core/jobs", json={"name": "x"})
        assert refused.status_code == 403
        assert refused.headers["Content-Type"].startswith("application/problem+json")
        assert backend.asked == []
        await client.get("/labwright/mlflow/")
        token = next(cookie.value or "" for cookie in client.cookies.jar if cookie.name.endswith("X-XSRFToken"))
        accepted = await client.post("/labwright/core/jobs", json={"name": "x"}, headers={"X-XSRFToken": token})
        assert accepted.status_code == 200
    assert backend.bodies[-1] == b'{"name":"x"}'


async def test_another_site_reads_nothing(server: Server, backend: Backend) -> None:
    async with server.client(**{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}) as client:
        assert (await client.get("/labwright/core/me")).status_code == 403
    assert backend.asked == []


async def test_a_large_body_passes_whole(server: Server, backend: Backend) -> None:
    body = bytes(range(256)) * 4096 * 8  # 8 MiB
    async with server.client() as client:
        assert (await client.post("/labwright/core/jobs", content=body, timeout=30)).status_code == 200
    assert backend.bodies[-1] == body


async def test_events_arrive_before_the_stream_ends(server: Server, backend: Backend) -> None:
    async with server.client() as client, client.stream("GET", "/labwright/core/events") as answer:
        lines = answer.aiter_lines()
        assert await asyncio.wait_for(anext(lines), DEADLINE) == "id: 1"
        backend.release.set()
        rest = [line async for line in lines]
        assert "id: 2" in rest


async def test_a_browser_that_leaves_frees_the_service(server: Server, backend: Backend) -> None:
    async with server.client() as client, client.stream("GET", "/labwright/core/events") as answer:
        await anext(answer.aiter_lines())
    await asyncio.wait_for(backend.left.wait(), DEADLINE)


async def test_a_problem_of_the_service_comes_through(server: Server) -> None:
    async with server.client() as client:
        answer = await client.post("/labwright/core/refused", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "quota-exceeded")


@pytest.mark.parametrize(
    "path", ["core/../../secret", "core/..%2f..%2fsecret", "core/%2e%2e/x", "data/a/%252e%252e/x", "core/a%00b"]
)
async def test_a_path_that_climbs_is_refused(server: Server, backend: Backend, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(httpx.URL(server.url).port or 0))
    request = f"GET /user/alice/labwright/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: token {LOGIN}\r\n"
    writer.write(f"{request}Connection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), DEADLINE)
    writer.close()
    await writer.wait_closed()
    assert b" 422 " in answer.split(b"\r\n", 1)[0]
    assert backend.asked == []


async def test_a_redirect_is_passed_on_within_the_service_and_refused_elsewhere(server: Server) -> None:
    async with server.client() as client:
        inside = await client.get("/labwright/mlflow/redirect", params={"to": "/services/core/mlflow/x/"})
        assert (inside.status_code, inside.headers["Location"]) == (302, "/user/alice/labwright/mlflow/x/")
        outside = await client.get("/labwright/mlflow/redirect", params={"to": "https://evil.example/"})
        assert outside.status_code == 503
        assert "Location" not in outside.headers


async def test_a_service_that_is_down_is_a_503_that_says_which(
    server: Server, backend: Backend, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_DATA_URL", f"http://127.0.0.1:{unused_tcp_port}/services/data")
    async with server.client() as client:
        answer = await client.get("/labwright/data/connections")
        status = await client.get("/labwright/status")
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
    assert "data service" in answer.json()["detail"]
    assert status.status_code == 200


async def test_status_tells_memory_of_this_server(server: Server) -> None:
    async with server.client() as client:
        status = (await client.get("/labwright/status")).json()
    assert status["memory_used_bytes"] > 1_000_000


async def test_a_dashboard_is_told_the_path_that_the_browser_sees(server: Server, backend: Backend) -> None:
    async with server.client() as client:
        await client.get("/labwright/clusters/c1/dashboard/static/webui.css", headers={"X-Forwarded-Context": "/evil"})
    assert backend.asked[-1].headers["X-Forwarded-Context"] == "/user/alice/labwright/clusters/c1/dashboard"


async def test_the_dashboards_websocket_is_joined(server: Server, backend: Backend) -> None:
    url = server.url.replace("http", "ws") + "/labwright/clusters/c1/dashboard/status/ws?a=1"
    socket = await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {LOGIN}", "Cookie": "a=b"}))
    await socket.write_message("hello")
    assert await asyncio.wait_for(socket.read_message(), DEADLINE) == "hello"
    await socket.write_message(b"\x00\x01", binary=True)
    assert await asyncio.wait_for(socket.read_message(), DEADLINE) == b"\x00\x01"
    socket.close()
    asked = backend.asked[-1]
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
    assert "Cookie" not in asked.headers
    assert asked.path == "/services/core/clusters/c1/dashboard/status/ws"


async def test_open_panels_are_no_activity(server: Server) -> None:
    before = server.app.web_app.last_activity()
    async with server.client() as client:
        await client.get("/labwright/core/me")
        await client.get("/labwright/status")
    assert server.app.web_app.last_activity() == before


def test_kernels_get_prompt_websockets_and_know_their_notebook(server: Server) -> None:
    assert server.app.web_app.settings["kernel_websocket_connection_class"] is PromptConnection
    manager = server.app.session_manager
    assert isinstance(manager, NotebookSessionManager)
    assert manager.get_kernel_env("work/late.ipynb")["LABWRIGHT_NOTEBOOK"] == "work/late.ipynb"
    assert "LABWRIGHT_NOTEBOOK" not in manager.get_kernel_env("console-1")


async def test_python_is_a_fork_and_its_death_is_told_with_the_reason(server: Server) -> None:
    async with server.client() as client:
        made = await client.post("/api/kernels", json={"name": "python3"}, timeout=DEADLINE)
        kernel = made.json()["id"]
        provisioner = server.app.kernel_manager.get_kernel(kernel).provisioner
        assert isinstance(provisioner, ForkServerProvisioner)
        assert provisioner.handle is not None
        assert await death(client, kernel) is None
        os.kill(provisioner.pid, signal.SIGSEGV)
        reason = await until(lambda: death(client, kernel))
        assert "SIGSEGV" in reason
        assert (await client.get("/labwright/kernels/none/death")).status_code == 404

        async def restarted() -> bool:
            return server.app.kernel_manager.get_kernel(kernel).ready.done()

        await until(restarted)  # Jupyter cannot delete a kernel in the middle of it
        await client.delete(f"/api/kernels/{kernel}", timeout=DEADLINE)
    shared_server().stop()
    shared.clear()


async def death(client: httpx.AsyncClient, kernel: str) -> str | None:
    reason: str | None = (await client.get(f"/labwright/kernels/{kernel}/death")).json()["reason"]
    return reason


async def until(check: Callable[[], Awaitable[Any]]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (answer := await check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.05)
    return answer


def test_a_notebook_outside_the_home_keeps_its_path_below_the_root() -> None:
    assert below_home(Path.home() / "a" / "b.ipynb", "b.ipynb") == "a/b.ipynb"
    assert below_home(Path("/srv/shared/b.ipynb"), "b.ipynb") == "b.ipynb"


def test_paths_keep_their_coding() -> None:
    assert safe_path("connections/ware%20house/tables") == "connections/ware%20house/tables"
    assert moved("http://h:1/services/core/x", "http://h:1/services/core", "/services/core", "/o") == "/o/x"
    assert moved("/o/x", "http://h:1/services/core", "/services/core", "/o") == "/o/x"
    assert moved("/o/../x", "http://h:1/services/core", "/services/core", "/o") is None
    assert moved("//evil.example/x", "http://h:1/services/core", "/services/core", "/o") is None


async def test_lab_hears_of_export_formats_and_of_no_build(server: Server) -> None:
    from nbconvert.exporters import get_export_names, get_exporter

    async with server.client() as client:
        answers = await asyncio.gather(*(client.get("/api/nbconvert", timeout=DEADLINE) for _ in range(3)))
    wanted = {name: {"output_mimetype": get_exporter(name).output_mimetype} for name in get_export_names()}
    assert [answer.json() for answer in answers] == [wanted] * 3
    assert "html" in wanted
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as stranger:
        assert (await stranger.get("/api/nbconvert")).status_code == 403
    page = server.app.web_app.settings["page_config_data"]
    assert (page["buildCheck"], page["buildAvailable"]) == (False, False)
