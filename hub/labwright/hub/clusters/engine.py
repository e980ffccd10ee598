"""What the reconciler needs of an engine; Dask and Spark each have one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import sqlalchemy as sa

from labwright.api.clusters import ClusterAddress


@dataclass(frozen=True)
class ClusterRow:
    """A row of `tables.clusters`, as a value."""

    id: str
    owner: str
    name: str
    engine: Literal["dask", "spark"]
    account_group: str | None
    profile: str
    cpu: float
    memory_bytes: int
    gpu: int
    price_per_hour: float
    workers_wanted: int
    target: Literal["running", "stopped"]
    state: Literal["starting", "running", "stopping", "stopped", "failed"]
    reason: str | None
    remote: str | None
    port: int | None
    dashboard: str | None
    attempts: int
    workers: int
    memory_used_bytes: int | None
    activity: str
    created: datetime
    started: datetime | None
    stopped: datetime | None
    last_active: datetime
    renewed: datetime


def row_of(row: sa.Row[tuple[object, ...]]) -> ClusterRow:
    return ClusterRow(**row._mapping)


@dataclass(frozen=True)
class Started:
    """What was started, to be written down before the next step."""

    remote: str
    port: int | None = None
    dashboard: str | None = None


@dataclass(frozen=True)
class Observation:
    """How a cluster is. `activity` is any text that changes when it works; `busy` says that it works now.

    `logs` is a sentence: where its owner finds them once nothing else is left of it.
    """

    state: Literal["starting", "running", "ended"]
    workers: int = 0
    memory_bytes: int = 0
    busy: bool = False
    activity: str = ""
    dashboard: str | None = None
    reason: str | None = None
    logs: str = ""


class Engine(Protocol):
    """Each call is one step; it may be repeated and fails with `Unavailable` when the other side is away."""

    async def start(self, cluster: ClusterRow, idle_seconds: int) -> Started: ...

    async def observe(self, cluster: ClusterRow) -> Observation: ...

    async def scale(self, cluster: ClusterRow) -> None: ...

    async def stop(self, cluster: ClusterRow) -> bool:
        """Ask for the end; True when nothing is left of it."""
        ...

    def address(self, cluster: ClusterRow) -> ClusterAddress: ...

    def dashboard_headers(self, cluster: ClusterRow) -> dict[str, str]:
        """What opens the dashboard."""
        ...

    def dashboard_page(self) -> str:
        """The path of the page to show first."""
        ...
