"""Rows as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from labwright.api.jobs import CellError, Job, Policy, Run, Schedule
from labwright.hub.core.context import Ledger
from labwright.hub.jobs import schedule


def reservation_key(run_id: str) -> str:
    return f"run:{run_id}"


def run_view(row: sa.Row[Any], connection: sa.Connection, ledger: Ledger, now: datetime) -> Run:
    cost = row.cost
    if row.reserved:
        cost += ledger.cost(connection, reservation_key(row.id), now=now)
    return Run(
        id=row.id,
        number=row.number,
        job_id=row.job_id,
        job_name=row.job_name,
        owner=row.owner,
        state=row.state,
        trigger=row.trigger,
        slot=row.slot,
        attempt=row.attempt,
        parameters=row.parameters,
        profile=row.profile,
        notebook_path=row.notebook_path,
        source_digest=row.source_digest,
        cell=row.cell,
        cells=row.cells,
        error=CellError(**row.error) if row.error else None,
        reason=row.reason,
        created=row.created,
        started=row.started,
        finished=row.finished,
        cpu_seconds=row.cpu_seconds,
        peak_memory_bytes=row.peak_memory_bytes,
        cost=cost,
        mlflow_run_id=row.mlflow_run_id,
        mlflow_experiment_id=row.mlflow_experiment_id,
    )


def schedule_of(row: sa.Row[Any]) -> Schedule | None:
    return Schedule(cron=row.cron, timezone=row.timezone) if row.cron else None


def job_view(row: sa.Row[Any], last_run: Run | None, now: datetime) -> Job:
    planned = schedule_of(row)
    firings = schedule.next_firings(planned, now) if planned and not row.paused and row.deleted is None else []
    return Job(
        id=row.id,
        name=row.name,
        owner=row.owner,
        notebook_path=row.notebook_path,
        source_digest=row.source_digest,
        follow=row.follow,
        parameters=row.parameters,
        parameters_schema=row.parameters_schema,
        profile=row.profile,
        group=row.billed_group,
        schedule=planned,
        next_firings=firings,
        policy=Policy(**row.policy),
        paused=row.paused,
        created=row.created,
        updated=row.updated,
        reason=row.reason,
        last_run=last_run,
    )
