"""The rows of the Jobs panel, and what the form that schedules a notebook asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from labwright.api import jobs
from labwright.api.errors import BadSchedule, Conflict

from .notebook import NOTEBOOK, SCHEMA
from .world import CORE, NOW, World, one

WAITS = (
    "It waits: 3 of your runs go on, as many as one person may have at a time. "
    "It starts when one of them ends; cancel one to start this one sooner."
)


def run(number: int, state: jobs.RunState, minutes: float, **more: Any) -> jobs.Run:
    created = NOW - timedelta(minutes=minutes)
    done = state in jobs.FINAL_STATES
    return jobs.Run(
        **{
            "id": f"r{number}",
            "number": number,
            "job_id": "j1",
            "job_name": "late_flights",
            "owner": "alice",
            "state": state,
            "trigger": "manual",
            "attempt": 1,
            "parameters": {"carrier": "UA", "month": 7},
            "profile": "small",
            "notebook_path": "late_flights.ipynb",
            "source_digest": "sha256:5ba93c9d",
            "cell": 4 if state == "succeeded" else 0,
            "cells": 4,
            "created": created,
            "started": None if state == "queued" else created + timedelta(seconds=2),
            "finished": created + timedelta(seconds=74) if done else None,
            "cost": 0.004,
            "peak_memory_bytes": 432_013_312,
            "cpu_seconds": 61.2,
            "mlflow_run_id": "m1",
            "mlflow_experiment_id": "1",
            **more,
        }
    )


def job(key: str, name: str, schedule: jobs.Schedule | None, last: jobs.Run | None) -> jobs.Job:
    return jobs.Job(
        id=key,
        name=name,
        owner="alice",
        notebook_path=f"{name}.ipynb",
        source_digest="sha256:5ba93c9d",
        follow=False,
        parameters={},
        parameters_schema=SCHEMA,
        profile="small",
        schedule=schedule,
        next_firings=firings() if schedule else [],
        policy=jobs.Policy(),
        created=NOW,
        updated=NOW,
        last_run=last,
    )


def firings() -> list[datetime]:
    first = NOW.replace(hour=5, minute=0, second=0, microsecond=0)
    return [first + timedelta(days=day) for day in (1, 2, 3)]


def add_jobs(app: FastAPI, world: World) -> None:
    failed = jobs.CellError(
        cell=2, name="ValueError", message="no flights for carrier ZZ", traceback="ValueError: no flights"
    )
    runs = [
        run(3, "running", 0.4, cell=2),
        run(2, "failed", 95, error=failed, reason="Cell 3 raised.", parameters={"carrier": "ZZ", "month": 7}),
        run(1, "succeeded", 1500, trigger="schedule", slot=NOW - timedelta(days=1), source_digest="sha256:07e4"),
    ]
    daily = jobs.Schedule(cron="0 6 * * *", timezone="Europe/Berlin")
    waits = run(1, "queued", 3, id="w1", job_id="j2", job_name="clean weather", reason=WAITS)
    runs.append(waits)
    listed = [job("j1", "late_flights", daily, runs[0]), job("j2", "clean weather", None, waits)]

    @app.get(f"{CORE}/jobs")
    def get_jobs(search: str = "", name: str = "", notebook: str = "") -> jobs.JobPage:
        found = [] if world.fault == "empty" else [each for each in listed if search in each.name]
        found = [each for each in found if name in ("", each.name) and notebook in ("", each.notebook_path)]
        return jobs.JobPage(items=found)

    @app.post(f"{CORE}/jobs", status_code=201)
    def post_job(ask: jobs.JobRequest) -> jobs.Job:
        made = job(f"j{len(listed) + 1}", ask.name, ask.schedule, None)
        listed.insert(0, made)
        return made

    @app.post(CORE + "/jobs/{key}/runs", status_code=201)
    def post_run(key: str, ask: jobs.RunRequest) -> jobs.Run:
        made = run(len(runs) + 1, "queued", 0, job_id=key, parameters={"carrier": "UA", **ask.parameters})
        runs.insert(0, made)
        return made

    add_deletion(app, listed)
    add_runs(app, world, runs)
    add_form(app)


def add_deletion(app: FastAPI, listed: list[jobs.Job]) -> None:
    gone: list[jobs.Job] = []

    @app.delete(CORE + "/jobs/{key}", status_code=204)
    def delete_job(key: str) -> None:
        deleted = one(listed, key)
        listed.remove(deleted)
        gone.append(deleted)

    @app.post(CORE + "/jobs/{key}/restore")
    def restore_job(key: str) -> jobs.Job:
        restored: jobs.Job = one(gone, key)
        if any(each.name == restored.name for each in listed):
            raise Conflict(f"You have another job '{restored.name}' by now.", remedy="Delete that one.")
        gone.remove(restored)
        listed.append(restored)
        return restored


def add_runs(app: FastAPI, world: World, runs: list[jobs.Run]) -> None:
    @app.get(f"{CORE}/runs")
    def get_runs(job: str | None = None) -> jobs.RunPage:
        return jobs.RunPage(items=[each for each in runs if job in (None, each.job_id)])

    @app.get(CORE + "/runs/{key}")
    def get_run(key: str) -> jobs.Run:
        return one(runs, key)

    @app.post(CORE + "/runs/{key}/cancel")
    def cancel(key: str) -> jobs.Run:
        old = one(runs, key)
        new = old.model_copy(update={"state": "cancelled", "finished": datetime.now(UTC)})
        runs[runs.index(old)] = new
        world.changes.put_nowait({"topic": "run", "key": key})
        return new

    @app.get(CORE + "/runs/{key}/notebook")
    def notebook(key: str) -> dict[str, Any]:
        return NOTEBOOK

    @app.get(CORE + "/runs/{key}/source")
    def source(key: str) -> dict[str, Any]:
        cells = [{**cell, "outputs": [], "execution_count": None} for cell in NOTEBOOK["cells"]]
        if one(runs, key).number == 1:
            cells[-1]["source"] = "fit(flights, depth=6)"
        return {**NOTEBOOK, "cells": cells}

    @app.get(CORE + "/runs/{key}/log")
    def log(key: str) -> PlainTextResponse:
        return PlainTextResponse("12:00:01 kernel started\n12:00:03 cell 2 of 4\n")


def add_form(app: FastAPI) -> None:
    @app.post(f"{CORE}/notebooks/inspect")
    def inspect(ask: jobs.InspectRequest) -> jobs.Inspection:
        return jobs.Inspection(parameters_schema=SCHEMA, kernel="python3", cells=3)

    @app.post(f"{CORE}/schedules/preview")
    def preview(ask: jobs.Schedule) -> jobs.SchedulePreview:
        if len(ask.cron.split()) != 5:
            raise BadSchedule(
                f"'{ask.cron}' is not a cron line.", remedy="Give five fields: minute hour day month weekday."
            )
        return jobs.SchedulePreview(next_firings=firings(), sentence=f"Every day at 06:00 ({ask.timezone})")
