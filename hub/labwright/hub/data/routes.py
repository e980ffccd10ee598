"""The data service over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from labwright.api import names
from labwright.api.connections import (
    ARROW_STREAM,
    Catalog,
    ColumnProfile,
    Connection,
    ConnectionPage,
    ConnectionRequest,
    Grant,
    Preview,
    QueryRequest,
    TableColumns,
)
from labwright.api.errors import InvalidRequest, LabwrightError, NotFound, Unavailable
from labwright.api.usage import AuditPage
from labwright.hub.callers import AdminCaller, Caller, DataCaller
from labwright.hub.data import catalog as views
from labwright.hub.data import drivers, profile
from labwright.hub.data.gateway import Gateway, QueryResponse
from labwright.hub.data.reading import read
from labwright.hub.data.store import Definition

HEALTH_SECONDS = 4.0
MAX_PREVIEW = 1000

health_router = APIRouter()
router = APIRouter()


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


Service = Annotated[Gateway, Depends(_gateway)]


@health_router.get("/health", include_in_schema=False)
async def health() -> dict[str, str]:
    """Open to everybody: that the service answers, nothing else."""
    return {"status": "ready"}


@router.get("/events", response_class=StreamingResponse)
async def events(
    request: Request, caller: DataCaller, after: Annotated[int | None, Query(ge=0, le=names.MOST_WHOLE)] = None
) -> StreamingResponse:
    """Changed connections and grants, as server-sent events; resume with `after=` the last id."""
    stream = request.app.state.events.stream(after, caller.name, lambda: bool(request.app.state.stopping))
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.get("/connections")
async def list_connections(service: Service, caller: DataCaller) -> ConnectionPage:
    """All connections with their state, and whether the caller may read them."""
    service.warm_up()
    definitions = await run_in_threadpool(service.store.connections)
    return ConnectionPage(items=await asyncio.gather(*(_shown(service, item, caller) for item in definitions)))


async def _shown(service: Gateway, definition: Definition, caller: Caller) -> Connection:
    grants = await run_in_threadpool(service.store.grants_for, definition.name, caller.groups)
    state, reason = await _state(service, definition)
    return Connection(
        name=definition.name,
        driver=definition.driver,
        title=drivers.find(definition.driver).title if definition.driver in drivers.names() else definition.driver,
        description=definition.description,
        state=state,
        reason=reason,
        granted=bool(grants),
        declared=definition.declared,
    )


async def _state(
    service: Gateway, definition: Definition
) -> tuple[Literal["ready", "unreachable", "starting"], str | None]:
    """Whether the source answers; a source that has not answered yet is starting."""
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            await service.workers.catalog(definition)
    except TimeoutError:
        return "starting", "It has not answered yet."
    except Unavailable as error:
        reason = error.details.get("reason")
        return ("unreachable", str(reason)) if reason else ("starting", str(error))
    except LabwrightError as error:
        return "unreachable", error.sentence()
    return "ready", None


@router.post("/connections", status_code=201)
async def add_connection(ask: ConnectionRequest, service: Service, caller: AdminCaller) -> Connection:
    """Try the source out, then store it; its credential is encrypted and never comes back."""
    definition = await run_in_threadpool(service.store.check, ask)
    try:
        await service.workers.try_out(definition)
    except Unavailable as error:
        reason = error.details.get("reason") or "it did not answer"
        raise InvalidRequest(
            f"The connection does not work: {reason}", remedy="Nothing was stored. Mend it and try again."
        ) from None
    await run_in_threadpool(service.store.add, ask, caller.name)
    return await _shown(service, await run_in_threadpool(service.store.connection, ask.name), caller)


@router.post("/connections/test", status_code=200)
async def try_connection(ask: ConnectionRequest, service: Service, caller: AdminCaller) -> Catalog:
    """What a connection would show, without storing it."""
    definition = await run_in_threadpool(service.store.check, ask)
    found = await service.workers.try_out(definition)
    return views.catalog_of(ask.name, found, [Grant(group=caller.name, connection=ask.name)], None)


@router.delete("/connections/{name}", status_code=204)
async def remove_connection(name: str, service: Service, caller: AdminCaller) -> Response:
    """Remove a connection and its grants; not one of workbench.yaml."""
    await run_in_threadpool(service.store.remove, name, caller.name)
    await service.workers.forget(name)
    return Response(status_code=204)


async def _granted(service: Gateway, name: str, caller: Caller) -> tuple[Definition, list[Grant]]:
    definition = await run_in_threadpool(service.store.connection, name)
    grants = await run_in_threadpool(service.store.grants_for, name, caller.groups)
    if not grants:
        raise NotFound("connection that you may read named", name)
    return definition, grants


@router.get("/connections/{name}/catalog")
async def catalog(
    name: str,
    service: Service,
    caller: DataCaller,
    search: Annotated[str | None, Query(max_length=200)] = None,
    fresh: bool = False,
) -> Catalog:
    """The tables that the caller may read. `fresh`: ask the source instead of a memory of at most a minute."""
    definition, grants = await _granted(service, name, caller)
    return views.catalog_of(name, await service.workers.catalog(definition, fresh=fresh), grants, search)


@router.get("/connections/{name}/columns")
async def all_columns(name: str, service: Service, caller: DataCaller) -> list[TableColumns]:
    """Every table that the caller may read with its columns, for completion."""
    definition, grants = await _granted(service, name, caller)
    found = await service.workers.catalog(definition)
    return [
        views.columns_of(found, grants, table["schema"], table["name"]) for table in views.visible(found, grants)[:2000]
    ]


@router.get("/connections/{name}/tables/{schema}/{table}")
async def columns(name: str, schema: str, table: str, service: Service, caller: DataCaller) -> TableColumns:
    """The columns of one table."""
    definition, grants = await _granted(service, name, caller)
    return views.columns_of(await service.workers.catalog(definition), grants, schema, table)


@router.get("/connections/{name}/tables/{schema}/{table}/preview")
async def preview(
    name: str,
    schema: str,
    table: str,
    service: Service,
    caller: DataCaller,
    limit: Annotated[int, Query(ge=1, le=MAX_PREVIEW)] = 100,
) -> Preview:
    """The first rows of a table; audited like any query."""
    started = time.monotonic()
    definition, grants = await _granted(service, name, caller)
    shown = views.columns_of(await service.workers.catalog(definition), grants, schema, table)
    sql = views.preview_sql(schema, table, limit, drivers.find(definition.driver).dialect)
    rows = await read(service, name, sql, limit, caller, "preview")
    seconds = round(time.monotonic() - started, 3)
    return Preview(table=shown.table, columns=shown.columns, rows=rows, seconds=seconds)


@router.get("/connections/{name}/tables/{schema}/{table}/columns/{column}/profile")
async def column_profile(
    name: str, schema: str, table: str, column: str, service: Service, caller: DataCaller
) -> ColumnProfile:
    """What is in one column: nulls, distinct and common values, extremes, a histogram; reads the whole column."""
    definition, grants = await _granted(service, name, caller)
    shown = views.columns_of(await service.workers.catalog(definition), grants, schema, table)
    found = next((each for each in shown.columns if each.name == column), None)
    if found is None:
        raise NotFound("column", column)
    ask = profile.Statements(schema, table, column, drivers.find(definition.driver).dialect)

    async def rows(sql: str) -> list[list[Any]]:
        return await read(service, name, sql, MAX_PREVIEW, caller, "profile")

    kind = profile.kind_of(found.type)
    (totals,) = await rows(ask.totals(kind))
    at = profile.span(totals, kind, found.type)
    common = await rows(ask.common()) if kind in profile.GROUPED else []
    return profile.assemble(totals, common, at, [] if at is None else await rows(ask.bins(*at)))


@router.post(
    "/connections/{name}/query",
    response_class=Response,
    responses={200: {"content": {ARROW_STREAM: {}}, "description": "An Arrow IPC stream"}},
)
async def query(name: str, ask: QueryRequest, service: Service, caller: DataCaller) -> Response:
    """Run SQL that the caller's grants permit; the last batch is empty and carries rows and seconds as metadata."""
    return QueryResponse(service, await service.prepare(name, ask, caller))


@router.get("/grants")
def list_grants(service: Service, caller: DataCaller) -> list[Grant]:
    """All grants for admins, one's own groups' for others."""
    mine = caller.groups | {"everyone"}
    return [grant for grant in service.store.grants() if caller.admin or grant.group in mine]


@router.put("/grants")
def put_grant(grant: Grant, service: Service, caller: AdminCaller) -> Grant:
    """Make or replace the one grant of a group on a connection."""
    service.store.put_grant(grant, caller.name)
    return grant


@router.delete("/grants", status_code=204)
def remove_grant(group: str, connection: str, service: Service, caller: AdminCaller) -> Response:
    """Take a group's grant on a connection away."""
    service.store.remove_grant(group, connection, caller.name)
    return Response(status_code=204)


@router.get("/audit")
def audit(
    service: Service,
    caller: DataCaller,
    before: Annotated[int | None, Query(ge=1, le=names.MOST_WHOLE)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    who: str | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
) -> AuditPage:
    """The trail, newest first: everybody's for admins, one's own rows for others."""
    whose = who if caller.admin else caller.name
    with service.store.database.read() as connection:
        return service.store.audit.page(connection, before=before, who=whose, search=search, limit=limit)
