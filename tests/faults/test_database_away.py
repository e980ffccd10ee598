"""PostgreSQL goes away under the services, and the reply to COMMIT is lost: nothing is lost, nothing happens twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from relay import Relay
from workbench import eventually

from labwright.api import names
from labwright.api.client import Client
from labwright.api.errors import Conflict, Unavailable
from labwright.api.usage import Ask, ReservationRequest
from labwright.hub.callers import Caller
from labwright.hub.core import schema
from labwright.hub.data.app import create_app
from labwright.hub.database import Database
from labwright.hub.settings import from_environment
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.profiles import Workbench
from tests.jobs.conftest import Workplace, job_request, raw
from tests.jobs.test_runs import ended, in_state, start
from tests.jobs.test_scheduling import runs_of

HOURLY = {"cron": "0 * * * *", "timezone": "UTC"}
# What a person must not read: which database it is and where, and what was asked of it.
INTERNALS = ("psycopg", "sqlalchemy", "SELECT", "INSERT", "127.0.0.1", "tester", "Traceback")


class ResolverOfOneAdmin:
    """Stands for the hub: every token is an admin's."""

    async def resolve(self, token: str) -> Caller:
        return Caller("root", "user", frozenset(), frozenset({names.SCOPE_DATA, names.SCOPE_ADMIN}))


@contextmanager
def data_service(home: Path, database_url: str) -> Iterator[httpx.Client]:
    settings = replace(from_environment({names.HOME: str(home)}), data_database_url=database_url)
    app = create_app(settings, lambda: Workbench(profiles=()), resolver=ResolverOfOneAdmin())
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, seconds=30, what="the data service")
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{names.DATA_PREFIX}{names.API}"
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer x"}, trust_env=False, timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join(30)


def said_by(answer: httpx.Response) -> dict[str, Any]:
    """What a service says whose database is away."""
    assert answer.status_code == 503, answer.text
    said: dict[str, Any] = answer.json()
    assert said["code"] == "unavailable"
    assert "database" in said["detail"]
    assert said["remedy"]
    assert not [word for word in INTERNALS if word in answer.text], answer.text
    return said


def slot_after(workplace: Workplace, job: dict[str, Any], number: int = 0) -> datetime:
    """Move the clock to just after the job's next slot, or one further on; the slot."""
    slot = datetime.fromisoformat(job["next_firings"][number])
    workplace.clock.offset = slot - datetime.now(UTC) + timedelta(seconds=1)
    return slot


def told(database_url: str, action: str) -> list[str]:
    """What the audit trail names under an action, read past the relay."""
    database = Database(database_url)
    rows = schema.audit_rows
    with database.read() as connection:
        found = list(connection.scalars(sa.select(rows.c.what).where(rows.c.action == action)))
    database.close()
    return found


def test_core_without_its_database_says_so_and_goes_on_by_itself(workplace: Workplace, relay: Relay) -> None:
    headers = {"Authorization": "Bearer alice-token"}
    ask = job_request("1", schedule=HOURLY)
    with raw(workplace) as http:
        job = http.post("/api/v1/jobs", headers=headers, json=ask).json()
        relay.cut()  # what the pool holds is dead, and nobody notices
        assert http.get("/api/v1/jobs", headers=headers).status_code == 200
        relay.go_away()
        for method, path, body in (
            ("GET", "/jobs", None),
            ("POST", "/jobs", job_request("1")),
            ("PATCH", f"/jobs/{job['id']}", {"paused": True}),
            ("POST", f"/jobs/{job['id']}/runs", {}),
            ("DELETE", f"/jobs/{job['id']}", None),
        ):
            said_by(http.request(method, f"/api/v1{path}", headers=headers, json=body))
        assert http.get("/health").status_code == 200
        relay.come_back()
        listed = http.get("/api/v1/jobs", headers=headers).json()["items"]
        assert [(found["name"], found["paused"]) for found in listed] == [(ask["name"], False)]
        assert http.post("/api/v1/jobs", headers=headers, json=job_request("1")).status_code == 201


