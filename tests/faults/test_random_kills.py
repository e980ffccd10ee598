"""Core, runners and kernels are killed at random moments while a client submits, cancels, updates and deletes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psutil
import pytest
import sqlalchemy as sa
from nbformat.v4 import new_code_cell, new_notebook
from workbench import RunningWorkbench, eventually

from labwright.api import names
from labwright.api.client import Client, Endpoints
from labwright.api.errors import NotFound, Unavailable
from labwright.api.job_client import JobClient
from labwright.api.jobs import FINAL_STATES
from labwright.hub.core import schema
from labwright.hub.database import Database
from labwright.hub.jobs.tables import runners, runs
from labwright.hub.supervision import is_healthy
from labwright.hub.usage.tables import reservations

pytestmark = [pytest.mark.slow, pytest.mark.uid]

T = TypeVar("T")
SEED = 1
STEPS = 50
LONGEST_PAUSE_SECONDS = 0.6
# What is done at a step, and how often beside the others.
ACTS = {
    "submit": 5,
    "start": 3,
    "cancel": 4,
    "update": 3,
    "delete": 2,
    "kill_core": 2,
    "kill_runner": 2,
    "kill_kernel": 3,
}
# A program that would outlive its kernel, known by how long it sleeps.
CELL = "import subprocess, time\nsubprocess.Popen(['sleep', '{sleeping}'])\ntime.sleep({seconds})"


class Storm:
    """One client and its killer, with one source of chance."""

    def __init__(self, workbench: RunningWorkbench, jobs: JobClient, core: Database, person: str) -> None:
        self.workbench, self.jobs, self.core, self.person = workbench, jobs, core, person
        # What is done is drawn by itself: it is the same however long things take.
        self.acts = random.Random(SEED).choices(list(ACTS), list(ACTS.values()), k=STEPS)
        self.choice = random.Random(SEED)
        self.sleeping = f"86399.{workbench.settings.port}"  # not those of another workbench
        self.live: list[str] = []  # jobs
        self.stopped: set[str] = set()  # runs whose cancellation was answered before they were over
        self.over: dict[str, sa.Row[Any]] = {}  # as they were first seen at an end
        self.kills: Counter[str] = Counter()

    def blow(self) -> None:
        for step, act in enumerate(self.acts):
            getattr(self, act)(step)
            self.look()
            threading.Event().wait(self.choice.uniform(0, LONGEST_PAUSE_SECONDS))
        for more in range(STEPS, STEPS + 20):
            if not self.kills["kernel"]:  # each was gone before it could be
                self.kill_kernel(more)

    # The client

    def insist(self, ask: Callable[[], T]) -> T:
        """The answer, whatever it takes: core comes back by itself."""
        found: list[T] = []

        def answered() -> bool:
            with contextlib.suppress(Unavailable):
                found.append(ask())
            return bool(found)

        eventually(answered, seconds=60, what="an answer of core")
        return found[0]

    def submit(self, step: int) -> None:
        name, seconds = f"storm {step}", self.choice.uniform(0.3, 1.5)
        content = new_notebook(cells=[new_code_cell(CELL.format(sleeping=self.sleeping, seconds=seconds))])
        content.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        notebook = {"path": "storm.ipynb", "content": content}
        policy = {"overlap": self.choice.choice(["skip", "queue", "cancel-old"])}
        request = {"name": name, "notebook": notebook, "policy": policy}
        # Who gets no answer looks before he asks again.
        job = self.insist(lambda: next(iter(self.jobs.jobs(name=name)), None) or self.jobs.submit(request))
        self.live.append(job.id)
        self.insist(lambda: self.jobs.start(job.id))

    def start(self, step: int) -> None:
        if self.live:
            job = self.choice.choice(self.live)
            self.insist(lambda: self.jobs.start(job))

    def cancel(self, step: int) -> None:
        if going_on := sorted(run.id for run in self.rows() if run.state not in FINAL_STATES):
            chosen = self.choice.choice(going_on)
            run = self.insist(lambda: self.jobs.cancel(chosen))
            if run.state not in FINAL_STATES:
                self.stopped.add(run.id)

    def update(self, step: int) -> None:
        if self.live:
            job = self.choice.choice(self.live)
            changes = self.choice.choice([{"paused": True}, {"paused": False}, {"name": f"storm {step} renamed"}])
            self.insist(lambda: self.jobs.update(job, changes))

    def delete(self, step: int) -> None:
        if self.live:
            job = self.live.pop(self.choice.randrange(len(self.live)))
            with contextlib.suppress(NotFound):  # deleted, and the answer was lost
                self.insist(lambda: self.jobs.delete(job))
            going_on = [run for run in self.rows() if run.job_id == job and run.state not in FINAL_STATES]
            assert all(run.cancel_requested for run in going_on)
            self.stopped.update(run.id for run in going_on)

    # The killer

    def kill_core(self, step: int) -> None:
        eventually(lambda: is_healthy(self.workbench.settings, "core"), seconds=30, what="core after its last death")
        self.kill("core", [self.workbench.pid_of("core")])

    def kill_runner(self, step: int) -> None:
        self.kill("runner", self.found(step, lambda: [process.pid for process in self.runners()]))

    def kill_kernel(self, step: int) -> None:
        parents = self.found(step, lambda: parents_of(self.sleepers()))
        self.kill("kernel", [pid for pid in parents if pid != 1])

    def found(self, step: int, victims: Callable[[], list[int]]) -> list[int]:
        """Those there are, or that come with what is going on; none if it is over before."""
        if self.everything_is_over():
            self.submit(1000 + step)
        return eventually(lambda: victims() or (self.everything_is_over() and [0]), what="victims")

    def kill(self, kind: str, pids: list[int]) -> None:
        if pid := self.choice.choice(sorted(pids) or [0]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills[kind] += 1

    def sleepers(self) -> list[psutil.Process]:
        """What notebooks started."""
        return [process for process in psutil.process_iter() if command_of(process) == ["sleep", self.sleeping]]

    def runners(self) -> list[psutil.Process]:
        mine = []
        for process in psutil.process_iter():
            if "labwright.kernels.runner" in command_of(process):
                with contextlib.suppress(psutil.Error):
                    environ = process.environ()
                    core, home = environ.get(names.CORE_URL), environ.get("HOME", "")
                    if core == self.workbench.settings.core_url and home.endswith(f"/{self.person}"):
                        mine.append(process)
        return mine

    # What must hold

    def rows(self) -> list[Any]:
        with self.core.read() as connection:
            return list(connection.execute(sa.select(runs).where(runs.c.owner == self.person)))

    def look(self) -> None:
        for run in self.rows():
            if run.state in FINAL_STATES:
                assert self.over.setdefault(run.id, run) == run

    def everything_is_over(self) -> bool:
        self.look()
        return all(run.state in FINAL_STATES for run in self.rows())

    def commits(self) -> Counter[str]:
        """How often each run was ended by its runner, as the audit trail tells."""
        trail = schema.audit_rows
        with self.core.read() as connection:
            return Counter(connection.scalars(sa.select(trail.c.what).where(trail.c.action == "run.end")))

    def held(self) -> list[str]:
        mine = (reservations.c.user == self.person) & reservations.c.ended.is_(None)
        with self.core.read() as connection:
            return list(connection.scalars(sa.select(reservations.c.key).where(mine)))

    def strangers(self) -> set[str]:
        """Runners that live and that core does not know."""
        with self.core.read() as connection:
            known = set(connection.scalars(sa.select(runners.c.id)))
        found = set()
        for process in self.runners():
            with contextlib.suppress(psutil.Error):
                found.add(process.environ().get(names.RUNNER_ID, ""))
        return found - known


def parents_of(processes: list[psutil.Process]) -> list[int]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.append(process.ppid())
    return found


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def storm(workbench: RunningWorkbench) -> Iterator[Storm]:
    workbench.add_person("gale")
    endpoints = Endpoints(
        workbench.settings.core_url, workbench.settings.data_url, token=workbench.log_in("gale").new_token()
    )
    client, core = Client(endpoints), Database(workbench.settings.core_database_url)
    made = Storm(workbench, JobClient(client), core, "gale")
    yield made
    for process in made.runners():
        with contextlib.suppress(psutil.Error):
            process.terminate()  # it leaves
    eventually(lambda: not made.runners(), seconds=30, what="the end of the runners")
    client.close()
    core.close()


def test_each_run_ends_once_and_leaves_nothing_among_random_kills(storm: Storm) -> None:
    storm.blow()
    assert storm.kills["core"] > 1
    assert storm.kills["runner"] > 1
    assert storm.kills["kernel"] > 0
    eventually(storm.everything_is_over, what="the end of every run")
    states = {run.id: run.state for run in storm.rows()}
    assert len(states) >= storm.acts.count("submit")
    assert set(states.values()) <= {"succeeded", "failed", "cancelled", "lost"}
    # One that succeeds was done before its runner heard of the cancellation.
    assert {states[run] for run in storm.stopped} <= {"cancelled", "succeeded"}
    commits = storm.commits()
    for run, state in states.items():
        assert commits[run] == 1 if state in ("succeeded", "failed") else commits[run] <= 1, (run, state)
    assert storm.held() == []
    eventually(lambda: not storm.sleepers(), seconds=30, what="the end of what notebooks started")
    eventually(lambda: not storm.strangers(), seconds=30, what="the end of runners that core has given up")
