"""A real warehouse and a real data service, on temporary folders."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from postgresql import ordinary_user
from processes import end_with_us
from workbench import eventually

from labwright.api import names
from labwright.api.errors import NotAuthenticated
from labwright.hub.callers import Caller
from labwright.hub.data.app import create_app
from labwright.hub.data.warehouse_files import Warehouse
from labwright.hub.settings import Settings, from_environment
from labwright.spawner.profiles import DeclaredConnection, DeclaredGrant, Workbench

PEOPLE = {
    "token-alice": Caller("alice", "user", frozenset({"research"}), frozenset({names.SCOPE_DATA})),
    "token-bob": Caller("bob", "user", frozenset(), frozenset({names.SCOPE_DATA})),
    "token-admin": Caller("root", "user", frozenset(), frozenset({names.SCOPE_DATA, names.SCOPE_ADMIN})),
    "token-none": Caller("carol", "user", frozenset(), frozenset()),
}


class ResolverOfFourKnownTokens:
    """Stands for the hub: the tokens of four people, nothing else."""

    async def resolve(self, token: str) -> Caller:
        if token not in PEOPLE:
            raise NotAuthenticated
        return PEOPLE[token]


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lw-data-", dir="/var/tmp") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def settings(home: Path) -> Settings:
    return from_environment({names.HOME: str(home), "LABWRIGHT_BY_USER": "0"})


@pytest.fixture(scope="session")
def warehouse(settings: Settings) -> Iterator[Warehouse]:
    """The module as the supervisor runs it, under a user that is not root."""
    place = Warehouse(settings.warehouse_folder)
    user = ordinary_user()
    for folder in (settings.warehouse_folder, settings.lake_folder):
        folder.mkdir()
        if user:
            os.chown(folder, user["user"], user["group"])
    environment = {**os.environ, **settings.as_environment()}
    argv = [sys.executable, "-m", "labwright.hub.data.warehouse"]
    process = subprocess.Popen(argv, env=environment, cwd="/", preexec_fn=end_with_us, **user)

    def ready() -> bool:
        assert process.poll() is None
        return place.ready() and (settings.lake_folder / "flights.parquet").exists()

    try:
        eventually(ready, seconds=300, what="the warehouse")
        yield place
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    assert status == 0


@dataclass
class Service:
    url: str
    settings: Settings
    workers: object
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, who: str) -> httpx.Client:
        client = httpx.Client(
            base_url=self.url + names.API,
            headers={"Authorization": f"Bearer token-{who}"},
            trust_env=False,
            timeout=180,
        )
        self.clients.append(client)
        return client


WORKBENCH = Workbench(
    profiles=(),
    connections=(
        DeclaredConnection("warehouse", "postgresql", {"embedded": "warehouse"}),
        DeclaredConnection("lake", "duckdb", {"embedded": "lake"}),
    ),
    grants=(
        DeclaredGrant("research", "warehouse", ("public",), ("flights", "air*")),
        DeclaredGrant("everyone", "lake", ("main",), ("airlines", "airports")),
    ),
)


@pytest.fixture(scope="session")
def service(settings: Settings, warehouse: Warehouse) -> Iterator[Service]:
    app = create_app(settings, lambda: WORKBENCH, resolver=ResolverOfFourKnownTokens(), timeout_seconds=300)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    eventually(lambda: server.started, what="the data service")
    port = server.servers[0].sockets[0].getsockname()[1]
    made = Service(f"http://127.0.0.1:{port}{names.DATA_PREFIX}", settings, app.state.gateway.workers)
    yield made
    for client in made.clients:
        client.close()
    server.should_exit = True
    thread.join(30)
