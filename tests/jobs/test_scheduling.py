"""The scheduler and the routes of a real core; runners only where said."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute

from labwright.api import names
from labwright.api.client import Client
from labwright.api.errors import (
    BadParameter,
    BadSchedule,
    Conflict,
    InvalidRequest,
    NotFound,
    UnknownParameter,
)
from labwright.api.job_client import JobClient
from labwright.hub.jobs import protocol, routes
from labwright.hub.jobs.scheduler import choose_slots
from labwright.hub.tokens import Signer, load_private_key

from .conftest import Workplace, job_request, raw, wait_until
from .test_runs import ended, in_state, start

SIX = {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}


def runs_of(client: Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.core("GET", "/runs", params={"job": job["id"]})["items"]
    return found


def test_a_moved_clock_fires_the_schedule_once(alice: Client, workplace: Workplace) -> None:
    job = alice.core("POST", "/jobs", json=job_request("1 + 1", schedule=SIX))
    slot = datetime.fromisoformat(job["next_firings"][0])
    workplace.clock.offset = slot - datetime.now(UTC) + timedelta(seconds=1)
    run = wait_until(lambda: runs_of(alice, job))[0]
    assert (run["trigger"], datetime.fromisoformat(run["slot"])) == ("schedule", slot)
    assert ended(alice, run)["state"] == "succeeded"
    assert len(runs_of(alice, job)) == 1
    assert alice.core("GET", f"/jobs/{job['id']}")["next_firings"][0] == job["next_firings"][1]


def test_a_day_of_downtime_makes_one_run_by_default(alice: Client, workplace: Workplace) -> None:
    workplace.ledger.limit = 0
    ask = job_request("1", schedule={"cron": "0 * * * *", "timezone": "UTC"})
    once = alice.core("POST", "/jobs", json={**ask, "name": "once"})
    skip = alice.core("POST", "/jobs", json={**ask, "name": "skip", "policy": {"misfire": "skip"}})
    all_ = {"misfire": "all", "overlap": "queue"}
    every = alice.core("POST", "/jobs", json={**ask, "name": "all", "policy": all_})
    workplace.stop_serving()
    workplace.clock.fixed = datetime.fromisoformat(once["next_firings"][0]) + timedelta(hours=23, minutes=30)
    workplace.serve()
    wait_until(lambda: len(runs_of(alice, every)) == 24)
    assert len(runs_of(alice, once)) == 1
    assert runs_of(alice, skip) == []


def test_slots_are_chosen_by_the_misfire_policy() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    old, fresh = now - timedelta(hours=1), now - timedelta(seconds=5)
    assert choose_slots([old, fresh], "once", now) == [fresh]
    assert choose_slots([old], "once", now) == [old]
    assert choose_slots([old], "skip", now) == []
    assert choose_slots([old, fresh], "all", now) == [old, fresh]


def test_a_paused_schedule_rests_and_resumes_with_its_next_slot(alice: Client, workplace: Workplace) -> None:
    workplace.ledger.limit = 0
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=SIX))
    assert alice.core("PATCH", f"/jobs/{job['id']}", json={"paused": True})["next_firings"] == []
    workplace.clock.offset = timedelta(days=3)
    resumed = alice.core("PATCH", f"/jobs/{job['id']}", json={"paused": False})
    assert datetime.fromisoformat(resumed["next_firings"][0]) > workplace.clock()
    assert runs_of(alice, job) == []


def test_the_job_of_somebody_who_left_is_paused_and_whoever_looks_is_told(alice: Client, workplace: Workplace) -> None:
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=SIX))
    workplace.left.add("alice")
    with alice.stream_core("GET", "/events", params={"after": 0}) as answer:
        workplace.clock.offset = timedelta(days=3)
        told = next(line for line in answer.iter_lines() if '"updated"' in line)
    paused = alice.core("GET", f"/jobs/{job['id']}")
    assert (paused["paused"], paused["reason"]) == (True, "Its owner is no longer known to the hub.")
    assert job["id"] in told
    assert runs_of(alice, job) == []


def reason_of(client: Client, run: dict[str, Any], what: str) -> str:
    """Why the queued run waits, once that has to do with `what`."""

    def look() -> str | None:
        found = client.core("GET", f"/runs/{run['id']}")
        assert found["state"] == "queued"
        return found["reason"] if what in (found["reason"] or "") else None

    reason: str = wait_until(look, 30, what=f"a reason with '{what}'")
    return reason


def test_a_run_that_waits_for_its_turn_says_for_what_and_what_to_do(
    alice: Client, bob: Client, workplace: Workplace
) -> None:
    workplace.settings.python("user").write_text("#!/bin/sh\nexec sleep 600\n")  # runs hold their places
    workplace.ledger.limit = 1000
    most = max(4, os.cpu_count() or 1)
    hers = [start(alice, job_request("1")) for _ in range(most)]
    waits = reason_of(alice, hers[-1], "one person")
    assert waits == (
        f"It waits: {most - 1} of your runs go on, as many as one person may have at a time. "
        "It starts when one of them ends; cancel one to start this one sooner."
    )
    his = [start(bob, job_request("1")) for _ in range(2)]
    assert reason_of(bob, his[1], "machine") == (
        f"It waits: {most} runs go on, as many as this machine takes at a time. It starts when one of them ends."
    )
    alice.core("POST", f"/runs/{hers[0]['id']}/cancel")
    wait_until(lambda: bob.core("GET", f"/runs/{his[1]['id']}")["reason"] is None, 30)
    assert f"run:{his[1]['id']}" in workplace.ledger.live
    reason_of(alice, hers[-1], "machine")


def test_a_run_that_waits_for_the_one_before_it_says_so_to_whoever_looks(alice: Client, workplace: Workplace) -> None:
    workplace.settings.python("user").write_text("#!/bin/sh\nexec sleep 600\n")
    first = start(alice, job_request("1", policy={"overlap": "queue"}))
    wait_until(lambda: workplace.ledger.live, 30)
    second = alice.core("POST", f"/jobs/{first['job_id']}/runs", json={})
    assert reason_of(alice, second, "before") == (
        "It waits for the run of its job before it. It starts when that one ends; cancel that one to start it sooner."
    )
    with alice.stream_core("GET", "/events", params={"after": 0}) as answer:
        told = (line for line in answer.iter_lines() if second["id"] in line)
        assert "created" in next(told)
        assert "updated" in next(told)
    alice.core("POST", f"/runs/{first['id']}/cancel")
    wait_until(lambda: alice.core("GET", f"/runs/{second['id']}")["reason"] is None, 30)


def test_bad_requests_say_what_is_wrong(alice: Client) -> None:
    ask = job_request("1", parameters="month: int = 7")
    for change, kind in (
        ({"parameters": {"monht": 7}}, UnknownParameter),
        ({"parameters": {"month": "7"}}, BadParameter),
        ({"schedule": {"cron": "0 0 30 2 *", "timezone": "UTC"}}, BadSchedule),
        ({"schedule": {"cron": "0 6 * * *", "timezone": "Mars"}}, BadSchedule),
        ({"profile": "huge"}, InvalidRequest),
        ({"surprise": 1}, InvalidRequest),
    ):
        with pytest.raises(kind):
            alice.core("POST", "/jobs", json={**ask, **change})
    job = alice.core("POST", "/jobs", json=ask)
    with pytest.raises(Conflict):
        alice.core("POST", "/jobs", json=ask)
    with pytest.raises(UnknownParameter):
        alice.core("POST", f"/jobs/{job['id']}/runs", json={"parameters": {"x": 1}})


def test_what_is_somebody_elses_does_not_exist(alice: Client, bob: Client, workplace: Workplace) -> None:
    workplace.ledger.limit = 0
    run = start(alice, job_request("1"))
    job_path, run_path = f"/jobs/{run['job_id']}", f"/runs/{run['id']}"
    for method, path, body in (
        ("GET", job_path, None),
        ("PATCH", job_path, {"paused": True}),
        ("DELETE", job_path, None),
        ("POST", f"{job_path}/restore", None),
        ("POST", f"{job_path}/runs", {}),
        ("GET", run_path, None),
        ("POST", f"{run_path}/cancel", None),
        ("GET", f"{run_path}/notebook", None),
        ("GET", f"{run_path}/source", None),
        ("GET", f"{run_path}/log", None),
        ("POST", f"{run_path}/tracking", {"experiment_id": "1", "run_id": "x"}),
    ):
        with pytest.raises(NotFound):
            bob.core(method, path, json=body)
    assert bob.core("GET", "/runs")["items"] == bob.core("GET", "/jobs")["items"] == []


def test_a_profile_is_for_its_groups(alice: Client, bob: Client, workplace: Workplace) -> None:
    workplace.ledger.limit = 0
    assert alice.core("POST", "/jobs", json=job_request("1", profile="gpu"))["profile"] == "gpu"
    with pytest.raises(InvalidRequest, match="gpu"):
        bob.core("POST", "/jobs", json=job_request("1", profile="gpu"))


def test_a_runner_is_shown_the_gpus_of_its_profile(alice: Client, workplace: Workplace) -> None:
    for profile, gpus in (("small", 0), ("gpu", 1)):
        assert ended(alice, start(alice, job_request("1", profile=profile)))["state"] == "succeeded"
        assert workplace.launcher.limits[profile].gpus == gpus


def test_lists_come_in_pages(alice: Client, workplace: Workplace) -> None:
    workplace.ledger.limit = 0
    for number in range(5):
        alice.core("POST", "/jobs", json={**job_request("1"), "name": f"job {number} 50%_"})
    first = alice.core("GET", "/jobs", params={"limit": 3})
    second = alice.core("GET", "/jobs", params={"limit": 3, "after": first["next"]})
    assert [job["name"][4] for job in first["items"] + second["items"]] == ["4", "3", "2", "1", "0"]
    assert second["next"] is None
    assert len(alice.core("GET", "/jobs", params={"search": "3 50%_"})["items"]) == 1
    assert alice.core("GET", "/jobs", params={"search": "%3"})["items"] == []


def test_jobs_are_found_by_their_whole_name_or_notebook(alice: Client, bob: Client) -> None:
    content = job_request("1")["notebook"]["content"]
    for client, name, path in (
        (alice, "late", "a/late.ipynb"),
        (alice, "late too", "a/late.ipynb"),
        (alice, "later", "a/a/late.ipynb"),
        (bob, "late", "a/late.ipynb"),
    ):
        client.core("POST", "/jobs", json={"name": name, "notebook": {"path": path, "content": content}})

    def found(**asked: Any) -> list[str]:
        return [job["name"] for job in alice.core("GET", "/jobs", params=asked)["items"]]

    assert found(name="late") == ["late"]
    assert found(notebook="a/late.ipynb") == ["late too", "late"]
    assert found(notebook="a/late.ipynb", name="late") == ["late"]
    assert found(notebook="late.ipynb") == found(name="Late") == found(name="") == []


def test_each_kept_run_of_a_job_is_found_by_its_number(
    alice: Client, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace.ledger.limit = 0
    run = start(alice, job_request("1"))
    job = alice.core("GET", f"/jobs/{run['job_id']}")
    others = [alice.core("POST", f"/jobs/{job['id']}/runs", json={}) for _ in range(2)]
    numbered = alice.core("GET", "/runs", params={"job": job["id"], "number": 2})
    assert [found["id"] for found in numbered["items"]] == [others[0]["id"]]
    asked: list[Any] = []
    core = alice.core

    def remember(method: str, path: str, **more: Any) -> Any:
        asked.append(more.get("params"))
        return core(method, path, **more)

    monkeypatch.setattr(alice, "core", remember)
    assert JobClient(alice).find_run(f"{job['name']}#1").id == run["id"]
    assert asked[-1] == {"job": job["id"], "number": 1}  # not a page of the newest, which may lack it
    for reference in ("#9", "#first", "#0"):
        with pytest.raises(NotFound):
            JobClient(alice).find_run(job["name"] + reference)


def all_routes() -> list[tuple[str, str]]:
    both = ((names.API, routes.router), ("", protocol.router))
    return [
        (method, prefix + route.path.replace("{job_id}", "job-x").replace("{run_id}", "run-x"))
        for prefix, router in both
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    ]


def test_every_route_refuses_without_a_token_and_with_a_wrong_one(workplace: Workplace) -> None:
    listed = all_routes()
    assert len(listed) == 21
    key = load_private_key(workplace.settings.signing_key_file)
    runner = Signer(key).mint("alice", "runner", [names.SCOPE_RUNNER])
    expired = Signer(key, now=lambda: 1000.0).mint("alice", "run", names.USER_SCOPES, run_id="run-x", attempt=1)
    with raw(workplace) as http:
        for method, path in listed:
            assert http.request(method, path).status_code == 401, path
            for token in ("nobody", expired, "a.b.c"):
                headers = {"Authorization": f"Bearer {token}"}
                assert http.request(method, path, headers=headers, json={}).status_code == 401, path
            other = "alice-token" if path.startswith("/runner") else runner
            headers = {"Authorization": f"Bearer {other}"}
            assert http.request(method, path, headers=headers, json={}).status_code == 403, path


def test_a_stale_commit_is_refused_and_a_repeated_one_is_not(alice: Client, workplace: Workplace) -> None:
    """By hand what a runner does, so that nothing but the protocol is between the test and core."""

    workplace.settings.python("user").write_text("#!/bin/sh\nexec sleep 600\n")  # runners that never lease
    run = start(alice, job_request("1"))
    key = load_private_key(workplace.settings.signing_key_file)
    runner = Signer(key).mint("alice", "runner", [names.SCOPE_RUNNER])
    with raw(workplace) as http:

        def post(path: str, token: str, body: Any) -> Any:
            return http.post(f"/runner/v1{path}", headers={"Authorization": f"Bearer {token}"}, json=body)

        def lease() -> dict[str, Any] | None:
            body = {"runner_id": "by-hand", "profile": "small", "wait_seconds": 1}
            found: dict[str, Any] | None = post("/lease", runner, body).json()["run"]
            return found

        first = wait_until(lease)
        workplace.clock.offset += timedelta(seconds=31)
        second = wait_until(lease)
        assert (first["attempt"], second["attempt"]) == (1, 2)
        commit = {"state": "succeeded", "notebook": None}
        path = f"/runs/{run['id']}/commit"
        stale = post(path, first["token"], commit)
        assert (stale.status_code, stale.json()["code"]) == (409, "stale-attempt")
        assert post(f"/runs/{run['id']}/heartbeat", first["token"], {}).status_code == 409
        assert post(path, second["run_token"], commit).status_code == 403
        assert post(path, second["token"], commit).status_code == 204
        assert post(path, second["token"], commit).status_code == 204
        assert post(path, first["token"], commit).status_code == 409
    assert alice.core("GET", f"/runs/{run['id']}")["state"] == "succeeded"


DEATHS = {
    "import os\nos.kill(os.getpid(), 11)": ("SIGSEGV", "update the package"),
    "import os\nos._exit(3)": ("exit status 3", "os._exit"),
    "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(60)": ("was lost", "Run it again"),
}


@pytest.mark.parametrize("source", DEATHS)
def test_a_death_is_explained_in_the_run_with_its_remedy(source: str, alice: Client) -> None:
    run = start(alice, job_request(source))
    done = ended(alice, run)
    assert done["state"] == "failed"
    began, finished = (datetime.fromisoformat(done[which]) for which in ("started", "finished"))
    assert finished - began < timedelta(seconds=10)
    for part in DEATHS[source]:
        assert part in done["reason"]


def test_deleting_a_job_cancels_what_of_it_runs(alice: Client) -> None:
    run = start(alice, job_request("import time\ntime.sleep(600)"))
    in_state(alice, run, "running")
    alice.core("DELETE", f"/jobs/{run['job_id']}")
    assert ended(alice, run)["state"] == "cancelled"
    assert alice.core("GET", "/jobs")["items"] == []


def test_a_restored_job_goes_on_with_its_next_slot_and_what_was_stopped_stays_so(
    alice: Client, workplace: Workplace
) -> None:
    workplace.ledger.limit = 0
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=SIX))
    run = alice.core("POST", f"/jobs/{job['id']}/runs", json={})
    alice.core("DELETE", f"/jobs/{job['id']}")
    (deleted,) = alice.core("GET", "/jobs", params={"deleted": True})["items"]
    assert (deleted["id"], deleted["next_firings"]) == (job["id"], [])
    workplace.clock.offset = timedelta(days=3)
    restored = alice.core("POST", f"/jobs/{job['id']}/restore")
    assert (restored["name"], restored["schedule"]) == (job["name"], SIX)
    assert restored["last_run"]["state"] == "cancelled"
    slot = datetime.fromisoformat(restored["next_firings"][0])
    assert slot > workplace.clock()
    assert alice.core("GET", "/jobs", params={"deleted": True})["items"] == []
    workplace.clock.offset = slot - datetime.now(UTC) + timedelta(seconds=1)
    wait_until(lambda: len(runs_of(alice, job)) == 2, what="the next slot")
    fired, stopped = runs_of(alice, job)
    assert datetime.fromisoformat(fired["slot"]) == slot  # and none of the three days between
    assert (stopped["id"], stopped["reason"]) == (run["id"], "Its job was deleted.")


def test_following_the_notebook_is_switched_on_and_off_and_all_else_stays(alice: Client, bob: Client) -> None:
    job = alice.core("POST", "/jobs", json=job_request("1", schedule=SIX))
    assert job["follow"] is False
    on = alice.core("PATCH", f"/jobs/{job['id']}", json={"follow": True})
    assert on == {**job, "follow": True, "updated": on["updated"]}
    other = alice.core("PATCH", f"/jobs/{job['id']}", json={"profile": "small"})
    assert other["follow"] is True  # nothing was said of it
    with pytest.raises(NotFound):
        bob.core("PATCH", f"/jobs/{job['id']}", json={"follow": False})
    off = alice.core("PATCH", f"/jobs/{job['id']}", json={"follow": False})
    assert off == {**job, "updated": off["updated"]}


def test_a_job_is_restored_once_told_and_written_down(alice: Client) -> None:
    job = alice.core("POST", "/jobs", json=job_request("1"))
    alice.core("DELETE", f"/jobs/{job['id']}")
    with alice.stream_core("GET", "/events", params={"after": 0}) as answer:
        lines = answer.iter_lines()
        for _ in range(2):  # a second Undo finds the job there and changes nothing
            assert alice.core("POST", f"/jobs/{job['id']}/restore")["id"] == job["id"]
        alice.core("PATCH", f"/jobs/{job['id']}", json={"paused": True})
        told: list[str] = []
        while "updated" not in told:
            line = next(lines)
            if line.startswith("data: {") and line != "data: {}":
                told.append(json.loads(line.removeprefix("data: "))["action"])
    assert told == ["created", "deleted", "restored", "updated"]


def test_a_name_that_was_taken_meanwhile_keeps_a_job_deleted_and_says_what_to_do(alice: Client) -> None:
    ask = job_request("1")
    job = alice.core("POST", "/jobs", json=ask)
    alice.core("DELETE", f"/jobs/{job['id']}")
    other = alice.core("POST", "/jobs", json=ask)
    with pytest.raises(Conflict) as caught:
        alice.core("POST", f"/jobs/{job['id']}/restore")
    assert str(caught.value) == f"You have another job '{ask['name']}' by now."
    assert caught.value.remedy == "Delete that one or give it another name, then restore this one."
    alice.core("PATCH", f"/jobs/{other['id']}", json={"name": f"{ask['name']} (new)"})
    alice.core("POST", f"/jobs/{job['id']}/restore")
    assert {item["id"] for item in alice.core("GET", "/jobs")["items"]} == {job["id"], other["id"]}


def test_anothers_deleted_job_does_not_exist(alice: Client, bob: Client) -> None:
    job = alice.core("POST", "/jobs", json=job_request("1"))
    alice.core("DELETE", f"/jobs/{job['id']}")
    for job_id in (job["id"], "job-" + "0" * 20):
        with pytest.raises(NotFound):
            bob.core("POST", f"/jobs/{job_id}/restore")
    assert bob.core("GET", "/jobs", params={"deleted": True})["items"] == []
    with pytest.raises(NotFound):
        alice.core("GET", f"/jobs/{job['id']}")


def test_the_api_names_schedules_and_parameters(alice: Client) -> None:
    preview = alice.core("POST", "/schedules/preview", json=SIX)
    assert preview["sentence"] == "Every day at 06:00 (Europe/Berlin)"
    assert len(preview["next_firings"]) == 3
    content = job_request("1", parameters="month: int = 7")["notebook"]["content"]
    found = alice.core("POST", "/notebooks/inspect", json={"content": content})
    assert json.dumps(found["parameters_schema"]["properties"]) == '{"month": {"type": "integer", "default": 7}}'
    assert found["cells"] == 2
