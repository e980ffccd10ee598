"""A real MLflow on its socket and a real core in front of it; the hub's answers are the only thing played."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from processes import end_with_us
from workbench import eventually

from labwright.api import names
from labwright.api.errors import NotAuthenticated
from labwright.hub import settings as workbench_settings
from labwright.hub.callers import Caller
from labwright.hub.core.app import build_core, create_app
from labwright.hub.core.context import Core
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.profiles import Budget, Profile, QuotaRule, Workbench

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300


class ResolverOfKnownTokens:
    """Stands where the hub is asked: 'alice-token' is alice's, and so on."""

    def __init__(self) -> None:
        self.callers: dict[str, Caller] = {}

    def add(self, name: str, *, groups: tuple[str, ...] = (), scopes: tuple[str, ...] = names.USER_SCOPES) -> str:
        token = f"{name}-token-{len(self.callers)}"
        self.callers[token] = Caller(name, "user", frozenset(groups), frozenset(scopes), token=token)
        return token

    async def resolve(self, token: str) -> Caller:
        if token not in self.callers:
            raise NotAuthenticated
        return self.callers[token]


@dataclass
class Bench:
    settings: workbench_settings.Settings
    core: Core
    resolver: ResolverOfKnownTokens
    url: str  # core's, with its prefix

    @property
    def mlflow_url(self) -> str:
        return f"{self.url}/mlflow"

    def http(self, token: str | None = None, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=180, trust_env=False, verify=False, **options)


def workbench() -> Workbench:
    return Workbench(
        profiles=(Profile("small", "Small", 1, 2 << 30, "user", 0.05),),
        quotas=(QuotaRule(user="default", servers=2, cpu=8), QuotaRule(user="bella", budget=Budget(10))),
    )


def settings_in(home: Path) -> workbench_settings.Settings:
    environments = ROOT / ".envs"
    if not (environments / "mlflow" / "bin" / "python").exists():
        environments = home / "environments"
        environments.mkdir()
        (environments / "mlflow").symlink_to(sys.prefix)
    return workbench_settings.from_environment(
        {
            names.HOME: str(home),
            "LABWRIGHT_ENVIRONMENTS": str(environments),
            "LABWRIGHT_PORT": str(free_port()),
            "LABWRIGHT_BY_USER": "0",
        }
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    # Not pytest's folder: a Unix socket's path is limited to 107 characters.
    with tempfile.TemporaryDirectory(prefix="lw-trk-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def bench(home: Path) -> Iterator[Bench]:
    """Core, listening on loopback; MLflow is not there yet."""
    settings = settings_in(home)
    resolver = ResolverOfKnownTokens()
    built = build_core(
        settings,
        ledger=SqlLedger(workbench),
        launcher=None,  # type: ignore[arg-type] - neither usage nor tracking launches anything
        workbench=workbench,
        now=lambda: datetime.now(UTC),
    )
    core = replace(built, resolver=resolver)
    app = create_app(core, ("usage", "tracking"))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    eventually(lambda: server.started, what="core")
    yield Bench(settings, core, resolver, f"http://127.0.0.1:{listener.getsockname()[1]}{names.CORE_PREFIX}")
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="session")
def mlflow(bench: Bench) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow, ready."""
    environ = {"PATH": os.defpath, "HOME": str(bench.settings.home)} | bench.settings.as_environment()
    log = (bench.settings.home / "mlflow.log").open("wb")
    argv = [sys.executable, "-m", "labwright.hub.mlflow_server"]
    process = subprocess.Popen(argv, env=environ, stdout=log, stderr=log, preexec_fn=end_with_us)

    def ready() -> bool:
        assert process.poll() is None, (bench.settings.home / "mlflow.log").read_text()
        return bench.settings.mlflow_socket.exists() and answers(bench.settings.mlflow_socket)

    try:
        eventually(ready, seconds=START_SECONDS, what="MLflow")
        yield process
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:  # httpx leaves its own open when nobody listens
        try:
            probe.connect(str(path))
        except OSError:
            return False
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False)) as client:
            return client.get("http://localhost/services/core/mlflow/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def trail_away(bench: Bench) -> Iterator[None]:
    """The table of core's audit trail is not where it is looked for."""
    with bench.core.database.write() as connection:
        connection.execute(sa.text("ALTER TABLE audit RENAME TO audit_elsewhere"))
    try:
        yield
    finally:
        with bench.core.database.write() as connection:
            connection.execute(sa.text("ALTER TABLE audit_elsewhere RENAME TO audit"))
