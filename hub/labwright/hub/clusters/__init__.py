"""Clusters: one API over Dask Gateway and Spark Connect. An area of core."""

from __future__ import annotations

from fastapi import APIRouter

from labwright.hub.clusters import tables as tables
from labwright.hub.clusters.dashboard import Dashboards
from labwright.hub.clusters.dask import DaskEngine
from labwright.hub.clusters.engine import Engine
from labwright.hub.clusters.reconciler import Reconciler
from labwright.hub.clusters.routes import Parts, router
from labwright.hub.clusters.service import ClusterService
from labwright.hub.clusters.spark import SparkEngine
from labwright.hub.core.context import Core


class ClusterArea:
    """The part of core that owns clusters."""

    def __init__(self, core: Core) -> None:
        service = ClusterService(core)
        engines: dict[str, Engine] = {"dask": DaskEngine(core), "spark": SparkEngine(core)}
        self.reconciler = Reconciler(core, service, engines)
        self.parts = Parts(service, self.reconciler, engines)
        self.router: APIRouter = router
        self.root = Dashboards(core, service, engines).router  # outside the API, below /services/core

    async def start(self) -> None:
        self.reconciler.start()

    async def close(self) -> None:
        await self.reconciler.close()


def build(core: Core) -> ClusterArea:
    return ClusterArea(core)
