"""Core and data as the panels see them: our own HTTP contract with believable rows, no work behind it.

For developing the panels and for their browser test only; the models are those of labwright.api, so a change of the
contract breaks here too. `LW_FAULT` (empty, down, nothing) makes the other states of the lists.

    python tests/lab/stand_in.py 26003
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from labwright.api import clusters, connections, jobs, usage
from labwright.api.errors import BadSchedule, Conflict, LabwrightError, NotFound, QuotaExceeded, Unavailable

NOW = datetime.now(UTC)
GIB = 1024**3
SCHEMA = {
    "type": "object",
    "properties": {
        "carrier": {"type": "string", "default": "UA", "description": "Two letters of the airline."},
        "month": {"type": "integer", "default": 7, "minimum": 1, "maximum": 12},
        "threshold": {"type": "number", "default": 15.0},
        "plot": {"type": "boolean", "default": True},
        "airports": {"type": "array", "default": ["JFK", "LGA"]},
    },
    "additionalProperties": False,
}
NOTEBOOK: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Late flights\nOne carrier, one month."},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"tags": ["parameters"]},
            "execution_count": 1,
            "outputs": [],
            "source": 'carrier: str = "UA"\nmonth: int = 7',
        },
        {
            "cell_type": "code",
            "id": "c",
            "metadata": {"trusted": True, "papermill": {"duration": 1.24}},
            "execution_count": 2,
            "outputs": [
                {
                    "output_type": "display_data",
                    "metadata": {},
                    "data": {
                        "text/html": "<table><tr><th>month</th><th>late</th></tr>"
                        "<tr><td>7</td><td>0.31</td></tr></table>"
                        "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
                    },
                },
                {"output_type": "display_data", "metadata": {}, "data": {"application/javascript": "window.pwned = 3"}},
            ],
            "source": "flights.groupby('month').late.mean()",
        },
        {
            "cell_type": "code",
            "id": "d",
            "metadata": {"papermill": {"duration": 68.3}},
            "execution_count": 3,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "fitted 57 431 rows\n"}],
            "source": "fit(flights)",
        },
    ],
}


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


class World:
    """What the stand-in remembers while it runs."""

    def __init__(self) -> None:
        failed = jobs.CellError(
            cell=2, name="ValueError", message="no flights for carrier ZZ", traceback="ValueError: no flights"
        )
        self.runs = [
            run(3, "running", 0.4, cell=2),
            run(2, "failed", 95, error=failed, reason="Cell 3 raised.", parameters={"carrier": "ZZ", "month": 7}),
            run(1, "succeeded", 1500, trigger="schedule", slot=NOW - timedelta(days=1), source_digest="sha256:07e4"),
        ]
        daily = jobs.Schedule(cron="0 6 * * *", timezone="Europe/Berlin")
        self.jobs = [self.job("j1", "late_flights", daily, self.runs[0]), self.job("j2", "clean weather", None, None)]
        self.deleted: list[jobs.Job] = []
        self.clusters = [
            cluster("dask-7f3a", "dask", "running", 2, NOW + timedelta(minutes=12)),
            cluster("spark-19bc", "spark", "starting", 0, None),
        ]
        self.queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.fault = ""
        self.asked: list[str] = []

    def job(self, key: str, name: str, schedule: jobs.Schedule | None, last: jobs.Run | None) -> jobs.Job:
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


def cluster(
    key: str, engine: clusters.Engine, state: clusters.ClusterState, workers: int, stops: datetime | None
) -> clusters.Cluster:
    return clusters.Cluster(
        id=key,
        name=key,
        engine=engine,
        owner="alice",
        state=state,
        workers=workers,
        workers_wanted=max(2, workers),
        cpu=2,
        memory_bytes=4 * GIB,
        memory_used_bytes=int(1.3 * GIB) if workers else None,
        price_per_hour=0.2,
        cost=0.07 if workers else 0,
        currency="EUR",
        dashboard_url=f"/services/core/clusters/{key}/dashboard/status",
        created=NOW - timedelta(minutes=21),
        idle_stops_at=stops,
    )


def card(slug: str, name: str, cpu: float, gib: int, price: float, **more: Any) -> usage.ProfileCard:
    return usage.ProfileCard(
        **{
            "slug": slug,
            "name": name,
            "cpu": cpu,
            "memory_bytes": gib * GIB,
            "image": "user",
            "price_per_hour": price,
            "available": True,
            **more,
        }
    )


def notice() -> usage.BudgetNotice:
    return usage.BudgetNotice(
        account="user:alice",
        threshold=80,
        percent=84,
        since=NOW.replace(day=1, hour=0),
        until=NOW + timedelta(days=9),
        message="The budget of alice is 84 % spent: 421.30 € of 500.00 € this month.",
        remedy="Once it is spent, nothing that costs starts. Stop what you no longer need.",
    )


def me(world: World) -> usage.Me:
    ask = usage.Ask(cpu=1, memory_bytes=2 * GIB, price_per_hour=0.05)
    held = usage.Reservation(
        id="1",
        user="alice",
        account="user:alice",
        kind="server",
        key="server:alice/",
        ask=ask,
        profile="small",
        created=NOW - timedelta(hours=6),
        expires=NOW + timedelta(hours=1),
        cost=0.31,
    )
    gpu = {"gpu": {"nvidia.com/gpu": 1}, "available": False, "reason": "All 4 GPUs are taken; Large is free."}
    cards = [
        card("small", "Small", 1, 2, 0.05),
        card("large", "Large", 8, 32, 0.42),
        card("gpu", "One GPU", 8, 64, 2.4, **gpu),
    ]
    amounts = [("servers", 1, 1), ("clusters", 2, 3), ("cpu", 5, 10), ("memory_bytes", 10 * GIB, 20 * GIB)]
    lines = [usage.QuotaLine(resource=name, used=used, limit=limit, left=limit - used) for name, used, limit in amounts]
    return usage.Me(
        name="alice",
        groups=["everyone"],
        admin=False,
        currency="EUR",
        quotas=[usage.Quota(account="user:alice", lines=lines, notice=notice() if world.fault == "budget" else None)],
        profiles=cards,
        running=[held],
    )


TABLES = [("flights", 336776), ("airlines", 16), ("airports", 1458), ("planes", 3322), ("weather", 26115)]
COLUMNS = [
    connections.Column(name="carrier", type="text"),
    connections.Column(name="flight", type="integer"),
    connections.Column(name="arr_delay", type="double precision"),
    connections.Column(name="time_hour", type="timestamp with time zone"),
    connections.Column(name="tailnum", type="text", masked=True),
]


CARRIERS = [("UA", 58665), ("B6", 54635), ("EV", 54173), ("DL", 48110), ("AA", 32729), ("OO", 32)]
PROFILES = {
    "carrier": connections.ColumnProfile(
        rows=336776,
        nulls=0,
        distinct=16,
        least="9E",
        greatest="YV",
        common=[connections.CommonValue(value=name, rows=rows) for name, rows in CARRIERS],
        bins=[],
    ),
    "arr_delay": connections.ColumnProfile(
        rows=336776,
        nulls=9430,
        distinct=577,
        least=-86,
        greatest=1272,
        mean=6.895,
        common=[],
        bins=[connections.Bin(start=-86 + 68 * at, end=-18 + 68 * at, rows=int(250_000 / 4**at)) for at in range(20)],
    ),
}


def tables() -> list[connections.Table]:
    return [connections.Table(schema_name="public", name=name, rows=rows) for name, rows in TABLES]


def core_app(world: World) -> FastAPI:
    app = FastAPI()
    guard(app, world)
    base = "/services/core/api/v1"

    @app.get(f"{base}/me")
    def get_me() -> usage.Me:
        return me(world)

    @app.get(f"{base}/jobs")
    def get_jobs(search: str = "") -> jobs.JobPage:
        found = [] if world.fault == "empty" else [job for job in world.jobs if search in job.name]
        return jobs.JobPage(items=found)

    @app.post(f"{base}/jobs", status_code=201)
    def post_job(ask: jobs.JobRequest) -> jobs.Job:
        made = world.job(f"j{len(world.jobs) + 1}", ask.name, ask.schedule, None)
        world.jobs.insert(0, made)
        return made

    @app.delete(base + "/jobs/{key}", status_code=204)
    def delete_job(key: str) -> None:
        deleted = one(world.jobs, key)
        world.jobs.remove(deleted)
        world.deleted.append(deleted)

    @app.post(base + "/jobs/{key}/restore")
    def restore_job(key: str) -> jobs.Job:
        restored: jobs.Job = one(world.deleted, key)
        if any(job.name == restored.name for job in world.jobs):
            raise Conflict(f"You have another job '{restored.name}' by now.", remedy="Delete that one.")
        world.deleted.remove(restored)
        world.jobs.append(restored)
        return restored

    @app.post(base + "/jobs/{job}/runs", status_code=201)
    def post_run(job: str, ask: jobs.RunRequest) -> jobs.Run:
        made = run(len(world.runs) + 1, "queued", 0, job_id=job, parameters={"carrier": "UA", **ask.parameters})
        world.runs.insert(0, made)
        return made

    @app.get(f"{base}/runs")
    def get_runs(job: str | None = None) -> jobs.RunPage:
        return jobs.RunPage(items=[each for each in world.runs if job in (None, each.job_id)])

    @app.get(base + "/runs/{key}")
    def get_run(key: str) -> jobs.Run:
        return one(world.runs, key)

    @app.post(base + "/runs/{key}/cancel")
    def cancel(key: str) -> jobs.Run:
        old = one(world.runs, key)
        new = old.model_copy(update={"state": "cancelled", "finished": datetime.now(UTC)})
        world.runs[world.runs.index(old)] = new
        world.queue.put_nowait({"topic": "run", "key": key})
        return new

    @app.get(base + "/runs/{key}/notebook")
    def notebook(key: str) -> dict[str, Any]:
        return NOTEBOOK

    @app.get(base + "/runs/{key}/source")
    def source(key: str) -> dict[str, Any]:
        cells = [{**cell, "outputs": [], "execution_count": None} for cell in NOTEBOOK["cells"]]
        if one(world.runs, key).number == 1:
            cells[-1]["source"] = "fit(flights, depth=6)"
        return {**NOTEBOOK, "cells": cells}

    @app.get(base + "/runs/{key}/log")
    def log(key: str) -> PlainTextResponse:
        return PlainTextResponse("12:00:01 kernel started\n12:00:03 cell 2 of 4\n")

    @app.post(f"{base}/notebooks/inspect")
    def inspect(ask: jobs.InspectRequest) -> jobs.Inspection:
        return jobs.Inspection(parameters_schema=SCHEMA, kernel="python3", cells=3)

    @app.post(f"{base}/schedules/preview")
    def preview(ask: jobs.Schedule) -> jobs.SchedulePreview:
        if len(ask.cron.split()) != 5:
            raise BadSchedule(
                f"'{ask.cron}' is not a cron line.", remedy="Give five fields: minute hour day month weekday."
            )
        return jobs.SchedulePreview(next_firings=firings(), sentence=f"Every day at 06:00 ({ask.timezone})")

    @app.get(f"{base}/clusters")
    def get_clusters() -> clusters.ClusterPage:
        return clusters.ClusterPage(items=[] if world.fault == "empty" else world.clusters)

    @app.post(f"{base}/clusters", status_code=201)
    def post_cluster(ask: clusters.ClusterRequest) -> clusters.Cluster:
        if len(world.clusters) > 2:
            raise QuotaExceeded("clusters", 1, 0, "user:alice")
        made = cluster(f"{ask.engine}-{len(world.clusters)}", ask.engine, "running", ask.workers, None)
        world.clusters.append(made)
        return made

    @app.delete(base + "/clusters/{key}", status_code=204)
    def delete_cluster(key: str) -> None:
        world.clusters.remove(one(world.clusters, key))

    @app.get(f"{base}/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(stream(world), media_type="text/event-stream")

    mlflow_routes(app, world)
    return app


def one(items: list[Any], key: str) -> Any:
    for item in items:
        if item.id == key:
            return item
    raise NotFound("thing", key)


async def stream(world: World) -> AsyncIterator[str]:
    yield "id: 0\nevent: ready\ndata: {}\n\n"
    for number in itertools.count(1):
        change = await world.queue.get()
        yield f"id: {number}\ndata: {json.dumps({'sequence': number, 'action': 'updated', **change})}\n\n"


def mlflow_routes(app: FastAPI, world: World) -> None:
    base = "/services/core/mlflow/api/2.0/mlflow"

    @app.get("/services/core/mlflow/api/3.0/mlflow/workspaces")
    async def workspaces() -> dict[str, Any]:
        names = {"user-alice": "alice", "group-research": "research"}
        return {"workspaces": [{"name": name, "description": text} for name, text in names.items()]}

    stamp = int(NOW.timestamp() * 1000)

    @app.post(f"{base}/experiments/search")
    def experiments() -> dict[str, Any]:
        if world.fault == "empty":
            return {}
        each = {"experiment_id": "1", "name": "late-flights", "lifecycle_stage": "active", "last_update_time": stamp}
        return {"experiments": [each, {**each, "experiment_id": "2", "name": "weather-baseline"}]}

    @app.post(f"{base}/runs/search")
    def runs() -> dict[str, Any]:
        return {"runs": [tracked(number, stamp) for number in range(4)]}

    @app.get(f"{base}/metrics/get-history")
    def history(run_id: str, metric_key: str) -> dict[str, Any]:
        number = int(run_id[1:])
        points = 1 if metric_key == "auc" else 20
        return {
            "metrics": [
                {"key": metric_key, "value": 0.9 / (1 + (0.3 + number / 10) * step), "timestamp": stamp, "step": step}
                for step in range(points)
            ]
        }

    @app.get(f"{base}/registered-models/search")
    def models() -> dict[str, Any]:
        alias = [{"alias": "champion", "version": "2"}]
        return {"registered_models": [{"name": "late-flights", "aliases": alias, "last_updated_timestamp": stamp}]}

    @app.get(f"{base}/model-versions/search")
    def versions() -> dict[str, Any]:
        each = {"name": "late-flights", "status": "READY", "creation_timestamp": stamp - 9e6}
        return {"model_versions": [{**each, "version": "1"}, {**each, "version": "2"}]}


def tracked(number: int, stamp: int) -> dict[str, Any]:
    names = ["gifted-crane", "calm-otter", "bold-finch", "quick-lynx"]
    metrics = {"auc": 0.78 + number / 60, "loss": 0.41 - number / 40}
    params = {"max_depth": str(6 + number), "n_estimators": "50", "carrier": "UA"}
    return {
        "info": {
            "run_id": f"m{number}",
            "run_name": names[number],
            "experiment_id": "1",
            "status": "RUNNING" if number == 0 else "FAILED" if number == 3 else "FINISHED",
            "start_time": stamp - number * 3_600_000,
        },
        "data": {
            "metrics": [{"key": key, "value": value, "timestamp": stamp, "step": 0} for key, value in metrics.items()],
            "params": [{"key": key, "value": value} for key, value in params.items()],
            "tags": [
                {"key": "mlflow.user", "value": "alice"},
                {"key": "labwright.run_id", "value": f"r{1 + number % 3}"},
            ],
        },
    }


def data_app(world: World) -> FastAPI:
    app = FastAPI()
    guard(app, world)
    base = "/services/data/api/v1"

    @app.get(f"{base}/connections")
    def get_connections() -> connections.ConnectionPage:
        if world.fault == "empty":
            return connections.ConnectionPage(items=[])
        rows = [
            ("warehouse", "postgresql", "PostgreSQL", True),
            ("lake", "duckdb", "Parquet", True),
            ("finance", "postgresql", "PostgreSQL", False),
        ]
        return connections.ConnectionPage(
            items=[
                connections.Connection(name=name, driver=driver, title=title, state="ready", granted=granted)
                for name, driver, title, granted in rows
            ]
        )

    @app.get(base + "/connections/{name}/catalog")
    def catalog(name: str) -> connections.Catalog:
        return connections.Catalog(connection=name, tables=tables())

    @app.get(base + "/connections/{name}/tables/{schema}/{table}")
    def columns(name: str, schema: str, table: str) -> connections.TableColumns:
        return connections.TableColumns(table=tables()[0], columns=COLUMNS)

    @app.get(base + "/connections/{name}/tables/{schema}/{table}/columns/{column}/profile")
    def profile(name: str, schema: str, table: str, column: str) -> connections.ColumnProfile:
        return PROFILES.get(column, PROFILES["arr_delay"])

    @app.get(base + "/connections/{name}/tables/{schema}/{table}/preview")
    def preview(name: str, schema: str, table: str) -> connections.Preview:
        rows = [
            ["UA", 1545 + row, None if row % 7 == 0 else row - 8.0, "2013-01-01T05:00:00-05:00", "***"]
            for row in range(100)
        ]
        return connections.Preview(table=tables()[0], columns=COLUMNS, rows=rows, seconds=0.04)

    return app


def guard(app: FastAPI, world: World) -> None:
    """Faults on request, our errors as problems, and only calls that carry a token."""

    @app.exception_handler(LabwrightError)
    async def on_error(request: Request, error: LabwrightError) -> JSONResponse:
        return JSONResponse(error.problem(), error.status, media_type="application/problem+json")

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Any:
        world.asked.append(f"{request.method} {request.url.path}")
        if request.headers.get("authorization") != "Bearer stand-in" or "cookie" in request.headers:
            return JSONResponse({"code": "not-authenticated", "detail": "No token."}, 401)
        if world.fault == "down":
            part = "MLflow" if "/mlflow/" in request.url.path else "The service"
            error = Unavailable(part, remedy="It is starting; this takes up to half a minute.")
            return JSONResponse(error.problem(), 503)
        return await call_next(request)


def both(world: World) -> FastAPI:
    """Core and data on one port; PUT /fault/{name} changes the weather."""
    app = FastAPI()
    core, data = core_app(world), data_app(world)

    @app.put("/fault/{name}")
    def fault(name: str) -> dict[str, str]:
        world.fault = "" if name == "none" else name
        return {"fault": world.fault}

    async def route(scope: Any, receive: Any, send: Any) -> None:
        inner = app
        if scope["type"] == "http" and scope["path"].startswith("/services/"):
            inner = data if scope["path"].startswith("/services/data/") else core
        await inner(scope, receive, send)

    return route  # type: ignore[return-value]


def main() -> None:
    uvicorn.run(both(World()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
