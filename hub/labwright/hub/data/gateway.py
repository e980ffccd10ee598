"""A query's way: judged, run in the connection's worker, streamed to the caller as it comes, and audited."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from labwright.api.connections import ARROW_STREAM, Origin, QueryRequest
from labwright.api.errors import AccessDenied, BadQuery, InternalError, LabwrightError
from labwright.hub.callers import Caller
from labwright.hub.data import access, drivers
from labwright.hub.data.store import Definition, Store
from labwright.hub.data.values import BadValue, decode_parameter
from labwright.hub.data.workers import Exchange, WorkerFailure, Workers, unreachable

if TYPE_CHECKING:
    from labwright.hub.data.judge import Verdict

log = logging.getLogger("labwright.data")
PER_PERSON = 4  # statements at a time on one connection: half of its worker's places


@dataclass(frozen=True)
class Query:
    """A statement that was judged and may be run."""

    definition: Definition
    original: str
    verdict: Verdict
    parameters: list[Any]
    limit: int | None
    who: str
    origin: Origin


class Gateway:
    def __init__(self, store: Store, workers: Workers, now: Callable[[], datetime]) -> None:
        self.store = store
        self.workers = workers
        self._now = now
        self._warm = False
        self._places: dict[tuple[str, str], asyncio.Semaphore] = {}

    def warm_up(self) -> None:
        """Somebody looks at the connections and will ask soon: load the SQL parser beside the event loop."""
        if not self._warm:
            self._warm = True
            threading.Thread(target=import_module, args=["labwright.hub.data.judge"], daemon=True).start()

    async def prepare(self, name: str, request: QueryRequest, caller: Caller) -> Query:
        """Resolve the connection and judge the SQL with the caller's grants of this moment. Refusals are audited."""
        from labwright.hub.data.judge import Rules, judge  # sqlglot: half of this service's start, so not at its top

        origin = origin_of(request.origin, caller)
        definition = await run_in_threadpool(self.store.connection, name)
        grants = await run_in_threadpool(self.store.grants_for, name, caller.groups)
        try:
            if not grants:
                raise AccessDenied(
                    f"You may not read anything in '{name}'.",
                    remedy="Ask your admin to grant it to one of your groups.",
                    connection=name,
                )
            driver = drivers.find(definition.driver)
            catalog = await self.workers.catalog(definition)
            rules = Rules(
                connection=name,
                dialect=driver.dialect,
                schema=driver.schema,
                functions=catalog.functions,
                may_read=lambda schema, table: access.may_read(grants, schema, table),
            )
            lists = {name: len(value) for name, value in request.parameters.items() if isinstance(value, list)}
            verdict = await run_in_threadpool(judge, request.sql, rules, lists)
            parameters = bind(verdict, request.parameters)
        except (AccessDenied, BadQuery) as error:
            details = {"sql": request.sql[:2000], "refused": error.code, "reason": str(error)}
            await run_in_threadpool(self._audit, caller.name, name, origin, details)
            raise
        await run_in_threadpool(self.store.audit.check, self.store.database, self._now())
        return Query(definition, request.sql, verdict, parameters, request.limit, caller.name, origin)

    def place(self, query: Query) -> asyncio.Semaphore:
        """One of the person's places on the connection, to be held while the query runs and its answer is read."""
        return self._places.setdefault((query.definition.name, query.who), asyncio.Semaphore(PER_PERSON))

    async def begin(self, query: Query) -> Exchange:
        ask = {
            "what": "query",
            "sql": query.verdict.sql,
            "parameters": query.parameters,
            "limit": query.limit,
        }
        return await self.workers.ask(query.definition, ask)

    def failure(self, query: Query, failure: WorkerFailure) -> LabwrightError:
        """The error of our tree for what a worker answered."""
        if failure.kind == "unreachable":
            return unreachable(query.definition.name, failure)
        if failure.kind == "internal":
            log.error("a query on %s failed in its worker: %s", query.definition.name, failure)
            return InternalError(query.definition.name)
        if failure.kind == "timeout":
            return BadQuery(str(failure), remedy="Read less, or ask your admin for a longer limit.")
        from labwright.hub.data.judge import position_in

        place = position_in(query.original, query.verdict.sql, failure.position)
        where = {"line": place[0], "column": place[1]} if place else {}
        text = str(failure).rstrip(".")
        shown = f" (line {place[0]}, column {place[1]})" if place else ""
        return BadQuery(f"{text}{shown}.", remedy=failure.hint, **where)

    async def finished(self, query: Query, outcome: Mapping[str, Any]) -> None:
        """Write what became of a query into the audit trail."""
        details = {
            "sql": query.original[:2000],
            "tables": [f"{schema}.{table}" for schema, table in query.verdict.tables],
            **outcome,
        }
        await run_in_threadpool(self._audit, query.who, query.definition.name, query.origin, details)

    def _audit(self, who: str, what: str, origin: Origin, details: Mapping[str, Any]) -> None:
        came_from = origin.model_dump(exclude_none=True)
        with self.store.database.write() as connection:
            self.store.audit.append(
                connection,
                now=self._now(),
                who=who,
                action="query",
                what=what,
                details={**details, **({"origin": came_from} if came_from else {})},
            )


