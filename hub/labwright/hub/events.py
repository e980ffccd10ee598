"""Changes as they happen: a table written with each mutation, and a server-sent stream that reads it.

The table makes the stream resumable (`after=`) and lets several processes share it; within one process a condition
wakes readers at once, across processes they notice within `POLL_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from labwright.api.events import Event, Topic
from labwright.hub.database import Database, DatabaseAway, UtcDateTime

POLL_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 15.0


def table(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "events",
        metadata,
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("owner", sa.Text, nullable=False, index=True),  # who may see it; '*' for everybody
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("time", UtcDateTime, nullable=False),
        sqlite_autoincrement=True,
    )


class EventLog:
    """Appends events and streams them to whoever may see them."""

    def __init__(self, database: Database, events: sa.Table) -> None:
        self._database = database
        self._table = events
        self._waiters: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def append(
        self,
        connection: sa.Connection,
        *,
        owner: str,
        topic: Topic,
        key: str,
        action: Literal["created", "updated", "deleted", "restored"],
        now: datetime,
    ) -> None:
        """Tell of a change, in its transaction; readers wake after the commit (or at the next poll)."""
        connection.execute(self._table.insert().values(owner=owner, topic=topic, key=key, action=action, time=now))
        self.wake()

    def wake(self) -> None:
        """Let readers of this process look now. Safe from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set_all)

    def _set_all(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    def since(self, after: int, owner: str | None) -> list[Event]:
        """Events after a sequence number, oldest first, at most 500; all owners when `owner` is None."""
        query = sa.select(self._table).where(self._table.c.sequence > after).order_by(self._table.c.sequence).limit(500)
        if owner is not None:
            query = query.where(self._table.c.owner.in_([owner, "*"]))
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            Event(sequence=row.sequence, topic=row.topic, key=row.key, action=row.action, time=row.time) for row in rows
        ]

    def last(self) -> int:
        with self._database.read() as connection:
            return connection.scalar(sa.select(sa.func.max(self._table.c.sequence))) or 0

    async def stream(self, after: int | None, owner: str | None, stopped: Callable[[], bool]) -> AsyncIterator[str]:
        """Server-sent events until `stopped()`; starts with what comes next when `after` is None."""
        self._loop = asyncio.get_running_loop()
        position = after
        told = False
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        quiet = 0.0
        try:
            while not stopped():
                waiter.clear()
                with contextlib.suppress(DatabaseAway):  # what is missed meanwhile comes when it is back
                    if position is None:
                        position = await run_in_threadpool(self.last)
                    if not told:
                        told = True
                        yield f": ready\nid: {position}\nevent: ready\ndata: {{}}\n\n"
                    for event in await run_in_threadpool(self.since, position, owner):
                        position, quiet = event.sequence, 0.0
                        yield f"id: {event.sequence}\ndata: {json.dumps(event.model_dump(mode='json'))}\n\n"
                try:
                    await asyncio.wait_for(waiter.wait(), POLL_SECONDS)
                except TimeoutError:
                    quiet += POLL_SECONDS
                if quiet >= KEEP_ALIVE_SECONDS:
                    quiet = 0.0
                    yield ": alive\n\n"
        finally:
            self._waiters.discard(waiter)
