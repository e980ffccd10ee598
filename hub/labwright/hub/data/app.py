"""Put the data service together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
from fastapi import FastAPI

from labwright.api import names
from labwright.hub.audit import AuditLog
from labwright.hub.callers import CallerResolver, HubDirectory, Resolver
from labwright.hub.data import schema
from labwright.hub.data.gateway import Gateway
from labwright.hub.data.routes import health_router, router
from labwright.hub.data.store import Store
from labwright.hub.data.vault import Vault
from labwright.hub.data.workers import Workers
from labwright.hub.database import Database
from labwright.hub.events import EventLog
from labwright.hub.service import create_service
from labwright.hub.settings import Settings
from labwright.hub.tokens import Verifier
from labwright.spawner.profiles import Workbench


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings,
    workbench: Callable[[], Workbench],
    *,
    resolver: Resolver | None = None,
    now: Callable[[], datetime] = utc_now,
    timeout_seconds: float = 600.0,
) -> FastAPI:
    """The data service as an ASGI app: all routes below /services/data. `resolver` defaults to the hub and core."""
    settings.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.data_database_url)
    events = EventLog(database, schema.events_table)
    audit = AuditLog("data", schema.audit_rows, schema.audit_head)
    vault = Vault(settings.data_folder / "secrets.key")
    store = Store(settings, database, vault, audit, events, workbench, now)
    workers = Workers(timeout_seconds)
    http = httpx.AsyncClient(trust_env=False, timeout=30.0)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database.migrate(schema.MIGRATIONS)
        try:
            yield
        finally:
            app.state.stopping = True
            events.wake()
            await workers.close()
            await http.aclose()
            database.close()

    app = create_service("Labwright data", names.DATA_PREFIX, lifespan)
    app.state.resolver = resolver or hub_resolver(settings, http)
    app.state.gateway = Gateway(store, workers, now)
    app.state.events = events
    app.state.stopping = False
    app.include_router(health_router, prefix=names.DATA_PREFIX)
    app.include_router(router, prefix=names.DATA_PREFIX + names.API)
    return app


def hub_resolver(settings: Settings, http: httpx.AsyncClient) -> CallerResolver:
    directory = HubDirectory.of_service("data", settings, http)
    return CallerResolver("data", directory, Verifier(settings.public_key_file))
