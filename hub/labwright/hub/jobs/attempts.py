"""What runners do with runs: lease, heartbeat, frames, commit. Synchronous; each is one transaction.

Whoever comes with the token of an attempt that is over gets `StaleAttempt` (409).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from labwright.api import names
from labwright.api.runner import CommitRequest, FrameRequest, HeartbeatAnswer, Lease
from labwright.hub.core.context import Core
from labwright.hub.jobs import store
from labwright.hub.jobs.artifacts import ArtifactStore
from labwright.hub.jobs.bell import Bell
from labwright.hub.jobs.notebooks import output_bytes
from labwright.hub.jobs.service import released
from labwright.hub.jobs.tables import jobs, runners, runs
from labwright.hub.jobs.views import reservation_key

HEARTBEAT_SECONDS = 2.0
RESERVATION_SECONDS = 300
LAUNCH_TOKEN_SECONDS = 120
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 5, 300
ENDINGS = {"died": "failed"}  # how a run ends for its reader; the reason says the rest


class Attempts:
    """The runner's side of the queue."""

    def __init__(self, core: Core, artifacts: ArtifactStore, queue: Bell, work: Bell) -> None:
        self._core = core
        self._artifacts = artifacts
        self._queue = queue
        self.work = work  # rung when there is something to lease

    def runner_token(self, owner: str, seconds: int = 15 * 60) -> str:
        return self._core.signer.mint(owner, "runner", [names.SCOPE_RUNNER], seconds=seconds)

    def lease(self, owner: str, profile: str, runner_id: str) -> sa.Row[Any] | None:
        now = self._core.now()
        with self._core.database.write() as connection:
            seen = runners.update().where(runners.c.id == runner_id, runners.c.owner == owner)
            connection.execute(seen.values(last_seen=now))
            row = store.lease(connection, owner, profile, runner_id, now)
            if row is not None:
                self._changed(connection, row, now)
        return row

    def lease_answer(self, row: sa.Row[Any], groups: Sequence[str]) -> Lease:
        """What the runner needs for the attempt; `groups` go into the kernel's token."""
        with self._core.database.write() as connection:
            connection.execute(jobs.update().where(jobs.c.id == row.job_id).values(owner_groups=list(groups)))
        return Lease(
            run_id=row.id,
            attempt=row.attempt,
            job_name=row.job_name,
            notebook_path=row.notebook_path,
            notebook=json.loads(self._artifacts.get(row.source_digest)),
            parameters=row.parameters,
            dates=row.dates,
            timeout_seconds=row.policy["timeout_seconds"],
            heartbeat_seconds=HEARTBEAT_SECONDS,
            token=self._attempt_token(row),
            run_token=self._run_token(row, groups),
        )

    def _attempt_token(self, row: sa.Row[Any]) -> str:
        mint = self._core.signer.mint
        return mint(row.owner, "runner", [names.SCOPE_RUNNER], run_id=row.id, attempt=row.attempt)

    def _run_token(self, row: sa.Row[Any], groups: Sequence[str]) -> str:
        mint = self._core.signer.mint
        return mint(row.owner, "run", names.USER_SCOPES, groups=groups, run_id=row.id, attempt=row.attempt)

    def last_known_groups(self, job_id: str) -> list[str]:
        with self._core.database.read() as connection:
            groups = connection.scalar(sa.select(jobs.c.owner_groups).where(jobs.c.id == job_id))
        return list(groups or ())

    def job_of(self, run_id: str) -> str | None:
        with self._core.database.read() as connection:
            job_id: str | None = connection.scalar(sa.select(runs.c.job_id).where(runs.c.id == run_id))
        return job_id

    def heartbeat(self, run_id: str, attempt: int, groups: Sequence[str]) -> HeartbeatAnswer:
        """Keep the lease and the reservation; renew both tokens; tell of a cancellation."""
        now = self._core.now()
        with self._core.database.write() as connection:
            row = store.change_attempt(connection, run_id, attempt, self._alive(now))
            self._core.ledger.renew(connection, reservation_key(run_id), ttl_seconds=RESERVATION_SECONDS, now=now)
            connection.execute(runners.update().where(runners.c.id == row.runner_id).values(last_seen=now))
        return HeartbeatAnswer(
            cancel=row.cancel_requested, token=self._attempt_token(row), run_token=self._run_token(row, groups)
        )

    def _alive(self, now: datetime) -> dict[str, Any]:
        return {"state": "running", "lease_expires": now + timedelta(seconds=store.LEASE_SECONDS)}

    def frames(self, run_id: str, attempt: int, ask: FrameRequest) -> None:
        """Keep cells as they are now, so that the output can be read while it grows."""
        now = self._core.now()
        last = ask.frames[-1] if ask.frames else None
        progress = {"cell": last.finished, "cells": last.total} if last else {}
        with self._core.database.write() as connection:
            row = store.change_attempt(connection, run_id, attempt, {**self._alive(now), **progress})
            for frame in ask.frames:
                if frame.notebook is not None:
                    store.put_output(connection, run_id, -1, frame.notebook)
                if frame.cell is not None:
                    store.put_output(connection, run_id, frame.index, frame.cell)
            self._changed(connection, row, now)

    def commit(self, run_id: str, attempt: int, ask: CommitRequest) -> None:
        """End the attempt, once. Said again by the same attempt (its reply was lost) it changes nothing."""
        now = self._core.now()
        output = self._artifacts.put(output_bytes(ask.notebook)) if ask.notebook is not None else None
        log_digest = self._artifacts.put(ask.log.encode("utf-8", "replace")) if ask.log else None
        with self._core.database.write() as connection:
            if store.was_committed(connection, run_id, attempt):
                return
            used = {"cpu_seconds": ask.cpu_seconds, "peak_memory_bytes": ask.peak_memory_bytes}
            row = store.change_attempt(
                connection, run_id, attempt, {"output_digest": output, "log_digest": log_digest, **used}
            )
            values = ending(row, ask, now)
            values |= released(self._core, connection, row, now)
            row = store.change_attempt(connection, run_id, attempt, values)
            store.forget_outputs(connection, run_id)
            if row.finished:
                store.surplus_runs(connection, row.job_id, row.policy["keep_runs"])
            self._changed(connection, row, now)
            self._core.audit.append(
                connection, now=now, who=row.owner, action="run.end", what=run_id, details={"state": row.state}
            )
        self._queue.ring()

    def leave(self, owner: str, runner_id: str) -> None:
        """A runner that goes away by itself."""
        with self._core.database.write() as connection:
            connection.execute(runners.delete().where(runners.c.id == runner_id, runners.c.owner == owner))
        self._queue.ring()

    def _changed(self, connection: sa.Connection, row: sa.Row[Any], now: datetime) -> None:
        self._core.events.append(connection, owner=row.owner, topic="run", key=row.id, action="updated", now=now)


