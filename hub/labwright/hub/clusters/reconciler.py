"""Steps every cluster towards what is wanted of it. All it knows is in the table, so a restart loses nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from starlette.concurrency import run_in_threadpool

from labwright.api.errors import LabwrightError, Unavailable
from labwright.hub.clusters.engine import ClusterRow, Engine, Observation
from labwright.hub.clusters.service import RESERVATION_SECONDS, ClusterService
from labwright.hub.core.context import Core
from labwright.hub.database import DatabaseAway

log = logging.getLogger("labwright.clusters")
ROUND_SECONDS, BUSY_ROUND_SECONDS = 2.0, 0.4
START_DEADLINE = timedelta(minutes=3)
ATTEMPTS = 3
# Memory is shown in MB and idle time in minutes: smaller changes are not worth a write.
MEMORY_STEP_BYTES = 16 << 20
ACTIVE_STEP = timedelta(seconds=20)


class Reconciler:
    def __init__(self, core: Core, service: ClusterService, engines: Mapping[str, Engine]) -> None:
        self._core = core
        self._service = service
        self._engines = engines
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._away: set[str] = set()

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Look now. Safe from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                busy = await self.round()
            except DatabaseAway:  # which it says in the log by itself, and once
                busy = False
            except Exception:
                log.exception("a round over the clusters failed")
                busy = False
            try:
                await asyncio.wait_for(self._wake.wait(), BUSY_ROUND_SECONDS if busy else ROUND_SECONDS)
            except TimeoutError:
                continue

    async def round(self) -> bool:
        """One step for every cluster; True when one is on its way somewhere."""
        rows = await run_in_threadpool(self._service.unfinished)
        await asyncio.gather(*(self._step_safely(row) for row in rows))
        return any(row.state != "running" or row.workers != row.workers_wanted for row in rows)

    async def _step_safely(self, cluster: ClusterRow) -> None:
        try:
            await self.step(cluster)
            self._away.discard(cluster.id)
        except Unavailable as error:
            if cluster.id not in self._away:  # once, not every two seconds
                self._away.add(cluster.id)
                log.warning("cluster %s waits: %s", cluster.id, error)
        except LabwrightError as error:
            await self._failed(cluster, error.sentence())
        except Exception:
            log.exception("a step of cluster %s failed", cluster.id)

    async def step(self, cluster: ClusterRow) -> None:
        engine = self._engines[cluster.engine]
        if cluster.target == "stopped":
            if await engine.stop(cluster):
                await run_in_threadpool(self._service.ended, cluster, "stopped", cluster.reason)
            return
        if cluster.remote is None:
            await self._start(engine, cluster)
            return
        seen = await engine.observe(cluster)
        if seen.state == "ended":
            await self._ended(engine, cluster, seen)
        elif seen.state == "starting":
            if self._core.now() - cluster.created > START_DEADLINE:
                await engine.stop(cluster)
                await self._failed(cluster, "It did not start within 3 minutes.", seen.logs)
        else:
            await self._runs(cluster, seen)

    async def _start(self, engine: Engine, cluster: ClusterRow) -> None:
        started = await engine.start(cluster, self._core.workbench().idle.cluster_seconds)
        await run_in_threadpool(
            lambda: self._service.record(
                cluster,
                remote=started.remote,
                port=started.port,
                dashboard=started.dashboard,
                attempts=cluster.attempts + 1,
            )
        )

    async def _ended(self, engine: Engine, cluster: ClusterRow, seen: Observation) -> None:
        """Try again when it never ran (a port taken in the meantime); else say why it is gone."""
        await engine.stop(cluster)
        if cluster.started is None and cluster.engine == "spark" and cluster.attempts < ATTEMPTS:
            await run_in_threadpool(lambda: self._service.record(cluster, remote=None))
        else:
            await self._failed(cluster, seen.reason, seen.logs)

    async def _failed(self, cluster: ClusterRow, reason: str | None, logs: str = "") -> None:
        reason = f"{reason} {logs}".strip() if reason else None
        await run_in_threadpool(self._service.ended, cluster, "failed" if reason else "stopped", reason)

    async def _runs(self, cluster: ClusterRow, seen: Observation) -> None:
        now = self._core.now()
        changed: dict[str, Any] = {}
        if cluster.state != "running":
            changed |= {"state": "running", "started": now, "last_active": now}
        if seen.workers != cluster.workers:
            changed["workers"] = seen.workers
        if abs(seen.memory_bytes - (cluster.memory_used_bytes or 0)) >= MEMORY_STEP_BYTES:
            changed["memory_used_bytes"] = seen.memory_bytes
        if seen.dashboard and seen.dashboard != cluster.dashboard:
            changed["dashboard"] = seen.dashboard
        if seen.activity != cluster.activity:
            changed |= {"activity": seen.activity, "last_active": now}
        elif seen.busy and now - cluster.last_active >= ACTIVE_STEP:
            changed["last_active"] = now
        if changed:
            await run_in_threadpool(lambda: self._service.record(cluster, **changed))
        if now - cluster.renewed > timedelta(seconds=RESERVATION_SECONDS / 3):
            await run_in_threadpool(self._service.renew, cluster)
        idle = timedelta(seconds=self._core.workbench().idle.cluster_seconds)
        if not seen.busy and "last_active" not in changed and now - cluster.last_active >= idle:
            await run_in_threadpool(self._stop_idle, cluster, idle)

    def _stop_idle(self, cluster: ClusterRow, idle: timedelta) -> None:
        minutes = max(1, round(idle.total_seconds() / 60))
        reason = f"It was idle for {minutes} min and has been stopped. Start it again when you need it."
        with self._core.database.write() as connection:
            self._service.want_stopped(connection, cluster, reason, "core", self._core.now())
        self.wake()
