"""The runners that core starts: one process per person and profile at a time of need, ended by themselves when idle."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from labwright.api import names
from labwright.api.errors import LabwrightError, Unavailable
from labwright.hub.core.context import Core
from labwright.hub.jobs import store
from labwright.hub.jobs.attempts import LAUNCH_TOKEN_SECONDS, Attempts
from labwright.hub.jobs.tables import runners
from labwright.spawner.launcher import Limits, Principal

log = logging.getLogger("labwright.jobs")
SILENT_SECONDS = 90  # a runner says something at least every lease's wait
RELAUNCH_SECONDS = 10  # between attempts to start a runner that does not come up
LOG = Path(".local/state/labwright/runner.log")  # in the home


@dataclass(frozen=True)
class Gone:
    """A runner that has ended. `came_up`: it may have taken a run, or it is not known that it could not."""

    id: str
    owner: str
    profile: str
    reason: str
    came_up: bool


class RunnerPool:
    """Starts as many runners as there is work for, within `most` and `most_per_person`."""

    def __init__(self, core: Core, attempts: Attempts, *, most: int | None = None) -> None:
        self._core = core
        self._attempts = attempts
        self.most = most or max(4, os.cpu_count() or 1)
        self.most_per_person = max(1, self.most - 1)
        self._refused: dict[str, str] = {}  # runner to why it could not be started, whoever tries again

    async def match(self, demand: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], str]:
        """Start what is missing; what of it could not be started, with the reason. It is tried again in a while."""
        alive = Counter((row.owner, row.profile) for row in await run_in_threadpool(self._all))
        missing: dict[tuple[str, str], str] = {}
        for (owner, profile), wanted in demand.items():
            for _ in range(wanted - alive[owner, profile]):
                try:
                    await self._launch(owner, profile)
                except LabwrightError as error:
                    log.warning("no runner for %s could be started: %s", owner, error)
                    missing[owner, profile] = error.sentence()
        return missing

    def _all(self) -> list[sa.Row[Any]]:
        with self._core.database.read() as connection:
            return list(connection.execute(sa.select(runners)))

    async def _launch(self, owner: str, slug: str) -> None:
        workbench = self._core.workbench()
        profile = workbench.profile(slug)
        if profile is None:
            return
        runner_id = store.new_id("runner", self._core.now())
        # Recorded before the launch: a crash in between leaves a row that is reaped, never a runner nobody counts.
        await run_in_threadpool(self._record, runner_id, owner, slug)
        principal = Principal(owner)
        limits = Limits(profile.cpu, profile.memory_bytes, gpus=workbench.visible_gpus(profile.gpu_count))
        try:
            home = await self._core.launcher.prepare(principal)
            launched = await self._core.launcher.launch(
                principal,
                [str(self._core.settings.python("user")), "-m", "labwright.kernels.runner"],
                env=self._environment(runner_id, owner, slug),
                limits=limits,
                name="runner",
                log=home / LOG,
            )
        except Unavailable:
            raise
        except LabwrightError as error:
            self._refused[runner_id] = error.sentence()
            raise
        await run_in_threadpool(self._launched, runner_id, launched.id)

    def _environment(self, runner_id: str, owner: str, slug: str) -> dict[str, str]:
        settings = self._core.settings
        return {
            **settings.person_environment(),
            names.PROFILE: slug,
            names.RUNNER_ID: runner_id,
            # For the first lease only, whose answer renews it in memory: it is stale before a notebook could use it.
            names.RUNNER_TOKEN: self._attempts.runner_token(owner, LAUNCH_TOKEN_SECONDS),
            "LANG": "C.UTF-8",
        }

    def _record(self, runner_id: str, owner: str, slug: str) -> None:
        now = self._core.now()
        values = {"id": runner_id, "owner": owner, "profile": slug, "started": now, "last_seen": now}
        with self._core.database.write() as connection:
            connection.execute(runners.insert().values(**values))

    def _launched(self, runner_id: str, launch_id: str) -> None:
        with self._core.database.write() as connection:
            connection.execute(runners.update().where(runners.c.id == runner_id).values(launch_id=launch_id))

    async def reap(self) -> list[Gone]:
        """Forget runners that have ended."""
        gone = []
        for row in await run_in_threadpool(self._all):
            if (reason := await self._why_gone(row)) is not None:
                refused = self._refused.pop(row.id, None)
                silent = row.launch_id is not None and row.last_seen == row.started
                gone.append(Gone(row.id, row.owner, row.profile, refused or reason, not (silent or refused)))
        await run_in_threadpool(self._forget, [runner.id for runner in gone])
        return gone

    async def _why_gone(self, row: sa.Row[Any]) -> str | None:
        now = self._core.now()
        if row.launch_id is None:
            late = now - row.started > timedelta(seconds=RELAUNCH_SECONDS)
            return "Its runner could not be started." if late else None
        try:
            status = await self._core.launcher.status(row.launch_id)
            if status.running:
                silent = now - row.last_seen > timedelta(seconds=SILENT_SECONDS)
                if not silent:
                    return None
            # Whatever the runner left behind (a kernel whose parent was killed) ends with it.
            await self._core.launcher.stop(row.launch_id, grace_seconds=2.0)
        except LabwrightError:
            return None
        return status.reason or ("Its runner was silent." if status.running else "Its runner ended unexpectedly.")

    def _forget(self, runner_ids: list[str]) -> None:
        with self._core.database.write() as connection:
            connection.execute(runners.delete().where(runners.c.id.in_(runner_ids)))
