"""The ledger on SQLite and on PostgreSQL: limits hold, keys are idempotent, metering tells what was held."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from labwright.api.errors import Conflict, InvalidRequest, QuotaExceeded
from labwright.api.usage import Ask, ReservationRequest
from labwright.hub.core.__main__ import ledger_of
from labwright.hub.core.schema import metadata
from labwright.hub.database import Database
from labwright.hub.settings import from_environment
from labwright.hub.usage.clock import read_steady
from labwright.hub.usage.ledger import SqlLedger
from labwright.hub.usage.limits import budget_notice
from labwright.hub.usage.people import profile_cards
from labwright.spawner.profiles import Budget, Profile, QuotaRule, Workbench


def request(key: str = "server:alice/", user: str = "alice", **changes: Any) -> ReservationRequest:
    ask = {"cpu": 1, "memory_bytes": 1 << 30, "price_per_hour": 0.5} | changes.pop("ask", {})
    return ReservationRequest(user=user, key=key, ask=Ask(**ask), **({"kind": "server"} | changes))


def reserve(database: Database, ledger: SqlLedger, clock: Any, **changes: Any) -> Any:
    with database.write() as connection:
        return ledger.reserve(connection, request(**changes), now=clock.now())


def test_the_migrated_schema_is_the_one_the_code_declares(database: Database) -> None:
    ours = {"ledger_accounts", "ledger_reservations", "ledger_clock"}

    def include(thing: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
        return (name if kind == "table" else thing.table.name) in ours

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include})
        assert compare_metadata(context, metadata) == []


def test_what_is_asked_is_held_until_it_is_given_back(database: Database, ledger: SqlLedger, clock: Any) -> None:
    taken = reserve(database, ledger, clock)
    assert (taken.account, taken.released, taken.cost) == ("user:alice", None, 0)
    clock.pass_(minutes=4)
    with database.write() as connection:
        ledger.renew(connection, taken.key, ttl_seconds=3600, now=clock.now())
    clock.pass_(minutes=26)
    with database.write() as connection:
        assert ledger.cost(connection, taken.key, now=clock.now()) == pytest.approx(0.25)
        given = ledger.release(connection, taken.key, now=clock.now())
        assert given is not None
        assert given.cost == pytest.approx(0.25)
        assert ledger.release(connection, taken.key, now=clock.now()) is None
    clock.pass_(hours=5)
    with database.read() as connection:
        assert ledger.cost(connection, taken.key, now=clock.now()) == pytest.approx(0.25)
        assert ledger.live(connection, now=clock.now()) == []


def test_asking_twice_for_a_key_takes_once(database: Database, ledger: SqlLedger, clock: Any) -> None:
    first = reserve(database, ledger, clock)
    clock.pass_(minutes=1)
    again = reserve(database, ledger, clock)
    assert again.id == first.id
    assert again.expires == first.expires + timedelta(minutes=1)
    with pytest.raises(Conflict):
        reserve(database, ledger, clock, user="bob")


def test_a_refusal_says_which_limit_what_is_left_and_who_holds_it(
    database: Database, ledger: SqlLedger, clock: Any
) -> None:
    reserve(database, ledger, clock, ask={"cpu": 6})
    with pytest.raises(QuotaExceeded) as refused:
        reserve(database, ledger, clock, key="server:alice/b", ask={"cpu": 3})
    assert refused.value.details == {"resource": "cpu", "asked": 3, "left": 2, "account": "user:alice"}
    assert "server server:alice/" in refused.value.remedy
    reserve(database, ledger, clock, key="server:alice/b", ask={"cpu": 2})
    with pytest.raises(QuotaExceeded, match="servers"):
        reserve(database, ledger, clock, key="server:alice/c", ask={"cpu": 0})


@pytest.mark.parametrize(
    ("ask", "resource"),
    [({"cpu": 9}, "cpu"), ({"gpu": 2}, "gpu"), ({"count": 3}, "servers")],
)
def test_each_resource_has_its_own_limit(
    database: Database, ledger: SqlLedger, clock: Any, ask: dict[str, float], resource: str
) -> None:
    with pytest.raises(QuotaExceeded) as refused:
        reserve(database, ledger, clock, ask=ask)
    assert refused.value.details["resource"] == resource


def test_memory_runs_and_clusters_are_limited_too(
    database: Database, ledger: SqlLedger, clock: Any, bench: Any
) -> None:
    rule = QuotaRule(user="alice", memory_bytes=3 << 30, runs=1, clusters=0)
    bench.file = Workbench(profiles=(), quotas=(rule,))
    reserve(database, ledger, clock, key="run:1", kind="run")
    with pytest.raises(QuotaExceeded, match="runs"):
        reserve(database, ledger, clock, key="run:2", kind="run")
    with pytest.raises(QuotaExceeded, match="clusters"):
        reserve(database, ledger, clock, key="cluster:1", kind="cluster")
    with pytest.raises(QuotaExceeded, match="has 2 GB of memory left, and this needs 4 GB"):
        reserve(database, ledger, clock, ask={"memory_bytes": 4 << 30})
    # A cluster's worker counts as no cluster of its own.
    reserve(database, ledger, clock, key="worker:1", kind="cluster", ask={"count": 0})


def test_a_group_is_billed_only_when_it_has_a_quota(database: Database, ledger: SqlLedger, clock: Any) -> None:
    taken = reserve(database, ledger, clock, group="research", ask={"cpu": 60})
    assert taken.account == "group:research"
    with pytest.raises(QuotaExceeded, match="quota of the group research has 4 CPU left, and this needs 5"):
        reserve(database, ledger, clock, key="k2", group="research", ask={"cpu": 5}, user="bob")
    with pytest.raises(InvalidRequest, match="no quota"):
        reserve(database, ledger, clock, key="k3", group="made-up")


def test_a_card_is_judged_by_the_quota_that_will_pay_for_it(database: Database, ledger: SqlLedger, clock: Any) -> None:
    gpu = Profile("gpu", "GPU", 8, 64 << 30, "gpu", 2.4, gpu={"nvidia.com/gpu": 1}, groups=("research",))
    rules = (QuotaRule(user="default", memory_bytes=32 << 30), QuotaRule(group="research", gpu=4))
    file = Workbench(profiles=(gpu,), quotas=rules)
    with database.write() as connection:
        cards = profile_cards(ledger, connection, file, user="alice", groups=["research"], now=clock.now())
    assert [(card.available, card.group) for card in cards] == [(True, "research")]


def test_the_machines_gpus_are_given_once_whoever_pays(database: Database, bench: Any, clock: Any) -> None:
    one, none = (SqlLedger(bench, steady=clock.steady, gpus=count) for count in (1, 0))
    held = reserve(database, one, clock, key="k1", group="research", ask={"gpu": 1})
    with pytest.raises(QuotaExceeded, match="This machine has no GPU free, and this needs 1") as refused:
        reserve(database, one, clock, key="k2", user="bob", ask={"gpu": 1})
    assert refused.value.remedy == "Wait until one is free, or choose a profile without."
    reserve(database, one, clock, key="k3", user="bob")
    with database.write() as connection:
        one.release(connection, held.key, now=clock.now())
    reserve(database, one, clock, key="k2", user="bob", ask={"gpu": 1})
    with database.read() as connection:
        cards = profile_cards(none, connection, bench(), user="erika", groups=["research"], now=clock.now())
    reasons = {card.slug: card.reason for card in cards}
    assert reasons["small"] is None
    assert reasons["gpu"] == "This machine has no GPU free, and this needs 1. Choose a profile without."


@pytest.mark.parametrize(("spawner", "available"), [("local", False), ("kubernetes", True)])
def test_a_pods_gpus_are_not_looked_for_on_this_machine(
    database: Database, bench: Any, clock: Any, tmp_path: Path, spawner: str, available: bool
) -> None:
    settings = from_environment({"LABWRIGHT_HOME": str(tmp_path), "LABWRIGHT_SPAWNER": spawner})
    ledger = ledger_of(settings, bench, gpus=0)
    with database.read() as connection:
        cards = profile_cards(ledger, connection, bench(), user="alice", groups=["research"], now=clock.now())
    assert {card.slug: card.available for card in cards} == {"small": True, "gpu": available}
    for kind in ("run", "cluster"):  # these are this machine's processes, wherever servers run
        with pytest.raises(QuotaExceeded, match="This machine has no GPU free"):
            reserve(database, ledger, clock, key=kind, kind=kind, group="research", ask={"gpu": 1})


def test_pods_take_no_gpu_from_this_machines_runs(database: Database, bench: Any, clock: Any) -> None:
    ledger = SqlLedger(bench, steady=clock.steady, gpus=1, servers_here=False)
    reserve(database, ledger, clock, key="pod", group="research", ask={"gpu": 2})
    reserve(database, ledger, clock, key="run:1", kind="run", group="research", ask={"gpu": 1})


def test_a_changed_file_holds_for_the_next_ask(database: Database, ledger: SqlLedger, clock: Any, bench: Any) -> None:
    bench.file = Workbench(profiles=(), quotas=(QuotaRule(user="default", servers=0),))
    with pytest.raises(QuotaExceeded):
        reserve(database, ledger, clock)
    bench.file = Workbench(profiles=())
    reserve(database, ledger, clock)


def test_an_empty_budget_refuses_what_costs_and_the_next_month_starts_anew(
    database: Database, ledger: SqlLedger, clock: Any
) -> None:
    reserve(database, ledger, clock, key="dear", ttl_seconds=86400, ask={"price_per_hour": 20})
    clock.pass_(minutes=30)
    with pytest.raises(QuotaExceeded) as refused:
        reserve(database, ledger, clock, key="more", ask={"cpu": 0})
    assert refused.value.details["resource"] == "budget"
    assert refused.value.details["left"] == 0
    reserve(database, ledger, clock, key="free", ask={"cpu": 0, "price_per_hour": 0})
    with database.write() as connection:
        ledger.release(connection, "dear", now=clock.now())
    clock.pass_(days=25)
    reserve(database, ledger, clock, key="more", ask={"cpu": 0})


@pytest.mark.parametrize(("per", "hours_left"), [("day", 12), ("week", 12 + 5 * 24), ("month", 12 + 21 * 24)])
def test_a_budget_begins_anew_with_its_day_week_or_month(
    database: Database, ledger: SqlLedger, clock: Any, bench: Any, per: str, hours_left: int
) -> None:
    rule = QuotaRule(user="default", budget=Budget(10, per))
    bench.file = Workbench(profiles=bench.file.profiles, quotas=(rule,))
    reserve(database, ledger, clock, key="dear", ttl_seconds=86400, ask={"price_per_hour": 20})
    clock.pass_(hours=1)
    with database.write() as connection:
        ledger.release(connection, "dear", now=clock.now())
    clock.pass_(minutes=60 * (hours_left - 1) - 1)  # a Tuesday at noon so far: the last minute before it begins anew
    with pytest.raises(QuotaExceeded, match="budget"):
        reserve(database, ledger, clock, key="more", ask={"cpu": 0})
    clock.pass_(minutes=1)
    reserve(database, ledger, clock, key="more", ask={"cpu": 0})


@pytest.mark.parametrize(
    ("spent", "threshold", "message"),
    [
        (7.9, None, ""),
        (8.0, 80, "The budget of alice is 80 % spent: 8.00 € of 10.00 € this month."),
        (9.95, 80, "The budget of alice is 99 % spent: 9.95 € of 10.00 € this month."),
        (10, 100, "The budget of alice is spent: 10.00 € of 10.00 € this month."),
        (12, 100, "The budget of alice is spent: 12.00 € of 10.00 € this month."),
    ],
)
def test_a_budget_is_told_of_at_eighty_percent_and_when_it_is_spent(
    database: Database, ledger: SqlLedger, clock: Any, spent: float, threshold: int | None, message: str
) -> None:
    reserve(database, ledger, clock, key="dear", ttl_seconds=86400, ask={"price_per_hour": spent})
    clock.pass_(hours=1)
    with database.write() as connection:
        notice = ledger.quota(connection, "user:alice", now=clock.now()).notice
    if threshold is None:
        assert notice is None
        return
    assert notice
    assert (notice.threshold, notice.message) == (threshold, message)
    assert (notice.since, notice.until) == (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    assert "until 01 April 2026 (UTC)" in notice.remedy


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(10, "day"), "The budget of the group research is spent: 20.00 € of 10.00 € today."),
        (Budget(10, "week"), "The budget of the group research is spent: 20.00 € of 10.00 € this week."),
        (Budget(0), None),  # a rule that only what is free may run
        (None, None),
    ],
)
def test_a_notice_names_the_group_and_the_period_of_its_budget(
    bench: Any, clock: Any, budget: Budget | None, message: str | None
) -> None:
    workbench = replace(bench.file, quotas=(QuotaRule(group="research", budget=budget),))
    notice = budget_notice(workbench, "group:research", 20, clock.now())
    assert (notice and notice.message) == message


def test_what_was_killed_is_metered_to_its_expiry_and_frees_its_place(
    database: Database, ledger: SqlLedger, clock: Any
) -> None:
    reserve(database, ledger, clock, ttl_seconds=300)
    clock.pass_(seconds=200)
    with database.write() as connection:
        ledger.renew(connection, "server:alice/", ttl_seconds=300, now=clock.now())
    clock.pass_(hours=7)  # nobody renews
    with database.write() as connection:
        (ended,) = ledger.end_expired(connection, now=clock.now())
    assert ended.released == ended.created + timedelta(seconds=500)
    assert ended.cost == pytest.approx(0.5 * 500 / 3600)
    with database.read() as connection:
        used = {line.resource: line.used for line in ledger.quota(connection, "user:alice", now=clock.now()).lines}
    assert used["servers"] == 0
    assert used["budget"] == pytest.approx(0.5 * 500 / 3600, abs=1e-5)


def test_what_lived_while_core_was_away_is_metered_without_a_gap(
    database: Database, ledger: SqlLedger, clock: Any
) -> None:
    reserve(database, ledger, clock, ttl_seconds=300)
    clock.pass_(hours=1)  # core was down and could not be told
    with database.write() as connection:
        ledger.end_expired(connection, now=clock.now())
        ledger.renew(connection, "server:alice/", ttl_seconds=300, now=clock.now())
        assert ledger.cost(connection, "server:alice/", now=clock.now()) == pytest.approx(0.5)
        assert len(ledger.live(connection, now=clock.now())) == 1
        ledger.release(connection, "server:alice/", now=clock.now())
        ledger.renew(connection, "server:alice/", ttl_seconds=300, now=clock.now())
        assert ledger.live(connection, now=clock.now()) == []


@pytest.mark.parametrize("hours", [1, -1, 24 * 40])
def test_setting_the_clock_neither_costs_nor_ends_anything(
    database: Database, ledger: SqlLedger, clock: Any, hours: int
) -> None:
    reserve(database, ledger, clock, ttl_seconds=300)
    for step in range(30):
        clock.pass_(minutes=2)
        if step == 14:
            clock.set_wall(hours=hours)
        with database.write() as connection:
            assert ledger.end_expired(connection, now=clock.now()) == []
            ledger.renew(connection, "server:alice/", ttl_seconds=300, now=clock.now())
    with database.write() as connection:
        given = ledger.release(connection, "server:alice/", now=clock.now())
    assert given is not None
    assert given.cost == pytest.approx(0.5, rel=0.01)


def test_a_restart_of_the_machine_is_no_jump_of_the_clock(database: Database, ledger: SqlLedger, clock: Any) -> None:
    reserve(database, ledger, clock, ttl_seconds=300)
    clock.pass_(hours=2)
    clock.boot, clock.seconds = "boot-2", 3.0
    with database.write() as connection:
        (ended,) = ledger.end_expired(connection, now=clock.now())
    assert ended.cost == pytest.approx(0.5 * 300 / 3600)


def test_usage_counts_only_what_lies_in_the_span(database: Database, ledger: SqlLedger, clock: Any) -> None:
    begin = clock.now()
    reserve(database, ledger, clock, ttl_seconds=86400, profile="small", ask={"cpu": 2, "gpu": 1})
    clock.pass_(hours=4)
    with database.write() as connection:
        ledger.release(connection, "server:alice/", now=clock.now())
    reserve(database, ledger, clock, key="run:1", kind="run", user="bob", ttl_seconds=86400)
    now = clock.pass_(hours=2)
    with database.read() as connection:
        whole = ledger.usage(connection, since=begin, until=now, now=now)
        part = ledger.usage(connection, since=begin + timedelta(hours=1), until=begin + timedelta(hours=3), now=now)
        bobs = ledger.usage(connection, since=begin, until=now + timedelta(days=1), now=now, user="bob")
    assert [(row.user, row.hours, row.cpu_hours, row.gpu_hours, row.cost) for row in whole] == [
        ("alice", 4, 8, 4, 2),
        ("bob", 2, 2, 0, 1),
    ]
    assert [(row.user, row.hours) for row in part] == [("alice", 2)]
    assert [(row.user, row.hours) for row in bobs] == [("bob", 2)]


def test_a_hundred_asks_at_once_never_pass_the_limit(
    database: Database, ledger: SqlLedger, clock: Any, bench: Any
) -> None:
    bench.file = Workbench(profiles=(), quotas=(QuotaRule(user="carol", servers=100, cpu=20),))

    def ask(number: int) -> bool:
        try:
            reserve(database, ledger, clock, user="carol", key=f"server:carol/{number}")
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(100) as pool:
        granted = sum(pool.map(ask, range(100)))
    with database.read() as connection:
        held = connection.scalar(sa.text("SELECT count(*) FROM ledger_reservations WHERE ended IS NULL"))
    assert (granted, held) == (20, 20)


def test_a_hundred_asks_at_once_for_one_key_take_once(database: Database, ledger: SqlLedger, clock: Any) -> None:
    with ThreadPoolExecutor(100) as pool:
        ids = {taken.id for taken in pool.map(lambda _: reserve(database, ledger, clock), range(100))}
    assert len(ids) == 1


def test_the_machine_s_steady_clock_goes_forward_and_names_the_boot() -> None:
    first, second = read_steady(), read_steady()
    assert first.boot == second.boot
    assert second.seconds >= first.seconds
