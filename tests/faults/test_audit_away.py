"""The audit trail cannot be written: what must be recorded is not done, says so, and is done when the trail is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from workbench import eventually

from labwright.api.client import Client
from labwright.api.errors import Unavailable
from labwright.hub.database import Database
from labwright.hub.jobs.tables import runs
from tests.jobs.conftest import Workplace, job_request
from tests.jobs.test_runs import ended, in_state, start
from tests.jobs.test_scheduling import runs_of

from .test_database_away import HOURLY, WAITING, slot_after, told


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Core's, past the relay and core."""
    made = Database(database_url)
    yield made
    made.close()


@contextmanager
def trail_away(database: Database) -> Iterator[None]:
    """The table of the trail is not where it is looked for."""
    rename(database, "audit", "audit_elsewhere")
    try:
        yield
    finally:
        rename(database, "audit_elsewhere", "audit")


def rename(database: Database, old: str, new: str) -> None:
    with database.write() as connection:
        connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))


def test_no_mutation_is_done_that_the_trail_cannot_tell_of(
    alice: Client, workplace: Workplace, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    workplace.ledger.limit = 0
    run = start(alice, job_request("1", name="kept"))
    job = f"/jobs/{run['job_id']}"
    before = alice.core("GET", "/jobs"), alice.core("GET", "/runs")
    with trail_away(database):
        for method, path, body in (
            ("POST", "/jobs", job_request("a_secret_value = 1")),
            ("PATCH", job, {"paused": True}),
            ("POST", f"{job}/runs", {}),
            ("POST", f"/runs/{run['id']}/cancel", None),
            ("DELETE", job, None),
        ):
            with pytest.raises(Unavailable, match="audit trail") as refused:
                alice.core(method, path, json=body)
            assert "was not done" in refused.value.remedy
        listed = alice.core("GET", "/jobs"), alice.core("GET", "/runs")
    assert without_reasons(listed) == without_reasons(before)
    assert "the audit trail cannot be written" in caplog.text
    assert alice.core("POST", f"{job}/runs", json={})["number"] == 2


def without_reasons(pages: tuple[dict[str, Any], dict[str, Any]]) -> list[Any]:
    """Jobs and runs but for why a run waits, which the scheduler notes by itself."""
    jobs, found = pages
    return [
        [(job["id"], job["paused"], job["updated"]) for job in jobs["items"]],
        [(run["id"], run["state"]) for run in found["items"]],
    ]


def test_a_slot_waits_for_the_trail_and_is_fired_once(
    alice: Client, workplace: Workplace, database: Database, database_url: str, wait_for_log: Callable[[str], None]
) -> None:
    workplace.ledger.limit = 0
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=HOURLY))
    with trail_away(database):
        slot = slot_after(workplace, job)
        wait_for_log(f"job {job['id']} is not fired")
        assert runs_of(alice, job) == []
    (run,) = eventually(lambda: runs_of(alice, job), seconds=30, what="the run")
    assert datetime.fromisoformat(run["slot"]) == slot
    assert told(database_url, "schedule.fire") == [job["id"]]


def test_the_job_of_somebody_who_left_is_paused_once_the_trail_can_tell_of_it(
    alice: Client, workplace: Workplace, database: Database, database_url: str, wait_for_log: Callable[[str], None]
) -> None:
    workplace.ledger.limit = 0
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=HOURLY))
    workplace.left.add("alice")

    def is_paused() -> bool:
        return bool(alice.core("GET", f"/jobs/{job['id']}")["paused"])

    with trail_away(database):
        slot_after(workplace, job)
        wait_for_log(f"job {job['id']} is not fired")
        assert not is_paused()
    eventually(is_paused, seconds=30, what="the pause")
    assert told(database_url, "schedule.pause") == [job["id"]]


def test_a_run_that_ends_without_the_trail_keeps_its_lease_and_is_written_down_later(
    alice: Client, workplace: Workplace, database: Database, database_url: str, wait_for_log: Callable[[str], None]
) -> None:
    home = workplace.home("alice")
    run = start(alice, job_request(WAITING))
    in_state(alice, run, "running")

    def lease_left() -> timedelta:
        with database.read() as connection:
            expires: datetime = connection.execute(
                sa.select(runs.c.lease_expires).where(runs.c.id == run["id"])
            ).scalar_one()
        return expires - workplace.clock()

    with trail_away(database):
        (home / "go").touch()
        wait_for_log("the audit trail cannot be written")
        for _ in range(3):  # longer than a lease, in steps that are shorter
            workplace.clock.offset += timedelta(seconds=20)
            eventually(lambda: lease_left() > timedelta(seconds=25), seconds=60, what="a renewed lease")
        assert alice.core("GET", f"/runs/{run['id']}")["state"] == "running"
    done = ended(alice, run)
    assert (done["state"], done["attempt"]) == ("succeeded", 1), done
    assert told(database_url, "run.end") == [run["id"]]