def origin_of(origin: Origin, caller: Caller) -> Origin:
    """The run comes from the token when it is a run's: nobody may name another's."""
    return Origin(notebook=origin.notebook, run_id=caller.run_id)


def bind(verdict: Verdict, given: Mapping[str, Any]) -> list[Any]:
    """The values in the order of $1, $2 …; each one a scalar or a list of scalars."""
    values = []
    for slot in verdict.parameters:
        name, _, at = slot.partition("[")
        if name not in given:
            raise BadQuery(
                f"The parameter :{name} has no value.",
                remedy="Set a variable of that name, or write '::' for a cast.",
                parameter=name,
            )
        value = given[name]
        tagged = isinstance(value, dict) and set(value) == {"type", "value"}
        items = value if isinstance(value, list) else [value]
        if not tagged and any(isinstance(item, (dict, list)) for item in items):
            raise BadQuery(f"The parameter :{name} is not a single value or a list.", parameter=name)
        try:
            decode_parameter(value)  # the worker's work: what it could not bind is refused before it is asked
        except BadValue as error:
            raise BadQuery(f"The parameter :{name} {error}.", parameter=name) from None
        values.append(value[int(at.removesuffix("]"))] if at else value)
    return values


class QueryResponse(Response):
    """Streams a query's result. Ends the query in the source when the client leaves; audits in every case.

    An ordinary StreamingResponse would send its headers before the source has answered, and would not notice a
    client that leaves while the source still works.
    """

    media_type = ARROW_STREAM

    def __init__(self, gateway: Gateway, query: Query) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self._gateway = gateway
        self._query = query
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        outcome: dict[str, Any] = {"state": "failed"}
        work = asyncio.create_task(self._stream(send, outcome))
        leaving = asyncio.create_task(_client_left(receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                outcome["state"] = "cancelled"
                work.cancel()
                await asyncio.wait((work,))
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)
            outcome.setdefault("seconds", round(time.monotonic() - started, 3))
            await asyncio.shield(self._gateway.finished(self._query, outcome))
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error
        if outcome["state"] == "succeeded":
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, send: Send, outcome: dict[str, Any]) -> None:
        async with self._gateway.place(self._query):
            exchange = await self._gateway.begin(self._query)
            try:
                async with aclosing(self._frames(exchange)) as frames:
                    async for kind, payload in frames:
                        if kind == b"Z":
                            end = json.loads(payload)
                            outcome |= {"state": "succeeded", "rows": end["rows"], "seconds": round(end["seconds"], 3)}
                            outcome |= {"truncated": True} if end["truncated"] else {}
                        else:
                            await self._send(send, payload)
            finally:
                exchange.close()

    async def _frames(self, exchange: Exchange) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """The worker's frames; the schema is held back until the first rows (or the end), so that an error that
        comes with them still gets its status."""
        held = b""
        async with aclosing(exchange.frames()) as frames:
            try:
                async for kind, payload in frames:
                    if kind == b"D" and not held and not self._started:
                        held = payload
                        continue
                    if held:
                        yield b"D", held
                        held = b""
                    yield kind, payload
            except WorkerFailure as failure:
                error = self._gateway.failure(self._query, failure)
                raise error from None

    async def _send(self, send: Send, payload: bytes) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": payload, "more_body": True})


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
