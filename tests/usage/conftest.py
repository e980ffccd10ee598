"""A database of each kind, migrated, and the ledger over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from postgresql import PostgreSQL

from labwright.hub.core import schema
from labwright.hub.database import Database
from labwright.hub.usage import tables  # noqa: F401 - its tables belong to the schema
from labwright.hub.usage.clock import Steady
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.profiles import Budget, Profile, QuotaRule, Workbench

START = datetime(2026, 3, 10, 12, tzinfo=UTC)


@dataclass
class FakeTime:
    """Wall clock and steady clock; `pass_` moves both, `set_wall` only the wall clock, as an admin would."""

    wall: datetime = START
    seconds: float = 1000.0
    boot: str = "boot-1"

    def now(self) -> datetime:
        return self.wall

    def steady(self) -> Steady:
        return Steady(self.boot, self.seconds)

    def pass_(self, **amount: float) -> datetime:
        step = timedelta(**amount)
        self.wall += step
        self.seconds += step.total_seconds()
        return self.wall

    def set_wall(self, **amount: float) -> datetime:
        self.wall += timedelta(**amount)
        return self.wall


@dataclass
class Bench:
    """The workbench file in force; a test may put another in its place."""

    file: Workbench = field(
        default_factory=lambda: Workbench(
            profiles=(
                Profile("small", "Small", 1, 2 << 30, "user", 0.05),
                Profile("gpu", "One GPU", 8, 64 << 30, "gpu", 2.4, gpu={"nvidia.com/gpu": 1}, groups=("research",)),
            ),
            quotas=(
                QuotaRule(group="research", servers=10, cpu=64, gpu=4, runs=200, budget=Budget(500)),
                QuotaRule(user="default", servers=2, cpu=8, gpu=1, budget=Budget(10)),
                QuotaRule(user="carol", servers=100, cpu=20),
            ),
        )
    )

    def __call__(self) -> Workbench:
        return self.file


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Migrated and empty."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/core.sqlite"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.new_database()
    made = Database(url)
    made.migrate(schema.MIGRATIONS)
    yield made
    made.close()


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def ledger(bench: Bench, clock: FakeTime) -> SqlLedger:
    return SqlLedger(bench, steady=clock.steady)
