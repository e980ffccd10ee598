"""Runners that stand still, die or never come up, and what becomes of their runs."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

from labwright.api.client import Client
from labwright.api.errors import InvalidRequest, Unavailable
from labwright.hub.jobs.store import LEASE_SECONDS

from .conftest import Workplace, job_request, wait_until
from .test_runs import ended, in_state, printed, start
from .test_scheduling import reason_of


def test_a_runner_that_is_stopped_past_its_lease_commits_nothing_of_it(alice: Client, workplace: Workplace) -> None:
    source = (
        "import pathlib, time\nwith open('tries', 'a') as file: file.write('x')\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.05)\nprint(pathlib.Path('tries').read_text())"
    )
    run = start(alice, job_request(source))
    tries, go = workplace.home("alice") / "tries", workplace.home("alice") / "go"
    wait_until(tries.exists, what="its first try")
    (runner,) = workplace.launcher.alive()
    os.kill(runner, signal.SIGSTOP)
    try:
        workplace.clock.offset += timedelta(seconds=LEASE_SECONDS + 5)
        taken_back = in_state(alice, run, "queued")
        assert "not been heard of" in taken_back["reason"]
    finally:
        os.kill(runner, signal.SIGCONT)
    # It ends its kernel before it takes the run again.
    wait_until(lambda: tries.read_text() == "xx", 30, what="its second try")
    go.touch()
    done = ended(alice, run)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    assert printed(alice.core("GET", f"/runs/{run['id']}/notebook")) == "xx\n"
    assert workplace.ledger.live == {}


def test_a_run_that_vanishes_again_and_again_is_lost(alice: Client, workplace: Workplace) -> None:
    # A kernel's parent is a warm process of the fork server; this variable names the runner.
    run = start(alice, job_request("import os, signal\nos.kill(int(os.environ['JPY_PARENT_PID']), signal.SIGKILL)"))
    done = ended(alice, run, 180)
    assert (done["state"], done["attempt"]) == ("lost", 3)
    assert "attempt 3" in done["reason"]
    assert workplace.ledger.live == {}


def test_a_run_whose_runner_never_comes_up_is_lost_with_the_reason_and_holds_nothing(
    alice: Client, workplace: Workplace
) -> None:
    third_waits = "[ $(wc -l < ~/starts) -lt 3 ] || while [ ! -e ~/go ]; do sleep 0.05; done"
    workplace.settings.python("user").write_text(f"#!/bin/sh\necho >> ~/starts\n{third_waits}\nexit 3\n")
    run = start(alice, job_request("1"))
    assert reason_of(alice, run, "did not come up").endswith("It is queued again.")
    (workplace.home("alice") / "go").touch()
    done = ended(alice, run)
    assert (done["state"], done["attempt"]) == ("lost", 0)
    assert done["reason"].startswith("Its runner did not come up: ")
    assert done["reason"].endswith("the last; see ~/.local/state/labwright/runner.log.")
    assert workplace.ledger.live == {}


def test_a_runner_that_is_refused_counts_and_a_launcher_that_is_away_does_not(
    alice: Client, workplace: Workplace
) -> None:
    launcher = workplace.launcher

    def after_failures(number: int) -> bool:
        workplace.clock.offset += timedelta(seconds=1)
        return launcher.failures >= number

    launcher.failure = Unavailable("The launcher")
    run = start(alice, job_request("1"))
    wait_until(lambda: after_failures(5), what="five starts that failed")
    assert "The launcher" in reason_of(alice, run, "It is tried again")
    launcher.failure = None
    assert ended(alice, run)["state"] == "succeeded"

    launcher.failure = InvalidRequest("'python' could not be started: no such program.")
    launcher.kill_everything()
    refused = start(alice, job_request("1"))
    wait_until(lambda: after_failures(8), what="three more")
    done = ended(alice, refused)
    assert done["state"] == "lost"
    assert "no such program" in done["reason"]
