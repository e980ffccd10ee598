"""The background task of jobs: fires slots, takes runs back from the dead, reserves, starts runners.

Each step looks at the database and moves it on; any of them may be cut off at any line and is taken up by the next
round, of this process or of another on the same database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from labwright.api.errors import BadSchedule, InvalidRequest, LabwrightError, QuotaExceeded
from labwright.api.usage import Ask, ReservationRequest
from labwright.hub.audit import AuditAway
from labwright.hub.core.context import Core
from labwright.hub.database import DatabaseAway
from labwright.hub.jobs import schedule, store
from labwright.hub.jobs.attempts import RESERVATION_SECONDS
from labwright.hub.jobs.bell import Bell
from labwright.hub.jobs.people import OwnerGone, current_groups
from labwright.hub.jobs.pool import LOG, Gone, RunnerPool
from labwright.hub.jobs.service import end_run, enqueue, released
from labwright.hub.jobs.tables import jobs, runners, runs
from labwright.hub.jobs.turns import Places
from labwright.hub.jobs.views import reservation_key, schedule_of
from labwright.spawner.profiles import Profile

log = logging.getLogger("labwright.jobs")
TICK_SECONDS = 1.0
MISFIRE_SECONDS = 60  # a slot found later than this was missed
MOST_CATCH_UP_RUNS = 100  # what misfire="all" starts at most
MOST_LOSSES = 3  # attempts that may vanish before a run counts as lost
TIMEOUT_GRACE_SECONDS = 60  # the runner ends a run at its timeout; core does so this much later
QUOTA_RETRY_SECONDS = 5
CANCELLED = "It was cancelled."
LOOK = "see its log, or choose a larger profile"  # most who vanish want memory


class Scheduler:
    """Owns the task; `close` ends it and waits."""

    def __init__(self, core: Core, pool: RunnerPool, queue: Bell, work: Bell) -> None:
        self._core = core
        self._pool = pool
        self._queue = queue
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._away = False  # the database, since some round
        self._unfired: set[str] = set()  # jobs whose slot waits for the audit trail

    async def start(self) -> None:
        await run_in_threadpool(self._come_back)
        self._task = asyncio.create_task(self._rounds(), name="jobs-scheduler")

    def _come_back(self) -> None:
        """Nobody could hear the runners while core or its database was away: each gets a lease's time again."""
        with self._core.database.write() as connection:
            store.extend_leases(connection, self._core.now())
            connection.execute(runners.update().values(last_seen=self._core.now()))

    async def close(self) -> None:
        self._stopping = True
        self._queue.ring()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _rounds(self) -> None:
        while not self._stopping:
            seen = self._queue.rung
            try:
                if self._away:
                    await run_in_threadpool(self._come_back)
                    log.warning("the scheduler goes on")
                    self._away = False
                await self.tick()
            except DatabaseAway as error:
                if not self._away:  # once, not every second
                    log.warning("the scheduler waits for its database: %s", error.__cause__)
                self._away = True
            except Exception:  # the loop outlives whatever goes wrong
                log.exception("a round of the scheduler failed; the next one takes up what it left")
            await self._queue.wait(seen, TICK_SECONDS)

    async def tick(self) -> None:
        """One round at `core.now()`."""
        await self._fire_due()
        for runner in await self._pool.reap():
            await run_in_threadpool(self._runner_died, runner)
        await run_in_threadpool(self._expire)
        if await run_in_threadpool(self._reserve):
            self._work.ring()
        missing = await self._pool.match(await run_in_threadpool(self._demand))
        if missing:
            await run_in_threadpool(self._tell_of_missing, missing)

    # Slots

    async def _fire_due(self) -> None:
        now = self._core.now()
        unfired: set[str] = set()
        for job in await run_in_threadpool(self._due, now):
            try:
                await self._fire_or_pause(job, now)
            except AuditAway as error:  # it stays due; what runs is looked after all the same
                unfired.add(job.id)
                if job.id not in self._unfired:  # once, not every second
                    log.warning("job %s is not fired: %s", job.id, error)
        self._unfired = unfired

    async def _fire_or_pause(self, job: sa.Row[Any], now: datetime) -> None:
        try:
            groups = await current_groups(self._core, job.owner, job.owner_groups)
        except OwnerGone:
            await run_in_threadpool(self._pause, job, "Its owner is no longer known to the hub.")
        else:
            await run_in_threadpool(self._fire, job.id, groups, now)

    def _due(self, now: datetime) -> list[sa.Row[Any]]:
        with self._core.database.read() as connection:
            return list(store.due_jobs(connection, now))

    def _pause(self, job: sa.Row[Any], reason: str) -> None:
        now = self._core.now()
        with self._core.database.write() as connection:
            values = {"paused": True, "reason": reason, "updated": now}
            connection.execute(jobs.update().where(jobs.c.id == job.id).values(**values))
            self._core.events.append(connection, owner=job.owner, topic="job", key=job.id, action="updated", now=now)
            self._core.audit.append(
                connection, now=now, who=job.owner, action="schedule.pause", what=job.id, details={"reason": reason}
            )

    def _fire(self, job_id: str, groups: list[str], now: datetime) -> None:
        """Queue what is due by the job's misfire policy and move it on, in one transaction."""
        with self._core.database.write() as connection:
            job = store.lock_due_job(connection, job_id, now)
            planned = schedule_of(job) if job is not None else None
            if job is None or planned is None:
                return
            try:
                slots, following = schedule.due(planned, job.next_slot, now)
            except BadSchedule as error:
                slots, following = [job.next_slot], None
                log.warning("job %s: %s", job_id, error)
            for place, slot in enumerate(choose_slots(slots, job.policy["misfire"], now)):
                self._fire_slot(connection, job, slot, now, place)
            connection.execute(
                jobs.update().where(jobs.c.id == job_id).values(next_slot=following, owner_groups=groups)
            )
            self._core.events.append(connection, owner=job.owner, topic="job", key=job.id, action="updated", now=now)

    def _fire_slot(
        self, connection: sa.Connection, job: sa.Row[Any], slot: datetime, now: datetime, place: int
    ) -> None:
        earlier = store.open_runs(connection, job.id)
        overlap = job.policy["overlap"]
        details = {"slot": slot.isoformat(), "fired": not (earlier and overlap == "skip")}
        if details["fired"]:
            if overlap == "cancel-old":
                for run in earlier:
                    self._make_way(connection, run, now)
            enqueue(self._core, connection, job, job.parameters, now=now, trigger="schedule", slot=slot, place=place)
        self._core.audit.append(
            connection, now=now, who=job.owner, action="schedule.fire", what=job.id, details=details
        )

    def _make_way(self, connection: sa.Connection, run: sa.Row[Any], now: datetime) -> None:
        reason = "A later run of the same schedule took its place."
        if run.state == "queued":
            end_run(self._core, connection, run, "cancelled", now, reason)
        else:
            store.change_open(connection, run.id, {"cancel_requested": True, "reason": reason})

    # Runs whose runner is gone

    def _runner_died(self, runner: Gone) -> None:
        now = self._core.now()
        with self._core.database.write() as connection:
            for run in store.held_by(connection, runner.id):
                self._take_back(connection, run, now, runner.reason)
            # One that never came up costs the run that it was started for a try, or it would wait for ever, and cost.
            queued = None if runner.came_up else store.next_for(connection, runner.owner, runner.profile)
            if queued is not None:
                why = f"Its runner did not come up: {runner.reason}"
                self._take_back(connection, queued, now, why, remedy=f"see ~/{LOG}")

    def _expire(self) -> None:
        now = self._core.now()
        with self._core.database.write() as connection:
            for run in store.expired(connection, now):
                self._take_back(connection, run, now, "Its runner has not been heard of.")
            for run in store.holding(connection):
                self._keep_time(connection, run, now)

    def _take_back(
        self, connection: sa.Connection, run: sa.Row[Any], now: datetime, reason: str, *, remedy: str = LOOK
    ) -> None:
        """Queue a run again whose attempt ended without a word, or give it up."""
        if run.cancel_requested:
            end_run(self._core, connection, run, "cancelled", now, run.reason or CANCELLED)
        elif run.losses + 1 >= MOST_LOSSES:
            last = f"{reason} That was attempt {run.losses + 1}, the last; {remedy}."
            end_run(self._core, connection, run, "lost", now, last)
        else:
            values = {
                "state": "queued",
                "losses": run.losses + 1,
                "runner_id": None,
                "lease_expires": None,
                "not_before": now,
                "reason": f"{reason} It is queued again.",
                **released(self._core, connection, run, now),
            }
            store.change_open(connection, run.id, values)
            self._tell(connection, run, now)
        log.warning("run %s, attempt %d: %s", run.id, run.attempt, reason)

    def _keep_time(self, connection: sa.Connection, run: sa.Row[Any], now: datetime) -> None:
        """Hold the reservation of a run that waits for its runner; end one that its runner does not."""
        limit = timedelta(seconds=run.policy["timeout_seconds"] + TIMEOUT_GRACE_SECONDS)
        if run.state == "queued":
            self._core.ledger.renew(connection, reservation_key(run.id), ttl_seconds=RESERVATION_SECONDS, now=now)
        elif run.started is not None and now - run.started > limit and run.cancel_requested:
            end_run(self._core, connection, run, "cancelled", now, run.reason or CANCELLED)
        elif run.started is not None and now - run.started > limit:
            seconds = run.policy["timeout_seconds"]
            late = f"The run took longer than its timeout of {seconds} s; raise the timeout."
            end_run(self._core, connection, run, "timed-out", now, late)

    # Reservations and runners

    def _reserve(self) -> bool:
        """Reserve for queued runs while there is room for another runner; whether any may start now."""
        now = self._core.now()
        with self._core.database.read() as connection:
            held = store.holding(connection)
            places = Places(held, most=self._pool.most, most_per_person=self._pool.most_per_person)
            most, people, jobs = self._pool.most, places.full_people(), places.taken_jobs
            candidates = store.waiting(connection, now, most, but_people=people, but_jobs=jobs)
            waiting = {run.id: run for run in [*candidates, *store.untold(connection, now)]}
        reserved = False
        for run in sorted(candidates, key=lambda run: (places.of_person[run.owner], run.id)):
            if places.why_not(run) is None:
                del waiting[run.id]
                if self._reserve_one(run.id, now):
                    places.take(run)
                    reserved = True
        self._tell_why([(run, places.why_not(run)) for run in waiting.values()], now)
        return reserved or any(run.state == "queued" for run in held)

    def _tell_why(self, waiting: Sequence[tuple[sa.Row[Any], str | None]], now: datetime) -> None:
        """Put on each run why it waits, where that is not known yet."""
        told = [(run, reason) for run, reason in waiting if reason is not None and reason != run.reason]
        if not told:
            return
        with self._core.database.write() as connection:
            for run, reason in told:
                still = connection.execute(
                    runs.update().where(runs.c.id == run.id, store.WAITS).values(reason=reason).returning(runs.c.id)
                )
                if still.first() is not None:
                    self._tell(connection, run, now)

    def _tell(self, connection: sa.Connection, run: sa.Row[Any], now: datetime) -> None:
        self._core.events.append(connection, owner=run.owner, topic="run", key=run.id, action="updated", now=now)

    def _tell_of_missing(self, missing: Mapping[tuple[str, str], str]) -> None:
        """Put on runs that could start why they have no runner yet."""
        now = self._core.now()
        with self._core.database.write() as connection:
            for (owner, profile), sentence in missing.items():
                run = store.next_for(connection, owner, profile)
                reason = f"It waits for a runner, which could not be started: {sentence} It is tried again."[:1000]
                if run is not None and run.reason != reason:
                    store.change_open(connection, run.id, {"reason": reason})
                    self._tell(connection, run, now)

    def _reserve_one(self, run_id: str, now: datetime) -> bool:
        """Take what the run's profile says, or leave it queued with the reason on it."""
        with self._core.database.write() as connection:
            still = sa.select(runs).where(runs.c.id == run_id, store.WAITS)
            run = connection.execute(still.with_for_update()).one_or_none()
            if run is None:
                return False
            profile = self._core.workbench().profile(run.profile)
            if profile is None:
                gone = f"The profile '{run.profile}' is no longer offered; choose another one for the job."
                end_run(self._core, connection, run, "failed", now, gone)
                return False
            refused: LabwrightError | None = None
            try:
                with connection.begin_nested():
                    self._core.ledger.reserve(connection, reservation(run, profile), now=now)
            except QuotaExceeded as error:
                refused = error
            except InvalidRequest as error:  # no room and no time would make it right
                end_run(self._core, connection, run, "failed", now, error.sentence())
                return False
            # Why an attempt was lost stays to be read until the next one begins.
            values: dict[str, Any] = {"reserved": True, "reason": run.reason if run.losses else None}
            if refused is not None:
                later = now + timedelta(seconds=QUOTA_RETRY_SECONDS)
                values = {"not_before": later, "reason": f"It waits: {refused.sentence()}"[:1000]}
            connection.execute(runs.update().where(runs.c.id == run.id).values(**values))
            if refused is None or run.reason != values["reason"]:
                self._tell(connection, run, now)
        return refused is None

    def _demand(self) -> Counter[tuple[str, str]]:
        """How many runners each (owner, profile) has work for."""
        with self._core.database.read() as connection:
            return Counter((run.owner, run.profile) for run in store.holding(connection))


def reservation(run: sa.Row[Any], profile: Profile) -> ReservationRequest:
    """What the ledger is asked for, so that the run may start (pure)."""
    return ReservationRequest(
        user=run.owner,
        group=run.billed_group,
        kind="run",
        key=reservation_key(run.id),
        ask=Ask(
            cpu=profile.cpu,
            memory_bytes=profile.memory_bytes,
            gpu=profile.gpu_count,
            price_per_hour=profile.price_per_hour,
        ),
        ttl_seconds=RESERVATION_SECONDS,
        profile=run.profile,
    )


def choose_slots(slots: list[datetime], misfire: str, now: datetime) -> list[datetime]:
    """Which of the slots that are due get a run (pure): those in time, and of the missed ones what the policy says."""
    in_time = [slot for slot in slots if (now - slot).total_seconds() <= MISFIRE_SECONDS]
    missed = [slot for slot in slots if slot not in in_time]
    if misfire == "all":
        return [*missed, *in_time][-MOST_CATCH_UP_RUNS:]
    if misfire == "once" and not in_time:
        return missed[-1:]
    return in_time