def test_data_without_its_database_says_so_and_goes_on_by_itself(
    tmp_path: Path, database_url: str, relay: Relay
) -> None:
    wanted = {"name": "sales", "driver": "duckdb", "options": {"path": str(tmp_path / "sales")}, "description": ""}
    grant = {"group": "research", "connection": "sales", "schemas": ["main"], "tables": ["*"]}
    (tmp_path / "sales").mkdir()
    with data_service(tmp_path / "home", relay.url(database_url)) as data:
        assert data.post("/connections", json=wanted).status_code == 201
        relay.go_away()
        for method, path, body in (
            ("GET", "/connections", None),
            ("POST", "/connections", wanted | {"name": "more"}),
            ("PUT", "/grants", grant),
            ("POST", "/connections/sales/query", {"sql": "SELECT 1"}),
        ):
            said_by(data.request(method, path, json=body))
        relay.come_back()
        assert [found["name"] for found in data.get("/connections").json()["items"]] == ["sales"]
        relay.lose_reply(b"grant.create")
        assert "may have been kept" in said_by(data.put("/grants", json=grant))["remedy"]
        assert len(data.get("/grants").json()) == 1
        assert data.put("/grants", json=grant).status_code == 200
        assert len(data.get("/grants").json()) == 1


def test_a_stream_of_events_goes_on_when_the_database_is_back(alice: Client, relay: Relay) -> None:
    with alice.stream_core("GET", "/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": ready"
        before = relay.turned_away
        relay.go_away()
        eventually(lambda: relay.turned_away > before + 2, seconds=30, what="some that are turned away")
        relay.come_back()
        job = eventually(lambda: submitted(alice), seconds=30, what="a job")
        assert next(line for line in lines if job["id"] in line).startswith("data: ")


def submitted(client: Client) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.core("POST", "/jobs", json=job_request("1"))
    except Unavailable:
        return None
    return found


def test_a_slot_that_came_while_the_database_was_away_is_fired_once(
    alice: Client, workplace: Workplace, relay: Relay, database_url: str, wait_for_log: Callable[[str], None]
) -> None:
    workplace.ledger.limit = 0
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=HOURLY, policy={"overlap": "queue"}))
    relay.go_away()
    slot = slot_after(workplace, job)
    wait_for_log("the scheduler waits for its database")
    relay.come_back()
    (run,) = eventually(lambda: runs_of(alice, job), seconds=30, what="the run")
    assert datetime.fromisoformat(run["slot"]) == slot
    slot_after(workplace, job, 1)
    eventually(lambda: len(runs_of(alice, job)) == 2, seconds=30, what="the next slot's run")
    assert told(database_url, "schedule.fire") == [job["id"]] * 2


def test_a_lost_reply_to_commit_fires_no_slot_twice(
    alice: Client, workplace: Workplace, relay: Relay, database_url: str
) -> None:
    workplace.ledger.limit = 0
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=HOURLY, policy={"overlap": "queue"}))
    relay.lose_reply(b"schedule.fire")
    slot_after(workplace, job)
    assert relay.lost.wait(30)
    slot_after(workplace, job, 1)
    eventually(lambda: len(runs_of(alice, job)) == 2, seconds=30, what="the next slot's run")
    assert sorted(run["slot"] for run in runs_of(alice, job)) == sorted(job["next_firings"][:2])
    assert told(database_url, "schedule.fire") == [job["id"]] * 2


def test_who_loses_the_reply_to_a_submission_is_told_to_look_and_finds_it_once(
    alice: Client, workplace: Workplace, relay: Relay
) -> None:
    workplace.ledger.limit = 0
    request = job_request("1")
    relay.lose_reply(b"job.create")
    with pytest.raises(Unavailable) as lost:
        alice.core("POST", "/jobs", json=request)
    assert "may have been kept" in lost.value.remedy
    (job,) = alice.core("GET", "/jobs")["items"]
    with pytest.raises(Conflict):
        alice.core("POST", "/jobs", json=request)
    relay.lose_reply(b"run.create")
    with pytest.raises(Unavailable, match="database") as lost:
        alice.core("POST", f"/jobs/{job['id']}/runs", json={})
    assert "may have been kept" in lost.value.remedy
    assert [run["number"] for run in runs_of(alice, job)] == [1]


