"""Put core together: the shared parts, the areas, and their routes.

The areas are imported by name, so that one line here is all that a new area needs.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated

import httpx
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import StreamingResponse

from labwright.api import names
from labwright.hub.audit import AuditLog
from labwright.hub.callers import CallerResolver, HubDirectory, UsageCaller
from labwright.hub.core import schema
from labwright.hub.core.context import Area, Core, Ledger
from labwright.hub.database import Database
from labwright.hub.events import EventLog
from labwright.hub.service import create_service
from labwright.hub.settings import Settings
from labwright.hub.tokens import Signer, Verifier, create_signing_key, load_private_key
from labwright.spawner.launcher import Launcher
from labwright.spawner.profiles import Workbench

# Packages under labwright.hub that have build(core) -> Area.
AREAS: tuple[str, ...] = ("usage", "jobs", "clusters", "tracking")


def utc_now() -> datetime:
    return datetime.now(UTC)


def build_core(
    settings: Settings,
    *,
    ledger: Ledger,
    launcher: Launcher,
    workbench: Callable[[], Workbench],
    now: Callable[[], datetime] = utc_now,
) -> Core:
    """The shared parts. Makes the signing key at the first start."""
    settings.core_folder.mkdir(parents=True, exist_ok=True)
    settings.public_key_file.parent.mkdir(parents=True, exist_ok=True)
    create_signing_key(settings.signing_key_file, settings.public_key_file)
    database = Database(settings.core_database_url)
    http = httpx.AsyncClient(trust_env=False, timeout=30.0)
    directory = HubDirectory.of_service("core", settings, http)
    return Core(
        settings=settings,
        database=database,
        audit=AuditLog("core", schema.audit_rows, schema.audit_head),
        events=EventLog(database, schema.events_table),
        ledger=ledger,
        signer=Signer(load_private_key(settings.signing_key_file)),
        resolver=CallerResolver("core", directory, Verifier(settings.public_key_file)),
        directory=directory,
        launcher=launcher,
        http=http,
        workbench=workbench,
        now=now,
    )


def create_app(core: Core, areas: tuple[str, ...] = AREAS) -> FastAPI:
    """Core as an ASGI app: all routes below /services/core."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        core.database.migrate(schema.MIGRATIONS)
        built: list[Area] = app.state.areas
        for area in built:
            await area.start()
        try:
            yield
        finally:
            app.state.stopping = True
            core.events.wake()
            for area in reversed(built):
                await area.close()
            await core.http.aclose()
            core.database.close()

    app = create_service("Labwright core", names.CORE_PREFIX, lifespan)
    app.state.core = core
    app.state.resolver = core.resolver
    app.state.stopping = False
    app.state.areas = [importlib.import_module(f"labwright.hub.{name}").build(core) for name in areas]
    app.include_router(router, prefix=names.CORE_PREFIX)
    for area in app.state.areas:
        app.include_router(area.router, prefix=names.CORE_PREFIX + names.API)
        app.include_router(area.root, prefix=names.CORE_PREFIX)
    return app


router = APIRouter()


@router.get("/health", include_in_schema=False)
async def health() -> dict[str, str]:
    """Open to everybody: that the service answers, nothing else."""
    return {"status": "ready"}


@router.get(f"{names.API}/events", response_class=StreamingResponse)
async def events(
    request: Request, caller: UsageCaller, after: Annotated[int | None, Query(ge=0, le=names.MOST_WHOLE)] = None
) -> StreamingResponse:
    """What changed for the caller, as server-sent events; resume with `after=` the last id."""
    core: Core = request.app.state.core
    stream = core.events.stream(after, caller.name, lambda: bool(request.app.state.stopping))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
