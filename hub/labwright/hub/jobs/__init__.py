"""Jobs: notebooks with typed parameters, run now or on a schedule, whether or not anybody is logged in.

`service` is what people do, `attempts` what runners do, `scheduler` what happens by itself.
"""

from __future__ import annotations

from fastapi import APIRouter

from labwright.hub.core.context import Core
from labwright.hub.jobs import protocol, routes, tables
from labwright.hub.jobs.artifacts import ArtifactStore
from labwright.hub.jobs.attempts import Attempts
from labwright.hub.jobs.bell import Bell
from labwright.hub.jobs.pool import RunnerPool
from labwright.hub.jobs.scheduler import Scheduler
from labwright.hub.jobs.service import Jobs

__all__ = ["JobsArea", "build", "tables"]


class JobsArea:
    """The area of core: routes of the API, the runner protocol, and the scheduler."""

    router: APIRouter = routes.router
    root: APIRouter = protocol.router

    def __init__(self, core: Core) -> None:
        self.queue, self.work = Bell(), Bell()
        artifacts = ArtifactStore(core.settings.artifacts_url)
        self.jobs = Jobs(core, artifacts, self.queue)
        self.attempts = Attempts(core, artifacts, self.queue, self.work)
        self.pool = RunnerPool(core, self.attempts)
        self.scheduler = Scheduler(core, self.pool, self.queue, self.work)

    async def start(self) -> None:
        self.queue.open()
        self.work.open()
        await self.scheduler.start()

    async def close(self) -> None:
        self.work.ring()
        await self.scheduler.close()


def build(core: Core) -> JobsArea:
    return JobsArea(core)
