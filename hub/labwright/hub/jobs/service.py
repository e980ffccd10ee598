"""What people do with jobs and runs. Synchronous: called from FastAPI's threads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from labwright.api.errors import Conflict, InvalidRequest, StaleAttempt
from labwright.api.jobs import (
    FINAL_STATES,
    Inspection,
    Job,
    JobPage,
    JobRequest,
    JobUpdate,
    NotebookInput,
    Run,
    RunPage,
    RunRequest,
    Schedule,
    SchedulePreview,
    TrackingLink,
)
from labwright.api.parameters import validate
from labwright.hub.callers import Caller
from labwright.hub.core.context import Core
from labwright.hub.jobs import notebooks, parameters, people, schedule, store
from labwright.hub.jobs.artifacts import ArtifactStore
from labwright.hub.jobs.bell import Bell
from labwright.hub.jobs.tables import runs
from labwright.hub.jobs.views import job_view, reservation_key, run_view, schedule_of


class Jobs:
    """Submit, change, list and run jobs. What is not the caller's does not exist."""

    def __init__(self, core: Core, artifacts: ArtifactStore, queue: Bell) -> None:
        self._core = core
        self._artifacts = artifacts
        self._queue = queue  # rung when the scheduler has something to look at

    # Jobs

    def submit(self, ask: JobRequest, caller: Caller) -> Job:
        """A new job from a snapshot of its notebook."""
        now = self._core.now()
        people.choose_profile(self._core.workbench(), ask.profile, caller.groups)
        people.check_group(ask.group, caller.groups)
        values = {
            "id": store.new_id("job", now),
            "owner": caller.name,
            "owner_groups": sorted(caller.groups),
            "name": _clean_name(ask.name),
            "live_name": _clean_name(ask.name),
            **self._snapshot(ask.notebook),
            "follow": ask.follow,
            "profile": ask.profile,
            "billed_group": ask.group,
            **_slot_values(ask.schedule, now),
            "policy": ask.policy.model_dump(),
            "paused": False,
            "runs": 0,
            "created": now,
            "updated": now,
        }
        values["parameters"] = validate(values["parameters_schema"], ask.parameters)
        with self._core.database.write() as connection:
            row = store.add_job(connection, values)
            self._tell(connection, "job", row.id, "created", caller.name, now)
            self._audit(connection, caller, "job.create", row.id, now, name=row.name, notebook=row.notebook_path)
        return job_view(row, None, now)

    def _snapshot(self, notebook: NotebookInput) -> dict[str, Any]:
        path = notebooks.safe_path(notebook.path)
        data = notebooks.check(notebook.content)
        schema = parameters.parameters_schema(notebook.content)
        return {"notebook_path": path, "source_digest": self._artifacts.put(data), "parameters_schema": schema}

    def list(
        self,
        caller: Caller,
        *,
        after: str | None,
        limit: int,
        search: str | None,
        name: str | None,
        notebook: str | None,
        deleted: bool,
    ) -> JobPage:
        now = self._core.now()
        with self._core.database.read() as connection:
            rows = store.list_jobs(
                connection,
                caller.name,
                after=after,
                limit=limit + 1,
                search=search,
                name=name,
                notebook=notebook,
                deleted=deleted,
            )
            page = rows[:limit]
            last = store.last_runs(connection, [row.id for row in page])
            items = [
                job_view(
                    row, run_view(last[row.id], connection, self._core.ledger, now) if row.id in last else None, now
                )
                for row in page
            ]
        return JobPage(items=items, next=page[-1].id if len(rows) > limit else None)

    def get(self, job_id: str, caller: Caller) -> Job:
        with self._core.database.read() as connection:
            return self._view(connection, store.get_job(connection, caller.name, job_id))

    def _view(self, connection: sa.Connection, row: sa.Row[Any]) -> Job:
        now = self._core.now()
        last = store.last_runs(connection, [row.id]).get(row.id)
        return job_view(row, run_view(last, connection, self._core.ledger, now) if last else None, now)

    def update(self, job_id: str, ask: JobUpdate, caller: Caller) -> Job:
        """Change what is given; the rest stays. Parameters are checked against the notebook as it is afterwards."""
        now = self._core.now()
        values: dict[str, Any] = {"updated": now, "owner_groups": sorted(caller.groups)}
        if ask.name is not None:
            values["name"] = values["live_name"] = _clean_name(ask.name)
        if ask.notebook is not None:
            values |= self._snapshot(ask.notebook)
        if ask.follow is not None:
            values["follow"] = ask.follow
        if ask.profile is not None:
            people.choose_profile(self._core.workbench(), ask.profile, caller.groups)
            values["profile"] = ask.profile
        if "group" in ask.model_fields_set:
            people.check_group(ask.group, caller.groups)
            values["billed_group"] = ask.group
        if ask.policy is not None:
            values["policy"] = ask.policy.model_dump()
        with self._core.database.write() as connection:
            row = store.get_job(connection, caller.name, job_id, lock=True)
            schema = values.get("parameters_schema", row.parameters_schema)
            wanted = row.parameters if ask.parameters is None else ask.parameters
            values["parameters"] = validate(schema, wanted)
            values |= _schedule_change(ask, row, now)
            store.update_job(connection, job_id, values)
            self._tell(connection, "job", job_id, "updated", caller.name, now)
            changed = sorted(ask.model_fields_set)
            self._audit(connection, caller, "job.update", job_id, now, changed=changed)
            view = self._view(connection, store.get_job(connection, caller.name, job_id))
        self._queue.ring()
        return view

    def delete(self, job_id: str, caller: Caller) -> None:
        """The job goes and what of it runs is cancelled; its runs can still be read."""
        now = self._core.now()
        with self._core.database.write() as connection:
            store.get_job(connection, caller.name, job_id, lock=True)
            values = {"deleted": now, "live_name": None, "next_slot": None, "updated": now}
            store.update_job(connection, job_id, values)
            for run in store.open_runs(connection, job_id):
                self.stop(connection, run, now, "Its job was deleted.")
            self._tell(connection, "job", job_id, "deleted", caller.name, now)
            self._audit(connection, caller, "job.delete", job_id, now)
        self._queue.ring()

    def restore(self, job_id: str, caller: Caller) -> Job:
        """The deleted job is back, its schedule from the next slot on; nothing for one that is not deleted.

        Runs that the deletion stopped stay stopped.
        """
        now = self._core.now()
        with self._core.database.write() as connection:
            row = store.get_job(connection, caller.name, job_id, lock=True, also_deleted=True)
            if row.deleted is not None:
                values = {"updated": now, "owner_groups": sorted(caller.groups)}
                store.restore_job(connection, row, values | _slot_values(schedule_of(row), now))
                self._tell(connection, "job", job_id, "restored", caller.name, now)
                self._audit(connection, caller, "job.restore", job_id, now, name=row.name)
            view = self._view(connection, store.get_job(connection, caller.name, job_id))
        self._queue.ring()
        return view

    # Runs

    def run(self, job_id: str, ask: RunRequest, caller: Caller) -> Run:
        """One run now, also when the job is paused."""
        now = self._core.now()
        with self._core.database.write() as connection:
            job = store.get_job(connection, caller.name, job_id, lock=True)
            values = validate(job.parameters_schema, {**job.parameters, **ask.parameters})
            row = enqueue(self._core, connection, job, values, now=now, trigger="manual", slot=None)
            assert row is not None
            self._audit(connection, caller, "run.create", row.id, now, job=job_id, number=row.number)
            view = run_view(row, connection, self._core.ledger, now)
        self._queue.ring()
        return view

    def list_runs(
        self,
        caller: Caller,
        *,
        job_id: str | None,
        number: int | None,
        states: Sequence[str],
        after: str | None,
        limit: int,
    ) -> RunPage:
        now = self._core.now()
        with self._core.database.read() as connection:
            rows = store.list_runs(
                connection, caller.name, job_id=job_id, number=number, states=states, after=after, limit=limit + 1
            )
            items = [run_view(row, connection, self._core.ledger, now) for row in rows[:limit]]
        return RunPage(items=items, next=items[-1].id if len(rows) > limit else None)

    def get_run(self, run_id: str, caller: Caller) -> Run:
        with self._core.database.read() as connection:
            row = store.get_run(connection, caller.name, run_id)
            return run_view(row, connection, self._core.ledger, self._core.now())

    def cancel(self, run_id: str, caller: Caller) -> Run:
        """Ends a queued run at once; a running one at its runner's next heartbeat. Nothing for one that is over."""
        now = self._core.now()
        with self._core.database.write() as connection:
            row = store.get_run(connection, caller.name, run_id, lock=True)
            if row.state not in FINAL_STATES:
                self.stop(connection, row, now, "You cancelled it.")
                self._audit(connection, caller, "run.cancel", run_id, now)
            view = run_view(store.get_run(connection, caller.name, run_id), connection, self._core.ledger, now)
        self._queue.ring()
        return view

    def stop(self, connection: sa.Connection, row: sa.Row[Any], now: datetime, reason: str) -> None:
        if row.state == "queued":
            end_run(self._core, connection, row, "cancelled", now, reason)
        else:
            store.change_open(connection, row.id, {"cancel_requested": True, "reason": reason})
            self._tell(connection, "run", row.id, "updated", row.owner, now)

    def notebook(self, run_id: str, caller: Caller) -> dict[str, Any]:
        """The output as far as it has come: the source before the start, whole after the end."""
        with self._core.database.read() as connection:
            row = store.get_run(connection, caller.name, run_id)
            parts = {} if row.output_digest else store.get_outputs(connection, run_id)
        if row.output_digest or -1 not in parts:
            found: dict[str, Any] = json.loads(self._artifacts.get(row.output_digest or row.source_digest))
            return found
        return notebooks.assemble(parts[-1], parts)

    def source(self, run_id: str, caller: Caller) -> dict[str, Any]:
        with self._core.database.read() as connection:
            row = store.get_run(connection, caller.name, run_id)
        found: dict[str, Any] = json.loads(self._artifacts.get(row.source_digest))
        return found

    def log(self, run_id: str, caller: Caller) -> str:
        with self._core.database.read() as connection:
            row = store.get_run(connection, caller.name, run_id)
        return self._artifacts.get(row.log_digest).decode("utf-8", "replace") if row.log_digest else ""

    def link_tracking(self, run_id: str, link: TrackingLink, caller: Caller) -> None:
        """The run's MLflow run, told by its own kernel (or by its owner)."""
        if caller.kind == "run" and caller.run_id != run_id:
            raise Conflict("A run can only report its own tracking.", remedy="Use the token of that run.")
        now = self._core.now()
        with self._core.database.write() as connection:
            row = store.get_run(connection, caller.name, run_id, lock=True)
            if caller.kind == "run" and caller.attempt != row.attempt:
                raise StaleAttempt
            values = {"mlflow_run_id": link.run_id, "mlflow_experiment_id": link.experiment_id}
            connection.execute(runs.update().where(runs.c.id == run_id).values(**values))
            self._tell(connection, "run", run_id, "updated", row.owner, now)

    # Looking without storing

    def inspect(self, content: dict[str, Any]) -> Inspection:
        notebooks.check(content)
        return Inspection(
            parameters_schema=parameters.parameters_schema(content),
            kernel=notebooks.kernel_name(content),
            cells=notebooks.code_cells(content),
        )

    def preview(self, planned: Schedule) -> SchedulePreview:
        firings = schedule.next_firings(planned, self._core.now())
        return SchedulePreview(next_firings=firings, sentence=schedule.sentence(planned))

    def _tell(self, connection: sa.Connection, topic: Any, key: str, action: Any, owner: str, now: datetime) -> None:
        self._core.events.append(connection, owner=owner, topic=topic, key=key, action=action, now=now)

    def _audit(
        self, connection: sa.Connection, caller: Caller, action: str, what: str, now: datetime, **details: Any
    ) -> None:
        self._core.audit.append(connection, now=now, who=caller.name, action=action, what=what, details=details)


