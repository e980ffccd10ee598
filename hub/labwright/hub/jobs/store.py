"""Jobs and runs in SQL, the same on SQLite and PostgreSQL. Every function works in its caller's transaction.

Invariants, kept by the WHERE of each UPDATE and by unique keys:
- one run per (job, slot); run numbers of a job have no gaps;
- a run leaves a final state never;
- `attempt` grows with each lease, and heartbeat, frames and commit name the attempt they belong to: attempts happen
  at least once, a commit exactly once.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from labwright.api.errors import Conflict, NotFound, StaleAttempt
from labwright.api.jobs import FINAL_STATES
from labwright.hub.jobs.notebooks import output_bytes
from labwright.hub.jobs.tables import jobs, run_outputs, runs

LEASE_SECONDS = 30.0
ACTIVE = ("leased", "running")
OPEN = ("queued", "leased", "running")


def new_id(kind: str, now: datetime, place: int = 0) -> str:
    """Ids sort by time of creation, so that lists page by them, and by `place` of what is made in one moment."""
    return f"{kind}-{int(now.timestamp() * 1000) + place:012x}{secrets.token_hex(5)}"


# Jobs


def add_job(connection: sa.Connection, values: dict[str, Any]) -> sa.Row[Any]:
    try:
        with connection.begin_nested():
            connection.execute(jobs.insert().values(**values))
    except sa.exc.IntegrityError:
        raise _name_taken(values["name"]) from None
    return get_job(connection, values["owner"], values["id"])


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"You already have a job '{name}'.", remedy="Choose another name, or change or delete that one.", name=name
    )


def get_job(
    connection: sa.Connection, owner: str, job_id: str, *, lock: bool = False, also_deleted: bool = False
) -> sa.Row[Any]:
    query = sa.select(jobs).where(jobs.c.id == job_id, jobs.c.owner == owner)
    if not also_deleted:
        query = query.where(jobs.c.deleted.is_(None))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("job", job_id[:100])
    return row


def list_jobs(
    connection: sa.Connection,
    owner: str,
    *,
    after: str | None,
    limit: int,
    search: str | None = None,
    name: str | None = None,
    notebook: str | None = None,
    deleted: bool = False,
) -> Sequence[sa.Row[Any]]:
    """Newest first, those that are there or those that were deleted; `after` is the last id of the page before."""
    which = jobs.c.deleted.is_not(None) if deleted else jobs.c.deleted.is_(None)
    query = sa.select(jobs).where(jobs.c.owner == owner, which)
    if after:
        query = query.where(jobs.c.id < after)
    if name is not None:
        query = query.where(jobs.c.name == name)
    if notebook is not None:
        query = query.where(jobs.c.notebook_path == notebook)
    if search:
        pattern = "%" + search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        query = query.where(jobs.c.name.ilike(pattern, escape="\\") | jobs.c.notebook_path.ilike(pattern, escape="\\"))
    return connection.execute(query.order_by(jobs.c.id.desc()).limit(limit)).all()


def update_job(connection: sa.Connection, job_id: str, values: dict[str, Any]) -> None:
    try:
        with connection.begin_nested():
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(**values))
    except sa.exc.IntegrityError:
        raise _name_taken(values["name"]) from None


def restore_job(connection: sa.Connection, job: sa.Row[Any], values: dict[str, Any]) -> None:
    """Take the deletion of a (locked) job back, under the name that it had."""
    restored = {**values, "deleted": None, "live_name": job.name}
    try:
        with connection.begin_nested():
            connection.execute(jobs.update().where(jobs.c.id == job.id).values(**restored))
    except sa.exc.IntegrityError:
        raise Conflict(
            f"You have another job '{job.name}' by now.",
            remedy="Delete that one or give it another name, then restore this one.",
            name=job.name,
        ) from None


def due_jobs(connection: sa.Connection, now: datetime, limit: int = 200) -> Sequence[sa.Row[Any]]:
    query = (
        sa.select(jobs)
        .where(jobs.c.next_slot <= now, jobs.c.paused.is_(False), jobs.c.deleted.is_(None))
        .order_by(jobs.c.next_slot)
        .limit(limit)
    )
    return connection.execute(query).all()


def lock_due_job(connection: sa.Connection, job_id: str, now: datetime) -> sa.Row[Any] | None:
    """The job again, locked, if it is still due; None when another scheduler has it or has fired it."""
    query = sa.select(jobs).where(
        jobs.c.id == job_id, jobs.c.next_slot <= now, jobs.c.paused.is_(False), jobs.c.deleted.is_(None)
    )
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none()


# Runs


def add_run(connection: sa.Connection, job: sa.Row[Any], run_id: str, values: dict[str, Any]) -> sa.Row[Any] | None:
    """A queued run of the (locked) job; None when its slot has a run already."""
    if values.get("slot") is not None:
        taken = sa.select(runs.c.id).where(runs.c.job_id == job.id, runs.c.slot == values["slot"])
        if connection.execute(taken).first() is not None:
            return None
    number = connection.execute(
        jobs.update().where(jobs.c.id == job.id).values(runs=jobs.c.runs + 1).returning(jobs.c.runs)
    ).scalar_one()
    row = {
        "id": run_id,
        "job_id": job.id,
        "job_name": job.name,
        "number": number,
        "owner": job.owner,
        "state": "queued",
        "profile": job.profile,
        "billed_group": job.billed_group,
        "policy": job.policy,
        "notebook_path": job.notebook_path,
        "source_digest": job.source_digest,
        "attempt": 0,
        "losses": 0,
        "failures": 0,
        "reserved": False,
        "cancel_requested": False,
        "cell": 0,
        "cells": 0,
        "cost": 0.0,
        **values,
    }
    connection.execute(runs.insert().values(**row))
    return connection.execute(sa.select(runs).where(runs.c.id == run_id)).one()


def get_run(connection: sa.Connection, owner: str, run_id: str, *, lock: bool = False) -> sa.Row[Any]:
    query = sa.select(runs).where(runs.c.id == run_id, runs.c.owner == owner)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("run", run_id[:100])
    return row


def list_runs(
    connection: sa.Connection,
    owner: str,
    *,
    job_id: str | None,
    number: int | None,
    states: Sequence[str],
    after: str | None,
    limit: int,
) -> Sequence[sa.Row[Any]]:
    query = sa.select(runs).where(runs.c.owner == owner)
    if job_id:
        query = query.where(runs.c.job_id == job_id)
    if number is not None:
        query = query.where(runs.c.number == number)
    if states:
        query = query.where(runs.c.state.in_(states))
    if after:
        query = query.where(runs.c.id < after)
    return connection.execute(query.order_by(runs.c.id.desc()).limit(limit)).all()


def last_runs(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """The newest run of each job that has one."""
    query = sa.select(runs).join(jobs, (jobs.c.id == runs.c.job_id) & (jobs.c.runs == runs.c.number))
    return {row.job_id: row for row in connection.execute(query.where(runs.c.job_id.in_(job_ids)))}


def open_runs(connection: sa.Connection, job_id: str) -> Sequence[sa.Row[Any]]:
    """The runs of a (locked) job that are not over; locked, so that none that waits is leased before it is stopped."""
    query = sa.select(runs).where(runs.c.job_id == job_id, runs.c.state.in_(OPEN))
    return connection.execute(query.order_by(runs.c.id).with_for_update()).all()


WAITS = (runs.c.state == "queued") & runs.c.reserved.is_(False)
TURN = [runs.c.id, runs.c.owner, runs.c.job_id, runs.c.policy, runs.c.reason]  # what says whose turn it is


def waiting(
    connection: sa.Connection,
    now: datetime,
    of_each: int,
    *,
    but_people: Collection[str] = (),
    but_jobs: Collection[str] = (),
) -> Sequence[sa.Row[Any]]:
    """Queued runs that hold no reservation yet: the oldest of each person, so that no backlog hides another's runs.

    Those of `but_people` and `but_jobs` wait in any case.
    """
    due = WAITS & (runs.c.not_before <= now)
    people = sa.select(runs.c.owner).where(due, runs.c.owner.not_in(but_people)).distinct()
    found: list[sa.Row[Any]] = []
    for owner in connection.execute(people).scalars().all():
        query = sa.select(*TURN).where(due, runs.c.owner == owner, runs.c.job_id.not_in(but_jobs))
        found += connection.execute(query.order_by(runs.c.id).limit(of_each)).all()
    return found


def untold(connection: sa.Connection, now: datetime, limit: int = 200) -> Sequence[sa.Row[Any]]:
    """Those of the queued runs without a reservation that do not say yet why they wait."""
    query = sa.select(*TURN).where(WAITS, runs.c.not_before <= now, runs.c.reason.is_(None))
    return connection.execute(query.order_by(runs.c.id).limit(limit)).all()


def holding(connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    """Runs that hold a reservation: waiting for a runner, or with one."""
    return connection.execute(sa.select(runs).where(runs.c.reserved.is_(True), runs.c.state.in_(OPEN))).all()


def held_by(connection: sa.Connection, runner_id: str) -> Sequence[sa.Row[Any]]:
    """The runs that a runner has leased and not ended."""
    query = sa.select(runs).where(runs.c.runner_id == runner_id, runs.c.state.in_(ACTIVE))
    return connection.execute(query.with_for_update(skip_locked=True)).all()


def next_for(connection: sa.Connection, owner: str, profile: str) -> sa.Row[Any] | None:
    """The owner's oldest run that has its reservation and waits for a runner."""
    ready = (runs.c.state == "queued") & runs.c.reserved.is_(True)
    query = sa.select(runs).where(runs.c.owner == owner, runs.c.profile == profile, ready)
    return connection.execute(query.order_by(runs.c.id).limit(1).with_for_update(skip_locked=True)).one_or_none()


