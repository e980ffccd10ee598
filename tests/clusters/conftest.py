"""Core with the clusters alone, a real Dask gateway, and a launcher that starts plain subprocesses."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import sqlalchemy as sa
import uvicorn

from labwright.api import names
from labwright.api.errors import NotAuthenticated, QuotaExceeded
from labwright.api.usage import Reservation, ReservationRequest
from labwright.hub import dask_gateway
from labwright.hub.callers import Caller
from labwright.hub.core.app import build_core, create_app
from labwright.hub.core.context import Core
from labwright.hub.dask_gateway import Gateway
from labwright.hub.settings import Settings
from labwright.hub.tokens import InvalidToken, Verifier, looks_signed
from labwright.kernels.sessions import end_group_but_trackers
from labwright.spawner.launcher import Launched, Limits, Principal, Status
from labwright.spawner.profiles import Idle, Profile, Workbench


@dataclass
class SubprocessLauncher:
    """The `Launcher` protocol over plain subprocesses of this user, each leading a session of its own."""

    homes: Path
    started: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    limits: dict[str, Limits] = field(default_factory=dict)  # by name, the last

    async def prepare(self, principal: Principal) -> Path:
        home = self.homes / principal.name
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return home

    async def launch(
        self,
        principal: Principal,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        limits: Limits,
        cwd: Path | None = None,
        name: str,
        log: Path | None = None,
    ) -> Launched:
        home = await self.prepare(principal)
        full = {"HOME": str(home), "PATH": os.environ["PATH"], "USER": principal.name, **env}
        output: Any = asyncio.subprocess.DEVNULL
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            output = log.open("ab")
        process = await asyncio.create_subprocess_exec(
            *argv, env=full, cwd=cwd or home, stdout=output, stderr=output, start_new_session=True
        )
        if log is not None:
            output.close()
        id = f"{process.pid}-{len(self.started)}"
        self.started[id] = process
        self.names.append(name)
        self.limits[name] = limits
        return Launched(id, process.pid, "none")

    async def status(self, id: str) -> Status:
        process = self.started[id]
        if process.returncode is not None:
            return Status(running=False, exit_code=process.returncode)
        try:
            return Status(running=True, memory_bytes=psutil.Process(process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return Status(running=False)

    async def signal(self, id: str, number: int) -> None:
        try:
            os.killpg(self.started[id].pid, number)
        except ProcessLookupError:
            return

    async def stop(self, id: str, *, grace_seconds: float = 10.0) -> Status:
        await self.signal(id, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.started[id].wait(), grace_seconds)
        end_group_but_trackers(self.started[id].pid)
        await self.started[id].wait()
        return await self.status(id)

    def alive(self) -> list[int]:
        return [process.pid for process in self.started.values() if process.returncode is None]


@dataclass
class CountingLedger:
    """The `Ledger` protocol in memory, with one limit: so many CPUs in all."""

    cpu_limit: float = 16.0
    held: dict[str, ReservationRequest] = field(default_factory=dict)

    def reserve(self, connection: sa.Connection, request: ReservationRequest, *, now: datetime) -> Reservation:
        used = sum(one.ask.cpu for key, one in self.held.items() if key != request.key)
        if used + request.ask.cpu > self.cpu_limit:
            raise QuotaExceeded("cpu", request.ask.cpu, self.cpu_limit - used, f"user:{request.user}")
        self.held[request.key] = request
        return self._reservation(request, now)

    def renew(self, connection: sa.Connection, key: str, *, ttl_seconds: int, now: datetime) -> None:
        assert key in self.held

    def release(self, connection: sa.Connection, key: str, *, now: datetime) -> Reservation | None:
        request = self.held.pop(key, None)
        return self._reservation(request, now) if request else None

    def cost(self, connection: sa.Connection, key: str, *, now: datetime) -> float:
        return 0.0

    def _reservation(self, request: ReservationRequest, now: datetime) -> Reservation:
        return Reservation(
            id=request.key, user=request.user, account=f"user:{request.user}", kind=request.kind, key=request.key,
            ask=request.ask, profile=request.profile, created=now, expires=now, cost=0.0,
        )  # fmt: skip


class StaticResolver:
    """Tokens known beforehand as the hub's, and core's signed ones."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier
        self.people = {"alice-token": "alice", "bob-token": "bob"}
        self.revoked: set[str] = set()

    async def resolve(self, token: str) -> Caller:
        if looks_signed(token):
            try:
                claims = self.verifier.verify(token)
            except InvalidToken:
                raise NotAuthenticated from None
            return Caller(claims.user, claims.kind, frozenset(), frozenset(claims.scopes), token=token)
        if token not in self.people or token in self.revoked:
            raise NotAuthenticated
        return Caller(self.people[token], "user", frozenset(), frozenset(names.USER_SCOPES), token=token)


@dataclass
class Clock:
    offset: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass
