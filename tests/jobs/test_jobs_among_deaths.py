"""Submissions, updates, cancels and deletions among deaths of core and of runners, in any order, against a model.

The model knows what was asked for and what was answered, and of a schedule only its minute of the hour.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from labwright.api.errors import NotFound, StaleAttempt
from labwright.api.jobs import FINAL_STATES, JobRequest, JobUpdate, RunRequest
from labwright.api.runner import CommitRequest
from labwright.hub.jobs import store
from labwright.hub.jobs.scheduler import MISFIRE_SECONDS, MOST_CATCH_UP_RUNS, MOST_LOSSES
from labwright.hub.jobs.tables import jobs, runs

from .conftest import notebook
from .mortal_core import ALICE, Dice, Died, MortalCore

T = TypeVar("T")
ONE_OF_THE_LAST = st.integers(0, 3)
# Less and more than a lease, a silence and a timeout, and some slots.
LONGER_THAN_A_LEASE = 31
WAITS = st.sampled_from([1, 6, LONGER_THAN_A_LEASE, 95, 700, 1800, 3 * 3600])
MOST_JOBS = 3
NOTEBOOK = {"path": "a.ipynb", "content": notebook("1")}
TIMEOUT_SECONDS = 600
PLANS: dict[str, Any] = {
    "overlap": st.sampled_from(["skip", "queue", "cancel-old"]),
    "misfire": st.sampled_from(["skip", "once", "all"]),
    "retries": st.integers(0, 1),
    "minute": st.sampled_from([None, 0, 30]),
}
UPDATES = ("pause", "resume", "0", "30", "remove")


@dataclass
class PlannedJob:
    """What its owner has said of a job."""

    id: str
    overlap: str
    misfire: str
    retries: int
    minute: int | None  # of every hour
    since: datetime  # slots after that are due
    paused: bool = False
    deleted: bool = False
    asked: int = 0  # runs by hand

    @property
    def fires(self) -> bool:
        return self.minute is not None and not self.paused and not self.deleted

    def slots(self, now: datetime) -> list[datetime]:
        """Those that are due by now, oldest first."""
        hour = self.since.replace(minute=self.minute or 0, second=0, microsecond=0)
        every = (hour + timedelta(hours=count) for count in range((now - hour) // timedelta(hours=1) + 1))
        return [slot for slot in every if slot > self.since]

    def must_have_fired(self, now: datetime) -> list[datetime]:
        """What a whole round of the scheduler leaves fired, whatever ran before it."""
        due = self.slots(now)
        if self.overlap == "skip" or not self.fires:
            return []
        if self.misfire == "all":
            return due[-MOST_CATCH_UP_RUNS:]
        in_time = [slot for slot in due if (now - slot).total_seconds() <= MISFIRE_SECONDS]
        return in_time if self.misfire == "skip" else due[-1:]

    def heard(self, change: str, now: datetime) -> None:
        if change == "pause":
            self.paused = True
        elif change == "resume" and self.paused:
            self.paused, self.since = False, now
        elif change == "remove":
            self.minute = None
        elif change != "resume":
            self.minute, self.since = int(change), now


class JobsAmongDeaths(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.dice = mock.patch.multiple("secrets", token_hex=Dice().token_hex)
        self.dice.start()
        self.core = MortalCore(Path(self.folder.name))
        self.jobs: dict[str, PlannedJob] = {}
        self.runs: dict[str, sa.Row[Any]] = {}  # as last looked at
        self.attempts: list[tuple[str, int]] = []  # leased, and known to their runners
        self.endings: dict[tuple[str, int], str] = {}  # of attempts whose commit was kept
        self.stopped: dict[str, int] = {}  # runs that somebody stopped, to their attempts at that moment

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.settle()
        finally:
            self.core.close()
            self.dice.stop()
            self.folder.cleanup()

    def act(self, do: Callable[[], T]) -> tuple[bool, T | None]:
        """Whether it was done, and its answer; a core that dies of it begins anew."""
        self.core.wait(milliseconds=1)
        try:
            return True, do()
        except Died:
            kept = self.core.database.kept
            self.core.begin_anew()
            return kept, None

    def any_job(self, number: int) -> PlannedJob:
        return list(self.jobs.values())[-1 - number % len(self.jobs)]

    def any_runner(self, number: int) -> str | None:
        alive = [runner for runner, lives in self.core.launcher.alive.items() if lives]
        return alive[-1 - number % len(alive)] if alive else None

    @initialize(**PLANS)
    def begin_with_a_job(self, **plan: Any) -> None:
        self.submit(**plan)

    # What people do

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(**PLANS)
    def submit(self, overlap: str, misfire: str, retries: int, minute: int | None) -> None:
        name = f"job {len(self.jobs)}"
        policy = {"overlap": overlap, "misfire": misfire, "retries": retries, "timeout_seconds": TIMEOUT_SECONDS}
        schedule = None if minute is None else {"cron": f"{minute} * * * *", "timezone": "UTC"}
        ask = JobRequest.model_validate({"name": name, "notebook": NOTEBOOK, "policy": policy, "schedule": schedule})
        done, _ = self.act(lambda: self.core.jobs.submit(ask, ALICE))
        with self.core.database.read() as connection:
            found = connection.execute(sa.select(jobs.c.id).where(jobs.c.name == name)).scalars().all()
        assert len(found) == done
        for job_id in found:
            self.jobs[job_id] = PlannedJob(job_id, overlap, misfire, retries, minute, self.core.now)

    @precondition(lambda self: self.jobs)
    @rule(number=ONE_OF_THE_LAST)
    def run_now(self, number: int) -> None:
        job = self.any_job(number)
        try:
            done, _ = self.act(lambda: self.core.jobs.run(job.id, RunRequest(), ALICE))
        except NotFound:
            assert job.deleted
            return
        assert not job.deleted
        job.asked += done

    @precondition(lambda self: self.jobs)
    @rule(number=ONE_OF_THE_LAST, change=st.sampled_from(UPDATES))
    def update(self, number: int, change: str) -> None:
        job = self.any_job(number)
        asks: dict[str, dict[str, Any]] = {"pause": {"paused": True}, "resume": {"paused": False}}
        asks["remove"] = {"remove_schedule": True}
        ask = asks.get(change) or {"schedule": {"cron": f"{change} * * * *", "timezone": "UTC"}}
        try:
            done, _ = self.act(lambda: self.core.jobs.update(job.id, JobUpdate.model_validate(ask), ALICE))
        except NotFound:
            assert job.deleted
            return
        assert not job.deleted
        if done:
            job.heard(change, self.core.now)

    @precondition(lambda self: self.jobs)
    @rule(number=ONE_OF_THE_LAST)
    def delete(self, number: int) -> None:
        job = self.any_job(number)
        try:
            done, _ = self.act(lambda: self.core.jobs.delete(job.id, ALICE))
        except NotFound:
            assert job.deleted
            return
        if done:
            job.deleted = True
            self.stop(*(run for run in self.runs.values() if run.job_id == job.id))

    @precondition(lambda self: self.jobs)
    @rule(number=ONE_OF_THE_LAST)
    def restore(self, number: int) -> None:
        job = self.any_job(number)
        done, _ = self.act(lambda: self.core.jobs.restore(job.id, ALICE))
        if done and job.deleted:
            job.deleted, job.since = False, self.core.now

    @precondition(lambda self: self.runs)
    @rule(number=ONE_OF_THE_LAST)
    def cancel(self, number: int) -> None:
        going_on = [run for run in self.runs.values() if run.state not in FINAL_STATES]
        among = going_on or list(self.runs.values())
        run = among[-1 - number % len(among)]
        done, _ = self.act(lambda: self.core.jobs.cancel(run.id, ALICE))
        if done:
            self.stop(run)

    def stop(self, *stopped: sa.Row[Any]) -> None:
        """Somebody was told that these are stopped: at once those that wait, the others by their runners."""
        for run in stopped:
            if run.state not in FINAL_STATES:
                self.stopped.setdefault(run.id, run.attempt)
            if run.state == "queued":
                with self.core.database.read() as connection:
                    assert store.get_run(connection, "alice", run.id).state == "cancelled"

    # What runners do

    @rule(number=ONE_OF_THE_LAST)
    def lease(self, number: int) -> None:
        if (runner := self.any_runner(number)) is None:
            return
        _, run = self.act(lambda: self.core.attempts.lease("alice", "small", runner))
        if run is None:
            return
        before = self.runs[run.id]
        assert (before.state, before.attempt) == ("queued", run.attempt - 1)
        together = (other for other in self.runs.values() if other.job_id == run.job_id and other.slot)
        earlier = [other for other in together if other.created == run.created and other.number < run.number]
        assert run.attempt > 1 or not [other for other in earlier if other.state == "queued" and other.attempt == 0]
        self.attempts.append((run.id, run.attempt))

    @precondition(lambda self: self.jobs)
    @rule(number=ONE_OF_THE_LAST)
    def begin(self, number: int) -> None:
        """All that it takes until a run is with a runner, unless something dies on the way."""
        self.run_now(number)
        self.look()
        self.tick(0)
        self.lease(number)

    @precondition(lambda self: self.attempts)
    @rule(number=ONE_OF_THE_LAST)
    def begin_again(self, number: int) -> None:
        """Who has a run says nothing for a lease, another takes it, and then the first one speaks."""
        self.tick(LONGER_THAN_A_LEASE)
        self.tick(0)
        self.lease(number)
        self.look()
        self.commit(1, "succeeded")

    @precondition(lambda self: self.attempts)
    @rule(number=ONE_OF_THE_LAST)
    def heartbeat(self, number: int) -> None:
        run_id, attempt = self.attempts[-1 - number % len(self.attempts)]
        try:
            _, answer = self.act(lambda: self.core.attempts.heartbeat(run_id, attempt, []))
        except StaleAttempt:
            assert not self.is_present(run_id, attempt)
            return
        assert self.is_present(run_id, attempt)
        assert answer is None or answer.cancel == (run_id in self.stopped)

    @precondition(lambda self: self.attempts)
    @rule(number=ONE_OF_THE_LAST, ending=st.sampled_from(["succeeded", "failed", "timed-out", "cancelled", "died"]))
    def commit(self, number: int, ending: Any) -> None:
        """Also of attempts that are over, and once more."""
        run_id, attempt = self.attempts[-1 - number % len(self.attempts)]
        ask = CommitRequest(state=ending, notebook=None)
        try:
            done, _ = self.act(lambda: self.core.attempts.commit(run_id, attempt, ask))
        except StaleAttempt:
            run = self.runs[run_id]
            assert not self.is_present(run_id, attempt)
            # Said again, what was kept is kept, unless the run has moved on.
            assert (run_id, attempt) not in self.endings or run.attempt > attempt or run.state == "cancelled"
            return
        assert self.is_present(run_id, attempt) or (run_id, attempt) in self.endings
        if done:
            self.endings.setdefault((run_id, attempt), ending)

    def is_present(self, run_id: str, attempt: int) -> bool:
        return self.runs[run_id].attempt == attempt and self.runs[run_id].state in store.ACTIVE

    # What happens by itself

    @rule(number=ONE_OF_THE_LAST)
    def kill_a_runner(self, number: int) -> None:
        if runner := self.any_runner(number):
            self.core.launcher.alive[runner] = False

    @rule(transactions=st.integers(1, 4), kept=st.booleans())
    def doom(self, transactions: int, kept: bool) -> None:
        """Core dies at one of its next transactions."""
        self.core.database.doom(transactions, kept=kept)

    @rule(seconds=WAITS, transactions=st.integers(1, 8), kept=st.booleans())
    def die_in_a_round(self, seconds: int, transactions: int, kept: bool) -> None:
        self.doom(transactions, kept)
        self.tick(seconds)

    @rule(seconds=WAITS)
    def wait(self, seconds: int) -> None:
        self.core.wait(seconds=seconds)

    @rule(seconds=WAITS)
    def tick(self, seconds: int) -> None:
        self.core.wait(seconds=seconds)
        _, whole = self.act(lambda: self.core.tick() or True)
        self.look()
        if not whole:
            return
        for job in self.jobs.values():
            fired = {run.slot for run in self.runs.values() if run.job_id == job.id}
            assert fired.issuperset(job.must_have_fired(self.core.now))

    def settle(self) -> None:
        """Where nothing dies any more and runners do their work, all ends and nothing is held."""
        self.core.database.doom(0, kept=False)
        for _ in range(200):
            if all(run.state in FINAL_STATES for run in self.runs.values()):
                break
            self.tick(6)
            for number in range(len(self.core.launcher.alive)):
                known = len(self.attempts)
                self.lease(number)
                self.look()
                if len(self.attempts) > known:
                    self.commit(0, "succeeded")
                    self.look()
        assert Counter(run.state for run in self.runs.values() if run.state not in FINAL_STATES) == {}
        with self.core.database.read() as connection:
            assert self.core.ledger.live(connection, now=self.core.now) == []

    # What holds at all times

    @invariant()
    def look(self) -> None:
        with self.core.database.read() as connection:
            found = connection.execute(sa.select(runs).order_by(runs.c.number)).all()
            counted = {job.id: job.runs for job in connection.execute(sa.select(jobs))}
            held = {held.key for held in self.core.ledger.live(connection, now=self.core.now)}
        self.runs_are_counted_and_asked_for(found, counted)
        for run in found:
            if run.cancel_requested:  # also by a later run of its schedule
                self.stopped.setdefault(run.id, run.attempt)
            self.goes_on_from(self.runs.get(run.id), run)
            if run.state in FINAL_STATES:
                assert self.may_have_ended_so(run), (run.state, run.reason)
                assert not run.reserved
        assert held <= {f"run:{run.id}" for run in found if run.reserved}
        queues = Counter(run.job_id for run in found if run.reserved and self.jobs[run.job_id].overlap == "queue")
        assert all(count == 1 for count in queues.values())
        self.runs = {run.id: run for run in found}

    def runs_are_counted_and_asked_for(self, found: Any, counted: dict[str, int]) -> None:
        for job in self.jobs.values():
            mine = [run for run in found if run.job_id == job.id]
            assert [run.number for run in mine] == list(range(1, counted[job.id] + 1))
            assert sum(run.trigger == "manual" for run in mine) == job.asked
            slots = [run.slot for run in mine if run.slot is not None]
            assert len(slots) == len(set(slots))
            fresh = {run.slot for run in mine if run.slot is not None and run.id not in self.runs}
            assert not fresh or (job.fires and fresh <= set(job.slots(self.core.now)))

    def goes_on_from(self, before: sa.Row[Any] | None, run: sa.Row[Any]) -> None:
        if before is None:
            assert (run.state, run.attempt) == ("queued", 0) or self.may_make_way(run)
            return
        if before.state in FINAL_STATES:
            assert run == before
        assert run.attempt - before.attempt in (0, 1)
        assert run.attempt == self.stopped.get(run.id, run.attempt)
        assert run.failures <= self.jobs[run.job_id].retries
        assert run.losses < MOST_LOSSES

    def may_have_ended_so(self, run: sa.Row[Any]) -> bool:
        said = self.endings.get((run.id, run.attempt))
        stopped, again = run.id in self.stopped, run.failures < self.jobs[run.job_id].retries
        if run.state == "succeeded":
            return said == "succeeded"
        if run.state == "cancelled":
            return stopped or said == "cancelled" or self.may_make_way(run)
        if stopped:
            return False
        if run.state == "failed":
            return said in ("failed", "died") and not again
        if run.state == "timed-out":
            late = run.started is not None and (run.finished - run.started).total_seconds() > TIMEOUT_SECONDS
            return late or (said == "timed-out" and not again)
        return run.losses == MOST_LOSSES - 1

    def may_make_way(self, run: sa.Row[Any]) -> bool:
        """For a later slot of its schedule, perhaps at once."""
        return self.jobs[run.job_id].overlap == "cancel-old"


@pytest.mark.slow
def test_jobs_agree_with_the_model_whatever_dies() -> None:
    run_state_machine_as_test(
        JobsAmongDeaths,
        settings=settings(max_examples=40, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow]),
    )