def lease(connection: sa.Connection, owner: str, profile: str, runner_id: str, now: datetime) -> sa.Row[Any] | None:
    """Give the owner's oldest reserved run to a runner, with a new attempt."""
    query = (
        sa.select(runs.c.id)
        .where(
            runs.c.owner == owner,
            runs.c.profile == profile,
            runs.c.state == "queued",
            runs.c.reserved.is_(True),
            runs.c.not_before <= now,
        )
        .order_by(runs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    run_id = connection.execute(query).scalar_one_or_none()
    if run_id is None:
        return None
    forget_outputs(connection, run_id)
    return connection.execute(
        runs.update()
        .where(runs.c.id == run_id, runs.c.state == "queued")
        .values(
            state="leased",
            attempt=runs.c.attempt + 1,
            runner_id=runner_id,
            lease_expires=now + timedelta(seconds=LEASE_SECONDS),
            started=now,
            cell=0,
            reason=None,
            error=None,
        )
        .returning(*runs.c)
    ).one_or_none()


def change_attempt(connection: sa.Connection, run_id: str, attempt: int, values: dict[str, Any]) -> sa.Row[Any]:
    """Change a run on behalf of its present attempt; `StaleAttempt` for any other."""
    row = connection.execute(
        runs.update()
        .where(runs.c.id == run_id, runs.c.attempt == attempt, runs.c.state.in_(ACTIVE))
        .values(**values)
        .returning(*runs.c)
    ).one_or_none()
    if row is None:
        raise StaleAttempt
    return row


def change_open(connection: sa.Connection, run_id: str, values: dict[str, Any]) -> sa.Row[Any] | None:
    """Change a run that is not over; None when it is."""
    return connection.execute(
        runs.update().where(runs.c.id == run_id, runs.c.state.in_(OPEN)).values(**values).returning(*runs.c)
    ).one_or_none()


def expired(connection: sa.Connection, now: datetime) -> Sequence[sa.Row[Any]]:
    """Leased and running runs whose runner has not been heard of for a lease."""
    query = sa.select(runs).where(runs.c.state.in_(ACTIVE), runs.c.lease_expires < now)
    return connection.execute(query.with_for_update(skip_locked=True)).all()


def extend_leases(connection: sa.Connection, now: datetime) -> None:
    """After a restart of core: runners could not reach it, so each gets one lease's time to come back."""
    until = now + timedelta(seconds=LEASE_SECONDS)
    connection.execute(
        runs.update().where(runs.c.state.in_(ACTIVE), runs.c.lease_expires < until).values(lease_expires=until)
    )


def was_committed(connection: sa.Connection, run_id: str, attempt: int) -> bool:
    """Whether this very attempt's commit was kept: its reply was lost and it comes again.

    `runner_id` stays after a commit, and is emptied when core itself ends an attempt.
    """
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
    return row is not None and row.attempt == attempt and row.state not in ACTIVE and row.runner_id is not None


def surplus_runs(connection: sa.Connection, job_id: str, keep: int) -> None:
    """Delete a job's finished runs beyond the newest `keep`."""
    newest = sa.select(runs.c.id).where(runs.c.job_id == job_id).order_by(runs.c.number.desc()).limit(keep).subquery()
    connection.execute(
        runs.delete().where(
            runs.c.job_id == job_id, runs.c.state.in_(FINAL_STATES), runs.c.id.not_in(sa.select(newest.c.id))
        )
    )


# What runs show while they run


def forget_outputs(connection: sa.Connection, run_id: str) -> None:
    connection.execute(run_outputs.delete().where(run_outputs.c.run_id == run_id))


def put_output(connection: sa.Connection, run_id: str, position: int, content: Any) -> None:
    text = output_bytes(content).decode()
    key = (run_outputs.c.run_id == run_id) & (run_outputs.c.position == position)
    if connection.execute(run_outputs.update().where(key).values(content=text)).rowcount == 0:
        connection.execute(run_outputs.insert().values(run_id=run_id, position=position, content=text))


def get_outputs(connection: sa.Connection, run_id: str) -> dict[int, Any]:
    rows = connection.execute(sa.select(run_outputs).where(run_outputs.c.run_id == run_id))
    return {row.position: json.loads(row.content) for row in rows}
