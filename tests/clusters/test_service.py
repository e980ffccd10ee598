"""Booking, storing and stepping, with a real database; the engine is one at our own protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from labwright.api import names
from labwright.api.clusters import ClusterAddress, ClusterRequest
from labwright.api.errors import Conflict, Forbidden, InvalidRequest, NotFound, QuotaExceeded, Unavailable
from labwright.hub.callers import Caller
from labwright.hub.clusters.dashboard import context_of, relocated
from labwright.hub.clusters.engine import ClusterRow, Observation, Started
from labwright.hub.clusters.reconciler import Reconciler
from labwright.hub.clusters.service import ClusterService
from labwright.hub.clusters.tables import clusters
from labwright.hub.core import schema
from labwright.hub.core.app import build_core
from labwright.hub.core.context import Core
from labwright.spawner.profiles import Idle, Profile, Workbench

from .conftest import Clock, CountingLedger, SubprocessLauncher, make_settings

ALICE = Caller("alice", "user", frozenset({"research"}), frozenset(names.USER_SCOPES))
BOB = Caller("bob", "user", frozenset(), frozenset(names.USER_SCOPES))


@dataclass
class SteadyEngine:
    """An engine whose clusters run at once, and are as the test says."""

    seen: Observation = field(default_factory=lambda: Observation("running", 2, activity="0", dashboard="http://x"))
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    async def start(self, cluster: ClusterRow, idle_seconds: int) -> Started:
        self.started.append(cluster.id)
        return Started(f"remote-{cluster.id}", 1)

    async def observe(self, cluster: ClusterRow) -> Observation:
        return self.seen

    async def scale(self, cluster: ClusterRow) -> None: ...

    async def stop(self, cluster: ClusterRow) -> bool:
        self.stopped.append(cluster.id)
        return True

    def address(self, cluster: ClusterRow) -> ClusterAddress:
        return ClusterAddress(engine=cluster.engine, address="", cluster_name="")

    def dashboard_headers(self, cluster: ClusterRow) -> dict[str, str]:
        return {}

    def dashboard_page(self) -> str:
        return ""


class EngineThatIsAway(SteadyEngine):
    async def start(self, cluster: ClusterRow, idle_seconds: int) -> Started:
        raise Unavailable("The engine")


@dataclass
class Office:
    core: Core
    service: ClusterService
    ledger: CountingLedger
    clock: Clock
    engine: SteadyEngine = field(default_factory=SteadyEngine)

    async def rounds(self, count: int = 2) -> None:
        reconciler = Reconciler(self.core, self.service, {"dask": self.engine, "spark": self.engine})
        for _ in range(count):
            await reconciler.round()

    def audit(self) -> list[str]:
        with self.core.database.read() as connection:
            return [row.action for row in self.core.audit.page(connection).items]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    ledger, clock = CountingLedger(), Clock()
    workbench = Workbench(
        profiles=(
            Profile("small", "Small", 1, 1 << 30, "user", 0.05),
            Profile("lab", "Lab", 4, 8 << 30, "user", 1.0, groups=("lab",)),
            Profile("gpus", "Two GPUs", 4, 8 << 30, "user", 4.0, gpu={"nvidia.com/gpu": 2}),
        ),
        idle=Idle(cluster_seconds=600),
    )
    core = build_core(
        make_settings(tmp_path),
        ledger=ledger,
        launcher=SubprocessLauncher(tmp_path),
        workbench=lambda: workbench,
        now=clock,
    )
    core.database.migrate(schema.MIGRATIONS)
    yield Office(core, ClusterService(core), ledger, clock)
    core.database.close()


async def test_a_cluster_is_booked_before_it_starts_and_given_back_when_it_ends(office: Office) -> None:
    made = office.service.create(ClusterRequest(engine="dask", workers=2), ALICE)
    assert office.engine.started == []
    assert office.ledger.held[f"cluster:{made.id}"].ask.cpu == 2
    await office.rounds()
    assert office.service.get(made.id, ALICE).state == "running"
    office.service.stop(made.id, ALICE)
    assert office.service.get(made.id, ALICE).state == "stopping"
    await office.rounds(1)
    assert office.service.get(made.id, ALICE).state == "stopped"
    assert office.ledger.held == {}
    assert office.audit() == ["cluster.end", "cluster.stop", "cluster.start"]


def test_each_worker_of_a_profile_with_gpus_takes_them(office: Office) -> None:
    made = office.service.create(ClusterRequest(engine="dask", workers=2, profile="gpus"), ALICE)
    held = office.ledger.held[f"cluster:{made.id}"]
    assert held.ask.gpu == 4
    office.service.scale(made.id, 1, ALICE)
    assert office.ledger.held[f"cluster:{made.id}"].ask.gpu == 2
    small = office.service.create(ClusterRequest(engine="spark", workers=2), ALICE)
    assert office.ledger.held[f"cluster:{small.id}"].ask.gpu == 0


async def test_a_full_quota_refuses_and_nothing_starts(office: Office) -> None:
    office.ledger.cpu_limit = 1
    with pytest.raises(QuotaExceeded):
        office.service.create(ClusterRequest(engine="dask", workers=2), ALICE)
    await office.rounds()
    assert office.engine.started == []
    assert office.service.page(ALICE) == []
    assert office.audit() == []


async def test_a_refused_scale_leaves_the_booking_as_it_was(office: Office) -> None:
    made = office.service.create(ClusterRequest(engine="dask", workers=2), ALICE)
    scaled = office.service.scale(made.id, 3, ALICE)
    assert scaled.workers_wanted == 3
    spark = office.service.create(ClusterRequest(engine="spark", workers=2), ALICE)
    with pytest.raises(Conflict, match="fixed number of threads"):
        office.service.scale(spark.id, 3, ALICE)


async def test_an_idle_cluster_is_stopped_and_says_why(office: Office) -> None:
    made = office.service.create(ClusterRequest(engine="dask"), ALICE)
    await office.rounds()
    office.clock.offset = timedelta(seconds=590)
    await office.rounds()
    assert office.service.get(made.id, ALICE).target == "running"
    # Work in between counts from then on.
    office.engine.seen = Observation("running", workers=2, activity="7")
    await office.rounds(1)
    office.clock.offset = timedelta(seconds=1100)
    await office.rounds()
    assert office.service.get(made.id, ALICE).target == "running"
    # A long task is no idleness, however quiet.
    office.engine.seen = Observation("running", workers=2, activity="7", busy=True)
    office.clock.offset = timedelta(seconds=5000)
    await office.rounds()
    assert office.service.get(made.id, ALICE).target == "running"
    office.engine.seen = Observation("running", workers=2, activity="7")
    office.clock.offset = timedelta(seconds=5700)
    await office.rounds()
    ended = office.service.shown(office.service.get(made.id, ALICE))
    assert ended.state == "stopped"
    assert ended.reason is not None
    assert "idle for 10 min" in ended.reason
    assert office.engine.stopped == [made.id]


async def test_a_cluster_that_dies_is_failed_with_the_reason_and_given_back(office: Office) -> None:
    made = office.service.create(ClusterRequest(engine="dask"), ALICE)
    await office.rounds()
    office.engine.seen = Observation("ended", reason="Out of memory. Take a larger profile.")
    await office.rounds(1)
    ended = office.service.get(made.id, ALICE)
    assert (ended.state, ended.reason) == ("failed", "Out of memory. Take a larger profile.")
    assert office.ledger.held == {}


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [("starting", None, "It did not start within 3 minutes."), ("ended", "It crashed.", "It crashed.")],
)
async def test_a_cluster_that_failed_says_where_its_logs_are(
    office: Office, state: str, reason: str, said: str
) -> None:
    made = office.service.create(ClusterRequest(engine="dask"), ALICE)
    office.engine.seen = Observation(state, reason=reason, logs="Its logs are there.")  # type: ignore[arg-type]
    await office.rounds(1)
    office.clock.offset = timedelta(minutes=4)
    await office.rounds(1)
    ended = office.service.get(made.id, ALICE)
    assert (ended.state, ended.reason) == ("failed", f"{said} Its logs are there.")


async def test_an_engine_that_is_away_delays_and_loses_nothing(office: Office) -> None:
    there, office.engine = office.engine, EngineThatIsAway()
    made = office.service.create(ClusterRequest(engine="dask"), ALICE)
    await office.rounds(3)
    assert office.service.get(made.id, ALICE).state == "starting"
    office.engine = there
    await office.rounds()
    assert office.service.get(made.id, ALICE).state == "running"
    assert there.started == [made.id]


def test_what_is_not_yours_does_not_exist(office: Office) -> None:
    made = office.service.create(ClusterRequest(engine="dask", name="mine"), ALICE)
    for name in (made.id, "mine"):
        with pytest.raises(NotFound):
            office.service.get(name, BOB)
        with pytest.raises(NotFound):
            office.service.stop(name, BOB)
    assert office.service.create(ClusterRequest(engine="dask", name="mine"), BOB).owner == "bob"


def test_bad_wishes_are_refused_with_a_reason(office: Office) -> None:
    office.service.create(ClusterRequest(engine="dask", name="mine"), ALICE)
    with pytest.raises(Conflict, match="already have"):
        office.service.create(ClusterRequest(engine="dask", name="mine"), ALICE)
    with pytest.raises(InvalidRequest):
        office.service.create(ClusterRequest(engine="dask", name="../x"), ALICE)
    with pytest.raises(Forbidden):
        office.service.create(ClusterRequest(engine="dask", group="finance"), ALICE)
    for profile in ("lab", "unknown"):
        with pytest.raises(NotFound):
            office.service.create(ClusterRequest(engine="dask", profile=profile), ALICE)


def test_the_migrated_schema_is_the_one_in_the_code(office: Office) -> None:
    with office.core.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": only_clusters})
        metadata = sa.MetaData(naming_convention=schema.metadata.naming_convention)
        clusters.to_metadata(metadata)
        assert compare_metadata(context, metadata) == []


def only_clusters(name: str | None, type_: str, parents: object) -> bool:
    return type_ != "table" or name == "clusters"


def test_redirects_and_prefixes_stay_inside_the_dashboard() -> None:
    base = "/services/core/clusters/x/dashboard"
    assert context_of(None, "x") == base
    assert (
        context_of("/user/alice/labwright/clusters/x/dashboard/", "x") == "/user/alice/labwright/clusters/x/dashboard"
    )
    for bad in ("https://evil.example", "//evil.example", "/a\r\nSet-Cookie: x", "/a//b"):
        assert context_of(bad, "x") == base
    assert relocated("http://127.0.0.1:9/jobs/", "http://127.0.0.1:9", base) == f"{base}/jobs/"
    assert relocated(f"{base}/jobs/", "http://127.0.0.1:9", base) == f"{base}/jobs/"
