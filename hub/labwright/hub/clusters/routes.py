"""The routes of clusters: parse, call, render."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from labwright.api.clusters import Cluster, ClusterAddress, ClusterPage, ClusterRequest, ClusterScale
from labwright.api.errors import Conflict
from labwright.hub.callers import ClustersCaller
from labwright.hub.clusters.engine import Engine
from labwright.hub.clusters.reconciler import Reconciler
from labwright.hub.clusters.service import ClusterService

router = APIRouter()


class Parts:
    """What the routes need, found on the app."""

    def __init__(self, service: ClusterService, reconciler: Reconciler, engines: dict[str, Engine]) -> None:
        self.service = service
        self.reconciler = reconciler
        self.engines = engines


def parts(request: Request) -> Parts:
    areas = request.app.state.areas
    found: Parts = next(area.parts for area in areas if isinstance(getattr(area, "parts", None), Parts))
    return found


Clusters = Annotated[Parts, Depends(parts)]


@router.post("/clusters", status_code=201)
def create_cluster(ask: ClusterRequest, clusters: Clusters, caller: ClustersCaller) -> Cluster:
    """Start a cluster. It is booked and stored now, and running some seconds later."""
    cluster = clusters.service.create(ask, caller)
    clusters.reconciler.wake()
    return clusters.service.shown(cluster)


@router.get("/clusters")
def list_clusters(clusters: Clusters, caller: ClustersCaller) -> ClusterPage:
    """The caller's clusters, wherever they were made, and those that ended in the last minutes."""
    return ClusterPage(items=[clusters.service.shown(cluster) for cluster in clusters.service.page(caller)])


@router.get("/clusters/{id}")
def get_cluster(id: str, clusters: Clusters, caller: ClustersCaller) -> Cluster:
    """One cluster, by its id or the name of a live one."""
    return clusters.service.shown(clusters.service.get(id, caller))


@router.post("/clusters/{id}/scale")
def scale_cluster(id: str, ask: ClusterScale, clusters: Clusters, caller: ClustersCaller) -> Cluster:
    """Change the number of workers."""
    cluster = clusters.service.scale(id, ask.workers, caller)
    clusters.reconciler.wake()
    return clusters.service.shown(cluster)


@router.delete("/clusters/{id}")
def stop_cluster(id: str, clusters: Clusters, caller: ClustersCaller) -> Cluster:
    """Stop a cluster; its state becomes stopped when nothing of it is left."""
    cluster = clusters.service.stop(id, caller)
    clusters.reconciler.wake()
    return clusters.service.shown(cluster)


@router.get("/clusters/{id}/address")
def cluster_address(
    id: str,
    clusters: Clusters,
    caller: ClustersCaller,
    starting: Annotated[bool, Query(description="Also while it starts; cluster_name may be empty then.")] = False,
) -> ClusterAddress:
    """What code needs to connect, the token of a Spark session among it."""
    cluster = clusters.service.get(id, caller)
    if cluster.state != "running" and not (starting and cluster.state == "starting"):
        raise Conflict(f"The cluster '{cluster.name}' is {cluster.state}.", remedy="Wait for it, or start a new one.")
    return clusters.engines[cluster.engine].address(cluster)