def ending(row: sa.Row[Any], ask: CommitRequest, now: datetime) -> dict[str, Any]:
    """The values of a run whose attempt ended so: over, or queued again for a retry (pure)."""
    error = {key: _storable(value) for key, value in ask.error.model_dump().items()} if ask.error else None
    state = ENDINGS.get(ask.state, ask.state)
    reason = _storable(ask.reason)
    if row.cancel_requested and state != "succeeded":
        state, reason = "cancelled", row.reason or ask.reason
    if state == "failed" and reason is None and ask.error is not None:
        reason = _storable(f"Cell {ask.error.cell + 1} raised {ask.error.name}: {ask.error.message}"[:500])
    over = {"error": error, "lease_expires": None}
    if state in ("failed", "timed-out") and row.failures < row.policy["retries"]:
        delay = min(RETRY_SECONDS * 2**row.failures, LONGEST_RETRY_SECONDS)
        again = f"{reason or 'It failed.'} Attempt {row.failures + 2} follows."
        retry = {"state": "queued", "failures": row.failures + 1, "not_before": now + timedelta(seconds=delay)}
        return {**over, **retry, "reason": again, "finished": None}
    return {**over, "state": state, "reason": reason, "finished": now}


def _storable(value: Any) -> Any:
    """Text without what a database refuses: NUL and lone surrogates."""
    return value.replace("\0", "").encode("utf-8", "replace").decode() if isinstance(value, str) else value