def test_a_reservation_whose_reply_was_lost_is_taken_once(database_url: str, relay: Relay) -> None:
    database, now = Database(relay.url(database_url)), datetime.now(UTC)
    database.migrate(schema.MIGRATIONS)
    ledger = SqlLedger(lambda: Workbench(profiles=()))
    ask = ReservationRequest(user="alice", kind="server", key="server:alice/", ask=Ask(cpu=1, memory_bytes=1))

    def reserve() -> str:
        with database.write() as connection:
            return ledger.reserve(connection, ask, now=now).id

    relay.lose_reply(b"server:alice/")
    with pytest.raises(Unavailable, match="database"):
        reserve()
    with database.read() as connection:
        (held,) = ledger.live(connection, now=now)
    assert reserve() == held.id
    database.close()


WAITING = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"


@pytest.mark.parametrize("meanwhile", ["it goes on", "it ends"])
def test_a_run_outlives_a_database_that_is_away_for_longer_than_its_lease(
    meanwhile: str,
    alice: Client,
    workplace: Workplace,
    relay: Relay,
    database_url: str,
    wait_for_log: Callable[[str], None],
) -> None:
    home = workplace.home("alice")
    run = start(alice, job_request(WAITING, "pathlib.Path('done').touch()\nprint('there')"))
    in_state(alice, run, "running", cell=0)
    relay.go_away()
    if meanwhile == "it ends":
        (home / "go").touch()
        eventually((home / "done").exists, seconds=30, what="the last cell")
    wait_for_log("the scheduler waits for its database")
    workplace.clock.offset += timedelta(minutes=10)
    relay.come_back()
    eventually(lambda: alice.core("GET", f"/runs/{run['id']}"), seconds=30, what="core's answer")
    wait_for_log("the scheduler goes on")
    (home / "go").touch()
    done = ended(alice, run)
    assert (done["state"], done["attempt"]) == ("succeeded", 1), done
    assert told(database_url, "run.end") == [run["id"]]


LOST_BY_A_RUNNER = {"a heartbeat": (b"running", b"runner-"), "the commit": (b"run.end",)}


@pytest.mark.parametrize("which", LOST_BY_A_RUNNER)
def test_a_runner_that_lost_a_reply_says_it_again_and_its_run_ends_once(
    which: str, alice: Client, workplace: Workplace, relay: Relay, database_url: str
) -> None:
    run = start(alice, job_request(WAITING))
    in_state(alice, run, "running")
    relay.lose_reply(*LOST_BY_A_RUNNER[which])
    if which == "a heartbeat":
        assert relay.lost.wait(30)
    (workplace.home("alice") / "go").touch()
    done = ended(alice, run)
    assert relay.lost.is_set()
    assert (done["state"], done["attempt"]) == ("succeeded", 1), done
    again = ended(alice, alice.core("POST", f"/jobs/{run['job_id']}/runs", json={}))
    assert again["state"] == "succeeded"
    assert told(database_url, "run.end") == [run["id"], again["id"]]


def test_a_run_whose_lease_was_lost_on_the_way_is_leased_again_and_ends_once(
    alice: Client, workplace: Workplace, relay: Relay, database_url: str
) -> None:
    relay.lose_reply(b"leased", b"runner-")
    run = start(alice, job_request("1"))
    assert relay.lost.wait(60)
    workplace.clock.offset += timedelta(seconds=31)
    done = ended(alice, run)
    assert (done["state"], done["attempt"]) == ("succeeded", 2), done
    assert told(database_url, "run.end") == [run["id"]]
