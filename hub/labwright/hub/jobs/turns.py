"""Whose turn it is: the places that runs may take on this machine (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa


class Places:
    """Who holds how many of `most` places, of which one person may hold `most_per_person`."""

    def __init__(self, held: Iterable[sa.Row[Any]], *, most: int, most_per_person: int) -> None:
        self.most, self.most_per_person = most, most_per_person
        self.of_person: Counter[str] = Counter()
        self._jobs: set[str] = set()
        # Those of which a run goes on that the next one waits for.
        self.taken_jobs: set[str] = set()
        for run in held:
            self.take(run)

    def take(self, run: sa.Row[Any]) -> None:
        self.of_person[run.owner] += 1
        self._jobs.add(run.job_id)
        if run.policy["overlap"] == "queue":
            self.taken_jobs.add(run.job_id)

    def full_people(self) -> set[str]:
        """Who may not have one more."""
        return {owner for owner, held in self.of_person.items() if held >= self.most_per_person}

    def why_not(self, run: sa.Row[Any]) -> str | None:
        """Why the run has no place now, and what its owner may do; None when it may take one."""
        if run.policy["overlap"] == "queue" and run.job_id in self._jobs:
            return (
                "It waits for the run of its job before it. "
                "It starts when that one ends; cancel that one to start it sooner."
            )
        if self.of_person[run.owner] >= self.most_per_person:
            return (
                f"It waits: {self.of_person[run.owner]} of your runs go on, as many as one person may have at a time. "
                "It starts when one of them ends; cancel one to start this one sooner."
            )
        if self.of_person.total() >= self.most:
            return (
                f"It waits: {self.of_person.total()} runs go on, as many as this machine takes at a time. "
                "It starts when one of them ends."
            )
        return None
