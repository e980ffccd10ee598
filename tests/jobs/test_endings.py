"""How runs end that somebody cancelled, that cannot be billed, or that wait for others of their job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labwright.api.jobs import JobRequest, Run, RunRequest
from labwright.api.runner import CommitRequest

from .conftest import notebook
from .mortal_core import ALICE, MortalCore


@pytest.fixture
def core(tmp_path: Path) -> Iterator[MortalCore]:
    made = MortalCore(tmp_path)
    yield made
    made.close()


def begin(core: MortalCore, **more: Any) -> Run:
    """A run that a runner has."""
    run = queue(core, **more)
    lease(core)
    return core.jobs.get_run(run.id, ALICE)


def queue(core: MortalCore, **more: Any) -> Run:
    return core.jobs.run(submit(core, **more), RunRequest(), ALICE)


def submit(core: MortalCore, *, name: str = "a", **more: Any) -> str:
    ask = {"name": name, "notebook": {"path": "a.ipynb", "content": notebook("1")}, **more}
    by = replace(ALICE, groups=frozenset({"poor"}))
    return core.jobs.submit(JobRequest.model_validate(ask), by).id


def lease(core: MortalCore) -> Any:
    core.tick()
    return core.attempts.lease("alice", "small", list(core.launcher.alive)[-1])


@pytest.mark.parametrize("ending", ["failed", "timed-out", "died", "cancelled"])
def test_a_cancelled_run_is_cancelled_and_not_tried_again_however_its_attempt_ends(
    core: MortalCore, ending: Any
) -> None:
    run = begin(core, policy={"retries": 3})
    core.jobs.cancel(run.id, ALICE)
    core.attempts.commit(run.id, 1, CommitRequest(state=ending, notebook=None))
    ended = core.jobs.get_run(run.id, ALICE)
    assert (ended.state, ended.reason) == ("cancelled", "You cancelled it.")


def test_a_cancelled_run_that_does_not_stop_is_cancelled_at_its_timeout(core: MortalCore) -> None:
    run = begin(core, policy={"timeout_seconds": 1})
    core.jobs.cancel(run.id, ALICE)
    for _ in range(3):
        core.wait(seconds=25)
        core.attempts.heartbeat(run.id, 1, [])
    core.tick()
    ended = core.jobs.get_run(run.id, ALICE)
    assert (ended.state, ended.reason) == ("cancelled", "You cancelled it.")


def test_missed_slots_run_in_their_order(core: MortalCore) -> None:
    policy = {"overlap": "queue", "misfire": "all"}
    submit(core, policy=policy, schedule={"cron": "0 * * * *", "timezone": "UTC"})
    core.wait(hours=8)
    slots = []
    for _ in range(8):
        run = lease(core)
        slots.append(run.slot.hour)
        core.attempts.commit(run.id, 1, CommitRequest(state="succeeded", notebook=None))
    assert slots == [13, 14, 15, 16, 17, 18, 19, 20]


def test_a_run_that_cannot_be_billed_fails_with_the_reason_and_keeps_nobody_waiting(core: MortalCore) -> None:
    unbilled = queue(core, group="poor")
    run = begin(core, name="another")
    assert (run.state, run.attempt) == ("leased", 1)
    ended = core.jobs.get_run(unbilled.id, ALICE)
    assert ended.state == "failed"
    assert ended.reason == (
        "The group 'poor' has no quota, so nothing can be billed to it. "
        "Leave the group out, or ask your admin for a quota of the group in workbench.yaml."
    )
