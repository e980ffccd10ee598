"""What the areas of core (jobs, clusters, usage, tracking) share, and the shape that each of them has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import httpx
import sqlalchemy as sa
from fastapi import APIRouter

from labwright.api.usage import Reservation, ReservationRequest
from labwright.hub.audit import AuditLog
from labwright.hub.callers import HubDirectory, Resolver
from labwright.hub.database import Database
from labwright.hub.events import EventLog
from labwright.hub.settings import Settings
from labwright.hub.tokens import Signer
from labwright.spawner.launcher import Launcher
from labwright.spawner.profiles import Workbench


class Ledger(Protocol):
    """Who holds what, and what it costs. Every call runs in the caller's write transaction."""

    def reserve(self, connection: sa.Connection, request: ReservationRequest, *, now: datetime) -> Reservation:
        """Take what is asked, or raise `QuotaExceeded`. Asking again for a live key renews it and takes nothing."""
        ...

    def renew(self, connection: sa.Connection, key: str, *, ttl_seconds: int, now: datetime) -> None: ...

    def release(self, connection: sa.Connection, key: str, *, now: datetime) -> Reservation | None:
        """Give back; the metered cost is in the answer. None when there is nothing live under the key."""
        ...

    def cost(self, connection: sa.Connection, key: str, *, now: datetime) -> float:
        """What the reservation has cost so far, live or released."""
        ...


@dataclass(frozen=True)
class Core:
    """The parts of the service, made once in `app.create_app`."""

    settings: Settings
    database: Database
    audit: AuditLog
    events: EventLog
    ledger: Ledger
    signer: Signer
    resolver: Resolver
    directory: HubDirectory
    launcher: Launcher
    http: httpx.AsyncClient
    workbench: Callable[[], Workbench]  # the file as last read without errors
    now: Callable[[], datetime]  # aware, UTC; injectable


class Area(Protocol):
    """One part of core: `build(core)` of its package returns it."""

    router: APIRouter  # mounted under /services/core/api/v1
    root: APIRouter  # pages, proxies and protocols beside the API: mounted under /services/core

    async def start(self) -> None:
        """Begin background work; the database is migrated by now."""
        ...

    async def close(self) -> None:
        """End background work and wait for it."""
        ...
