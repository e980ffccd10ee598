"""The store on SQLite and PostgreSQL: leases, fencing, commits, and the schema as migrated."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgresql import PostgreSQL

from labwright.api.errors import Conflict, NotFound
from labwright.api.jobs import Policy
from labwright.hub.core import schema
from labwright.hub.database import Database
from labwright.hub.jobs import store
from labwright.hub.jobs.tables import jobs, run_outputs, runners, runs

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def job_values(**more: Any) -> dict[str, Any]:
    return {
        "id": store.new_id("job", NOW),
        "owner": "alice",
        "owner_groups": [],
        "name": "a",
        "live_name": "a",
        "notebook_path": "a.ipynb",
        "source_digest": "0" * 64,
        "follow": False,
        "parameters": {},
        "parameters_schema": {},
        "profile": "small",
        "policy": Policy().model_dump(),
        "paused": False,
        "runs": 0,
        "created": NOW,
        "updated": NOW,
        **more,
    }


def add_run(database: Database, job: sa.Row[Any], slot: datetime | None = None) -> sa.Row[Any] | None:
    values = {"trigger": "manual", "slot": slot, "parameters": {}, "dates": [], "created": NOW, "not_before": NOW}
    with database.write() as connection:
        locked = store.get_job(connection, job.owner, job.id, lock=True)
        return store.add_run(connection, locked, store.new_id("run", NOW), {**values, "reserved": True})


@pytest.fixture
def job(database: Database) -> sa.Row[Any]:
    with database.write() as connection:
        return store.add_job(connection, job_values())


def at_once(count: int, act: Callable[[], Any]) -> list[Any]:
    """What `count` threads that start together return."""
    barrier, found = threading.Barrier(count), []

    def go() -> None:
        barrier.wait(10)
        found.append(act())

    threads = [threading.Thread(target=go) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == count
    return found


def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    mine = {table.name for table in (jobs, runs, run_outputs, runners)}

    def about_jobs(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or name in mine

    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": about_jobs, "compare_type": False})
        differences = [d for d in compare_metadata(context, schema.metadata) if "jobs" in str(d) or "run" in str(d)]
    assert [d for d in differences if d[0] not in ("add_table",) or d[1].name in mine] == []


def test_two_live_jobs_of_a_person_never_share_a_name(database: Database, job: sa.Row[Any]) -> None:
    with database.write() as connection, pytest.raises(Conflict):
        store.add_job(connection, job_values())
    with database.write() as connection:
        store.add_job(connection, job_values(owner="bob"))
        store.update_job(connection, job.id, {"deleted": NOW, "live_name": None})
        store.add_job(connection, job_values())


def test_a_deleted_job_is_restored_unless_its_name_is_taken(database: Database, job: sa.Row[Any]) -> None:
    with database.write() as connection:
        store.update_job(connection, job.id, {"deleted": NOW, "live_name": None})
        other = store.add_job(connection, job_values())
        with pytest.raises(Conflict, match="You have another job 'a' by now"):
            store.restore_job(connection, job, {"updated": NOW})
        with pytest.raises(NotFound):
            store.get_job(connection, "alice", job.id)
        store.update_job(connection, other.id, {"deleted": NOW, "live_name": None})
        store.restore_job(connection, job, {"updated": NOW})
        restored = store.get_job(connection, "alice", job.id)
        assert (restored.deleted, restored.live_name) == (None, "a")
        listed = [
            store.list_jobs(connection, "alice", after=None, limit=9, search=None, deleted=gone)
            for gone in (False, True)
        ]
    assert [[row.id for row in rows] for rows in listed] == [[job.id], [other.id]]


def test_somebody_elses_rows_do_not_exist(database: Database, job: sa.Row[Any]) -> None:
    run = add_run(database, job)
    assert run
    with database.read() as connection:
        with pytest.raises(NotFound):
            store.get_job(connection, "bob", job.id)
        with pytest.raises(NotFound):
            store.get_run(connection, "bob", run.id)


def test_schedulers_that_race_for_a_slot_make_one_run(database: Database, job: sa.Row[Any]) -> None:
    made = at_once(6, lambda: add_run(database, job, NOW))
    assert sum(run is not None for run in made) == 1
    assert [add_run(database, job).number for _ in range(2)] == [2, 3]  # type: ignore[union-attr]


def test_runners_that_race_lease_each_run_once(database: Database, job: sa.Row[Any]) -> None:
    for _ in range(4):
        add_run(database, job)

    def lease() -> str | None:
        with database.write() as connection:
            row = store.lease(connection, "alice", "small", "r", NOW)
            return row.id if row else None

    # SKIP LOCKED may leave one empty-handed in a race; what is leased is leased once.
    leased = [found for found in [*at_once(6, lease), *(lease() for _ in range(4))] if found]
    assert len(leased) == len(set(leased)) == 4


def test_a_backlog_hides_neither_another_persons_runs_nor_another_jobs(database: Database, job: sa.Row[Any]) -> None:
    values = {"trigger": "manual", "parameters": {}, "dates": [], "created": NOW, "not_before": NOW}
    with database.write() as connection:
        for _ in range(250):
            store.add_run(connection, job, store.new_id("run", NOW), values)
        other = store.add_job(connection, job_values(owner="bob"))
        store.add_run(connection, other, store.new_id("run", NOW + timedelta(seconds=1)), values)
        mine = store.add_job(connection, job_values(name="another", live_name="another"))
        store.add_run(connection, mine, store.new_id("run", NOW + timedelta(seconds=2)), values)
        waiting = [
            store.waiting(connection, NOW, 4),
            store.waiting(connection, NOW, 4, but_jobs={job.id}),
            store.waiting(connection, NOW, 4, but_people={"alice"}),
        ]
    found = [Counter(run.job_id for run in runs) for runs in waiting]
    assert found == [{job.id: 4, other.id: 1}, {mine.id: 1, other.id: 1}, {other.id: 1}]


def test_a_stale_attempt_changes_nothing(database: Database, job: sa.Row[Any]) -> None:
    run = add_run(database, job)
    assert run
    with database.write() as connection:
        first = store.lease(connection, "alice", "small", "one", NOW)
        assert first
        store.change_open(connection, run.id, {"state": "queued", "runner_id": None})
        second = store.lease(connection, "alice", "small", "two", NOW)
        assert second
        assert (first.attempt, second.attempt) == (1, 2)
    with database.write() as connection, pytest.raises(store.StaleAttempt):
        store.change_attempt(connection, run.id, 1, {"state": "succeeded"})
    with database.write() as connection:
        store.change_attempt(connection, run.id, 2, {"state": "succeeded"})
        assert not store.was_committed(connection, run.id, 1)
        assert store.was_committed(connection, run.id, 2)
        assert store.change_open(connection, run.id, {"state": "lost"}) is None


def test_who_stops_the_runs_of_a_job_holds_them_until_it_is_done(postgresql: PostgreSQL) -> None:
    database = Database(postgresql.new_database())  # SQLite has one writer at a time anyway
    database.migrate(schema.MIGRATIONS)
    with database.write() as connection:
        job = store.add_job(connection, job_values())
    add_run(database, job)
    with database.write() as stopping, database.write() as leasing:
        assert [run.state for run in store.open_runs(stopping, job.id)] == ["queued"]
        assert store.lease(leasing, "alice", "small", "r", NOW) is None
    database.close()


def test_only_the_newest_runs_are_kept(database: Database, job: sa.Row[Any]) -> None:
    for _ in range(5):
        add_run(database, job)
    with database.write() as connection:
        connection.execute(runs.update().where(runs.c.number < 5).values(state="succeeded"))
        store.surplus_runs(connection, job.id, 2)
        numbers = connection.scalars(sa.select(runs.c.number).order_by(runs.c.number)).all()
    assert list(numbers) == [4, 5]


def test_artifacts_are_named_by_what_they_hold(tmp_path: Path) -> None:
    from labwright.hub.jobs.artifacts import ArtifactStore

    artifacts = ArtifactStore(f"file://{tmp_path}/a")
    digest = artifacts.put(b"x")
    assert (artifacts.put(b"x"), artifacts.get(digest)) == (digest, b"x")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
    for wrong in ("../../etc/passwd", "0" * 64, digest.upper()):
        with pytest.raises(NotFound):
            artifacts.get(wrong)
