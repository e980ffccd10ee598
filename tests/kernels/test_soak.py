"""A small helping of tests/faults/kernel_soak.py, which can do 10,000 runs."""

from __future__ import annotations

from tests.faults.kernel_soak import soak


def test_runs_survive_random_kills_with_one_final_state_each_and_leave_nothing():
    problems, attempt = soak(runs=60, every={"kernel": 4, "parent": 20, "server": 30})
    assert not problems
    assert len(attempt.outcomes) == 60