class World:
    """A running core and gateway, and a person's way to it."""

    settings: Settings
    launcher: SubprocessLauncher
    ledger: CountingLedger
    clock: Clock
    http: httpx.AsyncClient
    core: Core
    gateway: Gateway
    resolver: StaticResolver
    stack: AsyncExitStack
    core_stack: AsyncExitStack
    failures: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, token: str = "alice-token", **options: Any) -> httpx.Response:
        url = f"{self.settings.core_url}{names.API}{path}"
        return await self.http.request(method, url, headers={"Authorization": f"Bearer {token}"}, **options)

    async def start(self, **ask: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/clusters", json=ask)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def cluster(self, id: str) -> dict[str, Any]:
        return dict((await self.call("GET", f"/clusters/{id}")).json())

    async def until_state(self, id: str, state: str, workers: int = 0, seconds: float = 180) -> dict[str, Any]:
        async def reached() -> dict[str, Any] | None:
            found = await self.cluster(id)
            assert found["state"] != "failed" or state == "failed", found["reason"]
            return found if found["state"] == state and found["workers"] >= workers else None

        found = await until(reached, seconds)
        assert found is not None
        return found

    def user_python_fails(self, saying: str) -> None:
        """From now on whatever is started in the people's environment says this and ends with code 3."""
        self.settings.python("user").write_text(f"#!/bin/sh\necho '{saying}' >&2\nexit 3\n")

    async def logs_named_in(self, reason: str, owner: str = "alice") -> str:
        """What the person reads who does as the reason says, once nothing else is left of the cluster."""
        pattern = reason.partition("tail ~/")[2]
        home = self.settings.homes / owner

        async def cleaned() -> bool:
            return not any((home / ".local/share/labwright/clusters").iterdir())

        await until(cleaned)
        return "".join(file.read_text() for file in home.glob(pattern))

    async def restart_core(self) -> None:
        await self.core_stack.aclose()
        self.core = await start_core(self)


async def until(ask: Callable[[], Awaitable[Any]], seconds: float = 120) -> Any:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        if found := await ask():
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)


def free_base_port() -> int:
    """Eight ports in a row that nobody listens on."""
    for base in range(24000, 24990, 10):
        try:
            for port in range(base, base + 8):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


async def start_core(world: World) -> Core:
    workbench = Workbench(
        profiles=(
            Profile("small", "Small", 1, 1 << 30, "user", 0.05),
            Profile("big", "Big", 4, 8 << 30, "user", 1.0),
            Profile("gpus", "Two GPUs", 1, 1 << 30, "user", 4.0, gpu={"nvidia.com/gpu": 2}),
        ),
        idle=Idle(cluster_seconds=1800),
    )
    core = build_core(
        world.settings, ledger=world.ledger, launcher=world.launcher, workbench=lambda: workbench, now=world.clock
    )
    object.__setattr__(core, "resolver", world.resolver)
    config = uvicorn.Config(
        create_app(core, ("clusters",)),
        host="127.0.0.1",
        port=world.settings.core_port,
        log_config=None,
        ws="websockets-sansio",
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve())

    async def stop() -> None:
        server.should_exit = True
        await task

    world.core_stack.push_async_callback(stop)

    async def ready() -> bool:
        assert not task.done(), task.exception()
        return server.started

    await until(ready)
    return core


def make_settings(home: Path) -> Settings:
    environments = home / "environments"
    for name in ("user", "hub"):
        (environments / name / "bin").mkdir(parents=True, exist_ok=True)
        python = environments / name / "bin" / "python"
        if not python.exists():
            # Not a link: a virtual environment is found by the path of its interpreter.
            python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            python.chmod(0o755)
    return Settings(
        home=home,
        workbench_file=home / "workbench.yaml",
        port=free_base_port(),
        environments=environments,
        by_user=False,
        core_database_url=f"sqlite:///{home}/core/core.sqlite",
        data_database_url=f"sqlite:///{home}/data/data.sqlite",
    )


@asynccontextmanager
async def running_world(home: Path) -> AsyncIterator[World]:
    settings = make_settings(home)
    launcher = SubprocessLauncher(settings.homes)
    resolver = StaticResolver(Verifier(settings.public_key_file))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=120.0, verify=False))
        world = World(
            settings, launcher, CountingLedger(), Clock(), http, None, None, resolver, stack, AsyncExitStack()  # type: ignore[arg-type]
        )  # fmt: skip
        try:
            world.core = await start_core(world)
            world.gateway = await start_gateway(world)
            yield world
        finally:
            for process in launcher.alive():
                end_group_but_trackers(process)
            await world.core_stack.aclose()
            if world.gateway is not None:
                await world.gateway.cleanup()
            for process_ in launcher.started.values():
                await process_.wait()


async def start_gateway(world: World) -> Gateway:
    gateway = dask_gateway.build(world.settings, world.launcher, world.resolver)
    await gateway.setup()

    async def ready() -> bool:
        try:
            found = await world.http.get(f"http://127.0.0.1:{world.settings.gateway_port}/api/health")
        except httpx.TransportError:
            return False
        return found.status_code == 200

    await until(ready)
    return gateway


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as found:
        yield found