def enqueue(
    core: Core,
    connection: sa.Connection,
    job: sa.Row[Any],
    values: dict[str, Any],
    *,
    now: datetime,
    trigger: str,
    slot: datetime | None,
    place: int = 0,
) -> sa.Row[Any] | None:
    """Add a queued run of a locked job, the one at `place` of this moment; None when the slot has one."""
    row = store.add_run(
        connection,
        job,
        store.new_id("run", now, place),
        {
            "trigger": trigger,
            "slot": slot,
            "parameters": values,
            "dates": parameters.dates(job.parameters_schema, values),
            "created": now,
            "not_before": now,
        },
    )
    if row is not None:
        core.events.append(connection, owner=job.owner, topic="run", key=row.id, action="created", now=now)
    return row


def end_run(core: Core, connection: sa.Connection, row: sa.Row[Any], state: str, now: datetime, reason: str) -> None:
    """End an open run without its runner: no commit of it is taken afterwards."""
    values = {
        "state": state,
        "finished": now,
        "reason": reason,
        "lease_expires": None,
        "runner_id": None,
        **released(core, connection, row, now),
    }
    if store.change_open(connection, row.id, values) is not None:
        core.events.append(connection, owner=row.owner, topic="run", key=row.id, action="updated", now=now)


def released(core: Core, connection: sa.Connection, row: sa.Row[Any], now: datetime) -> dict[str, Any]:
    """Give the run's reservation back; the values that the run's row takes from that."""
    if not row.reserved:
        return {}
    ended = core.ledger.release(connection, reservation_key(row.id), now=now)
    return {"reserved": False, "cost": row.cost + (ended.cost if ended else 0.0)}


def _clean_name(name: str) -> str:
    cleaned = name.strip()
    if not cleaned or not cleaned.isprintable():
        raise InvalidRequest("A job's name is printable text.", remedy="Choose another name.")
    return cleaned


def _slot_values(planned: Schedule | None, now: datetime) -> dict[str, Any]:
    if planned is None:
        return {"cron": None, "timezone": None, "next_slot": None}
    following = schedule.next_firings(planned, now, 1)[0]
    return {"cron": " ".join(planned.cron.split()), "timezone": planned.timezone, "next_slot": following}


def _schedule_change(ask: JobUpdate, row: sa.Row[Any], now: datetime) -> dict[str, Any]:
    """What a request changes in the schedule; resuming starts at the next slot, not with the missed ones."""
    if ask.remove_schedule:
        return {**_slot_values(None, now), "paused": row.paused if ask.paused is None else ask.paused}
    changes: dict[str, Any] = {}
    planned = ask.schedule or schedule_of(row)
    if ask.schedule is not None:
        changes |= _slot_values(ask.schedule, now)
    if ask.paused is not None and ask.paused != row.paused:
        changes |= {"paused": ask.paused, "reason": None}
        if not ask.paused:
            changes |= _slot_values(planned, now)
    return changes
