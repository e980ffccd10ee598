"""Notices when the wall clock was set, so that nobody pays for an hour that did not happen and nothing dies of it.

The machine's steady clock (CLOCK_BOOTTIME: goes on through sleep, cannot be set) is remembered next to the wall clock.
When the wall clock moved against it by more than `TOLERANCE_SECONDS`, everything that is held is moved along: what a
reservation has lasted, and what is left until it expires, stay as they were. It works over restarts of core, as long
as the machine was not restarted (after which everything on it was ended anyway).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from labwright.hub.usage.tables import clock, reservations

TOLERANCE_SECONDS = 5.0
# The anchor follows slow corrections of the clock (slewing); older ones are renewed.
ANCHOR_SECONDS = 60.0


@dataclass(frozen=True)
class Steady:
    """A reading of the machine's steady clock; only readings of one boot can be compared."""

    boot: str
    seconds: float


def read_steady() -> Steady:
    """Linux' boot id and boot time; elsewhere a clock of this process, which notices jumps while it lives."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return Steady(boot, time.clock_gettime(time.CLOCK_BOOTTIME))
    except (OSError, AttributeError):
        return Steady(f"process-{_STARTED}", time.monotonic())


_STARTED = time.time_ns()


def settle_clock(connection: sa.Connection, now: datetime, steady: Callable[[], Steady] = read_steady) -> timedelta:
    """Move what is held along with the wall clock if that was set; by how much it was."""
    reading = steady()
    anchor = connection.execute(sa.select(clock).where(clock.c.boot == reading.boot)).one_or_none()
    if anchor is None:
        insert_once(connection, clock, boot=reading.boot, steady_seconds=reading.seconds, wall=now)
        return timedelta(0)
    passed = reading.seconds - anchor.steady_seconds
    jump: timedelta = now - anchor.wall - timedelta(seconds=passed)
    jumped = abs(jump.total_seconds()) > TOLERANCE_SECONDS
    if not jumped and passed < ANCHOR_SECONDS:
        return timedelta(0)
    moved = connection.execute(
        clock.update()
        # Whoever comes second finds the anchor moved already and must not move everything again.
        .where(clock.c.boot == reading.boot, clock.c.steady_seconds == anchor.steady_seconds)
        .values(steady_seconds=reading.seconds, wall=now)
    )
    if not jumped or moved.rowcount == 0:
        return timedelta(0)
    microseconds = int(jump / timedelta(microseconds=1))
    columns = reservations.c
    connection.execute(
        reservations.update()
        .where(columns.ended.is_(None))
        .values(
            created=sa.type_coerce(columns.created, sa.BigInteger) + microseconds,
            expires=sa.type_coerce(columns.expires, sa.BigInteger) + microseconds,
        )
    )
    return jump


def insert_once(connection: sa.Connection, table: sa.Table, **values: Any) -> bool:
    """Insert a row unless one stands in its way; whether it was inserted."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    key = next(iter(table.primary_key.columns))
    insert = dialect.insert(table).values(**values).on_conflict_do_nothing().returning(key)
    # Not the row count: psycopg does not tell it here.
    return connection.execute(insert).one_or_none() is not None
