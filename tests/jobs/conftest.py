"""What the tests of jobs share: a real core on a free port, people, a launcher that starts real processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from postgresql import PostgreSQL
from workbench import eventually

from labwright.api import names
from labwright.api.client import Client, Endpoints
from labwright.api.errors import LabwrightError, NotAuthenticated, QuotaExceeded
from labwright.api.usage import Reservation, ReservationRequest
from labwright.hub.callers import Caller, UnknownPerson
from labwright.hub.core.app import build_core, create_app
from labwright.hub.core.context import Core
from labwright.hub.database import Database
from labwright.hub.settings import Settings, from_environment
from labwright.hub.tokens import InvalidToken, Verifier, looks_signed
from labwright.spawner.launcher import Launched, Limits, Principal, Status
from labwright.spawner.profiles import Profile, Workbench

WORKBENCH = Workbench(
    profiles=(
        Profile("small", "Small", 1.0, 2 << 30, "user", 0.05),
        Profile("gpu", "One GPU", 8.0, 64 << 30, "user", 2.4, gpu={"nvidia.com/gpu": 1}, groups=("research",)),
    )
)


class KnownPeople:
    """Resolves '<name>-token' to a person in his groups, and the tokens that core signs."""

    def __init__(self, verifier: Verifier, groups: Mapping[str, frozenset[str]]) -> None:
        self.verifier = verifier
        self.groups = groups

    async def resolve(self, token: str) -> Caller:
        if looks_signed(token):
            try:
                claims = self.verifier.verify(token)
            except InvalidToken:
                raise NotAuthenticated from None
            return Caller(
                claims.user,
                claims.kind,
                frozenset(claims.groups),
                frozenset(claims.scopes),
                claims.run_id,
                claims.attempt,
            )
        name, _, rest = token.partition("-")
        if rest != "token":
            raise NotAuthenticated
        return Caller(name, "user", self.groups.get(name, frozenset()), frozenset(names.USER_SCOPES), token=token)


@dataclass
class SmallLedger:
    """A ledger in memory that holds at most `limit` runs at once and counts a cent for each."""

    limit: int = 10
    live: dict[str, Reservation] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)

    def reserve(self, connection: sa.Connection, request: ReservationRequest, *, now: datetime) -> Reservation:
        if request.key not in self.live and len(self.live) >= self.limit:
            raise QuotaExceeded("runs", 1, 0, f"user:{request.user}")
        self.live[request.key] = Reservation(
            id=request.key,
            user=request.user,
            account=f"user:{request.user}",
            kind=request.kind,
            key=request.key,
            ask=request.ask,
            profile=request.profile,
            created=now,
            expires=now + timedelta(seconds=request.ttl_seconds),
            cost=0.01,
        )
        return self.live[request.key]

    def renew(self, connection: sa.Connection, key: str, *, ttl_seconds: int, now: datetime) -> None:
        return None

    def release(self, connection: sa.Connection, key: str, *, now: datetime) -> Reservation | None:
        self.released.append(key)
        return self.live.pop(key, None)

    def cost(self, connection: sa.Connection, key: str, *, now: datetime) -> float:
        return 0.01 if key in self.live else 0.0


class SubprocessLauncher:
    """Starts real processes as the present user, each in a session of its own."""

    def __init__(self, homes: Path) -> None:
        self.homes = homes
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.limits: dict[str, Limits] = {}  # of the last that ran with a profile
        self.failure: LabwrightError | None = None  # what each launch meets
        self.failures = 0

    async def prepare(self, principal: Principal) -> Path:
        home = self.homes / principal.name
        home.mkdir(parents=True, exist_ok=True)
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
        if self.failure is not None:
            self.failures += 1
            raise self.failure
        surroundings = {"HOME": str(home), "USER": principal.name, "PATH": os.environ["PATH"], **env}
        surroundings["LABWRIGHT_RUNNER_IDLE_SECONDS"] = "120"
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with (log or Path(os.devnull)).open("ab") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                list(argv), env=surroundings, cwd=cwd or home, stdout=output, stderr=output, start_new_session=True
            )
        self.processes[str(process.pid)] = process
        self.limits[env[names.PROFILE]] = limits
        return Launched(str(process.pid), process.pid, "none")

    async def status(self, id: str) -> Status:
        code = self.processes[id].poll()
        return Status(code is None, code)

    async def signal(self, id: str, number: int) -> None:
        if self.processes[id].poll() is None:
            os.killpg(int(id), number)

    async def stop(self, id: str, *, grace_seconds: float = 10.0) -> Status:
        await self.signal(id, signal.SIGTERM)
        try:
            await asyncio.to_thread(self.processes[id].wait, grace_seconds)
        except subprocess.TimeoutExpired:
            await self.signal(id, signal.SIGKILL)
            await asyncio.to_thread(self.processes[id].wait, 10)
        return Status(False, self.processes[id].returncode)

    def alive(self) -> list[int]:
        return [process.pid for process in self.processes.values() if process.poll() is None]

    def kill_everything(self) -> None:
        for pid in self.alive():
            os.killpg(pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait(30)


class Clock:
    """Now, moved by hand."""

    def __init__(self) -> None:
        self.offset = timedelta()
        self.fixed: datetime | None = None

    def __call__(self) -> datetime:
        return (self.fixed or datetime.now(UTC)) + self.offset


def wait_until(condition: Callable[[], Any], seconds: float = 90.0, what: str = "") -> Any:
    return eventually(condition, seconds=seconds, what=what or str(condition))


class PeopleWhoLeft:
    """The directory, which has no hub to ask here; but it knows who is gone."""

    def __init__(self, directory: Any, left: Collection[str]) -> None:
        self.directory, self.left = directory, left

    async def person(self, name: str) -> Any:
        if name in self.left:
            raise UnknownPerson
        return await self.directory.person(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.directory, name)


class Workplace:
    """A core with its settings, clock, ledger and launcher; `serve` runs it on a free port until `close`."""

    def __init__(self, home: Path, database_url: str | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = from_environment({names.HOME: str(home), "LABWRIGHT_ENVIRONMENTS": str(home / "envs")})
        self.settings: Settings = replace(settings, port=port - 3, by_user=False)
        if database_url:
            self.settings = replace(self.settings, core_database_url=database_url)
        python = self.settings.python("user")
        python.parent.mkdir(parents=True, exist_ok=True)
        if not python.exists():
            python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            python.chmod(0o755)
        self.clock = Clock()
        self.ledger = SmallLedger()
        self.launcher = SubprocessLauncher(self.settings.homes)
        self.groups: dict[str, frozenset[str]] = {"alice": frozenset({"research"}), "bob": frozenset()}
        self.left: set[str] = set()  # whom the hub no longer knows
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def core(self) -> Core:
        core = build_core(
            self.settings, ledger=self.ledger, launcher=self.launcher, workbench=lambda: WORKBENCH, now=self.clock
        )
        resolver = KnownPeople(Verifier(self.settings.public_key_file), self.groups)
        return replace(core, resolver=resolver, directory=PeopleWhoLeft(core.directory, self.left))

    def serve(self) -> None:
        app = create_app(self.core(), ("jobs",))
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.settings.core_port, log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server and self._server.started, what="core is up")

    def stop_serving(self) -> None:
        assert self._server
        assert self._thread
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.stop_serving()
        self.launcher.kill_everything()

    def clear(self) -> None:
        """Without jobs, runs, files and changed limits, as at the start; runners stay warm."""
        self.ledger.limit, self.clock.offset, self.clock.fixed = 10, timedelta(), None
        for name in self.groups:
            client = self.client(name)
            for job in client.core("GET", "/jobs", params={"limit": 200})["items"]:
                client.core("DELETE", f"/jobs/{job['id']}")
            client.close()
            for path in self.home(name).iterdir():
                if path.is_file():
                    path.unlink()
        wait_until(lambda: not self.ledger.live, what="the end of what ran")
        self.ledger.released.clear()

    def client(self, name: str) -> Client:
        return Client(Endpoints(self.settings.core_url, self.settings.data_url, token=f"{name}-token"))

    def home(self, name: str) -> Path:
        home = self.settings.homes / name
        home.mkdir(parents=True, exist_ok=True)
        return home


def notebook(*sources: str, parameters: str | None = None) -> dict[str, Any]:
    cells = [new_markdown_cell("A title")]
    if parameters is not None:
        cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(source) for source in sources]
    made = new_notebook(cells=cells)
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made.metadata["language_info"] = {"name": "python"}
    return made


_numbers = itertools.count(1)


def job_request(*sources: str, parameters: str | None = None, **more: Any) -> dict[str, Any]:
    """What makes a job, under a name that no other job has."""
    content = notebook(*sources, parameters=parameters)
    return {"name": f"job {next(_numbers)}", "notebook": {"path": "work.ipynb", "content": content}, **more}


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    """One of the test's own: its clock may be moved and its runners replaced."""
    place = Workplace(tmp_path / "labwright")
    place.serve()
    yield place
    place.close()


@pytest.fixture(scope="session")
def warm_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("warm") / "labwright")
    place.serve()
    yield place
    place.close()


@pytest.fixture
def warm_workplace(warm_place: Workplace) -> Iterator[Workplace]:
    """The one that tests share, with whatever runner the last one left warm."""
    yield warm_place
    warm_place.clear()


@pytest.fixture
def alice(workplace: Workplace) -> Iterator[Client]:
    workplace.home("alice")
    client = workplace.client("alice")
    yield client
    client.close()


@pytest.fixture
def bob(workplace: Workplace) -> Iterator[Client]:
    client = workplace.client("bob")
    yield client
    client.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/core.sqlite"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    from labwright.hub.core import schema

    made = Database(database_url)
    made.migrate(schema.MIGRATIONS)
    yield made
    made.close()


def raw(workplace: Workplace) -> httpx.Client:
    return httpx.Client(base_url=workplace.settings.core_url, trust_env=False, timeout=10)
