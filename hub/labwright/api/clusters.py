"""Clusters on the wire: one shape over Dask Gateway and Spark Connect."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from labwright.api.jobs import Wire

Engine = Literal["dask", "spark"]
ClusterState = Literal["starting", "running", "stopping", "stopped", "failed"]


class ClusterRequest(Wire):
    engine: Engine
    name: str | None = Field(default=None, max_length=64, description="Chosen for you when absent.")
    workers: int = Field(default=2, ge=0, le=256, description="Dask: worker processes. Spark: local threads.")
    group: str | None = Field(default=None, description="The group that is billed; yourself when absent.")
    profile: str | None = Field(default=None, description="Size of one worker: a slug of workbench.yaml; the smallest.")


class ClusterScale(Wire):
    workers: int = Field(ge=0, le=256)


class Cluster(Wire):
    id: str
    name: str
    engine: Engine
    owner: str
    state: ClusterState
    workers: int = Field(description="Ready now.")
    workers_wanted: int
    cpu: float
    memory_bytes: int = Field(description="Reserved.")
    memory_used_bytes: int | None = None
    price_per_hour: float
    cost: float = Field(description="So far.")
    currency: str = Field(description="Of price and cost.")
    dashboard_url: str | None = Field(default=None, description="Path under the proxy's address, for a browser.")
    reason: str | None = None
    profile: str | None = Field(default=None, description="Size of one worker.")
    created: datetime
    idle_stops_at: datetime | None = None


class ClusterAddress(Wire):
    """What code needs to connect; given to the owner only."""

    engine: Engine
    address: str = Field(description="Dask: the gateway's URL. Spark: sc://host:port/;token=…")
    proxy_address: str | None = None
    cluster_name: str


class ClusterPage(Wire):
    items: list[Cluster]
