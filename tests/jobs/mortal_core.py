"""The jobs of a core whose process dies where a test says so: around a commit, or between two transactions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from labwright.api import names
from labwright.hub.audit import AuditLog
from labwright.hub.callers import Caller
from labwright.hub.core import schema
from labwright.hub.core.context import Core
from labwright.hub.database import Database
from labwright.hub.events import EventLog
from labwright.hub.jobs.artifacts import ArtifactStore
from labwright.hub.jobs.attempts import Attempts
from labwright.hub.jobs.bell import Bell
from labwright.hub.jobs.pool import RunnerPool
from labwright.hub.jobs.scheduler import Scheduler
from labwright.hub.jobs.service import Jobs
from labwright.hub.settings import from_environment
from labwright.hub.tokens import Signer, create_signing_key, load_private_key
from labwright.hub.usage.clock import Steady
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.launcher import Launched, Principal, Status
from labwright.spawner.profiles import Profile, QuotaRule, Workbench

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
# The quota of two runs is met before the places of the machine are.
WORKBENCH = Workbench(
    profiles=(Profile("small", "Small", 1.0, 2 << 30, "user", 0.05),), quotas=(QuotaRule(user="default", runs=2),)
)
MOST = 4
ALICE = Caller("alice", "user", frozenset(), frozenset(names.USER_SCOPES))


class Died(BaseException):
    """The process is gone: no `except Exception` of it hears of that."""


class MortalDatabase(Database):
    """Dies at the transaction that was chosen: at its end before the commit, or after it with nobody told."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._left = 0
        self.kept = False
        # Deaths are of processes here, not of machines.
        sa.event.listen(self.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))

    def doom(self, transactions: int, *, kept: bool) -> None:
        """Die in the writing transaction that is so many ahead; `kept`: after its commit. 0: live on."""
        self._left, self.kept = transactions, kept

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        last = self._left == 1
        self._left = max(0, self._left - 1)
        with super().write() as connection:
            yield connection
            if last and not self.kept:
                raise Died
        if last:
            raise Died


@dataclass
class LauncherOfRecords:
    """Starts nothing: a runner is an entry that a test speaks for, and kills."""

    alive: dict[str, bool] = field(default_factory=dict)  # by the id of the runner

    async def prepare(self, principal: Principal) -> Path:
        return Path("/nowhere")

    async def launch(self, principal: Principal, argv: Sequence[str], *, env: Mapping[str, str], **_: Any) -> Launched:
        self.alive[env[names.RUNNER_ID]] = True
        return Launched(env[names.RUNNER_ID], 1, "none")

    async def status(self, id: str) -> Status:
        return Status(self.alive[id])

    async def signal(self, id: str, number: int) -> None:
        self.alive[id] = False

    async def stop(self, id: str, *, grace_seconds: float = 10.0) -> Status:
        self.alive[id] = False
        return Status(False)


class PeopleWithoutHub:
    async def person(self, name: str) -> dict[str, Any]:
        return {"name": name, "groups": []}


class MortalCore:
    """Jobs, attempts and the scheduler on one database and clock; `begin_anew` is the next process."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.launcher = LauncherOfRecords()
        self.database = MortalDatabase(f"sqlite:///{folder}/core.sqlite")
        schema.metadata.create_all(self.database.engine)
        settings = from_environment({names.HOME: str(folder)})
        private, public = folder / "core.key", folder / "core.pub"
        create_signing_key(private, public)
        self._artifacts = ArtifactStore(f"file://{folder}/artifacts")
        self._loop = asyncio.Runner()
        self.ledger = SqlLedger(lambda: WORKBENCH, steady=self._steady)
        self.core = Core(
            settings=settings,
            database=self.database,
            audit=AuditLog("core", schema.audit_rows, schema.audit_head),
            events=EventLog(self.database, schema.events_table),
            ledger=self.ledger,
            signer=Signer(load_private_key(private)),
            resolver=None,  # type: ignore[arg-type] - nobody comes by HTTP
            directory=PeopleWithoutHub(),  # type: ignore[arg-type]
            launcher=self.launcher,
            http=None,  # type: ignore[arg-type]
            workbench=lambda: WORKBENCH,
            now=lambda: self.now,
        )
        self.begin_anew()

    def _steady(self) -> Steady:
        return Steady("boot", (self.now - START).total_seconds())

    def begin_anew(self) -> None:
        """What the process knew in memory is gone, and it starts as a new core does."""
        self.database.doom(0, kept=False)
        queue, work = Bell(), Bell()
        self.jobs = Jobs(self.core, self._artifacts, queue)
        self.attempts = Attempts(self.core, self._artifacts, queue, work)
        pool = RunnerPool(self.core, self.attempts, most=MOST)
        self._scheduler = Scheduler(self.core, pool, queue, work)
        self._loop.run(self._start())

    async def _start(self) -> None:
        await self._scheduler.start()
        await self._scheduler.close()  # its rounds are the test's

    def tick(self) -> None:
        self._loop.run(self._scheduler.tick())

    def wait(self, **amount: float) -> None:
        self.now += timedelta(**amount)

    def close(self) -> None:
        self._loop.close()
        self.database.close()


class Dice:
    """Stands for `secrets`: ids are as random as ever, and the same in each example."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def token_hex(self, count: int) -> str:
        return self._random.randbytes(count).hex()
