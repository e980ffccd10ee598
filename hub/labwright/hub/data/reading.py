"""Run a statement of our own making as the caller, and give its rows; judged and audited like any query."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

from starlette.concurrency import run_in_threadpool

from labwright.api.connections import Origin, QueryRequest
from labwright.api.errors import Unavailable
from labwright.hub.callers import Caller
from labwright.hub.data import catalog as views
from labwright.hub.data.gateway import Gateway
from labwright.hub.data.workers import WorkerFailure

READING_SECONDS = 60


async def read(service: Gateway, name: str, sql: str, limit: int, caller: Caller, purpose: str) -> list[list[Any]]:
    """At most `limit` rows as JSON can carry them, within a minute. `purpose` stands in the audit trail."""
    started = time.monotonic()
    query = await service.prepare(name, QueryRequest(sql=sql, limit=limit, origin=Origin()), caller)
    outcome: dict[str, Any] = {"state": "failed", purpose: True}
    try:
        body = bytearray()
        async with service.place(query):
            exchange = await service.begin(query)
            try:
                async with asyncio.timeout(READING_SECONDS), aclosing(exchange.frames()) as frames:
                    async for kind, payload in frames:
                        body += payload if kind == b"D" else b""
            except TimeoutError:
                raise Unavailable(f"The connection '{name}'") from None
            except WorkerFailure as failure:
                raise service.failure(query, failure) from None
            finally:
                exchange.close()
        rows = await run_in_threadpool(views.json_rows, bytes(body))
        outcome |= {"state": "succeeded", "rows": len(rows)}
    finally:
        seconds = round(time.monotonic() - started, 3)
        await asyncio.shield(service.finished(query, outcome | {"seconds": seconds}))
    return rows
