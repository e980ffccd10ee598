"""The audit trail: one hash chain per service, written in the transaction of the mutation it tells of.

Each row's digest is SHA-256 over the previous digest and the row, so that a row edited, deleted or moved breaks the
chain from there on. No secret is ever put into `details`. What the trail cannot tell of is not done.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from labwright.api.errors import Unavailable
from labwright.api.usage import AuditPage, AuditRow
from labwright.hub import disk
from labwright.hub.database import Database, DatabaseAway, UtcDateTime, is_away

log = logging.getLogger("labwright.audit")
GENESIS = "0" * 64


def tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    """The chain's rows, and its head (one row, locked while appending)."""
    rows = sa.Table(
        "audit",
        metadata,
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", UtcDateTime, nullable=False, index=True),
        sa.Column("who", sa.Text, nullable=False, index=True),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
    )
    head = sa.Table(
        "audit_head",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
    )
    return rows, head


class AuditAway(Unavailable):
    """The trail cannot be written. When it was written in vain after the act, what was asked for may have been done."""

    def __init__(self, *, unsure: bool = False) -> None:
        not_done = "So this was not done: everything of its kind is recorded."
        may_be = "What you asked for may have been done, and is not recorded: look before you ask again."
        super().__init__(
            "The audit trail", remedy=f"{may_be if unsure else not_done} Tell your admin; the log says why."
        )


@contextmanager
def after_the_act() -> Iterator[None]:
    """Around the record of what is done already: where it fails, nobody is told that nothing happened."""
    try:
        yield
    except (AuditAway, DatabaseAway) as error:
        raise type(error)(unsure=True) from error


class AuditLog:
    """Appends to and checks the chain of one service."""

    def __init__(self, service: str, rows: sa.Table, head: sa.Table) -> None:
        self.service = service
        self._rows = rows
        self._head = head
        self._refused = ""  # why the last row could not be added, and empty once one could

    def append(
        self,
        connection: sa.Connection,
        *,
        now: datetime,
        who: str,
        action: str,
        what: str,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a row in the caller's write transaction: either both happen or neither. `AuditAway` when it cannot be."""
        try:
            self._append(connection, now, who, action, what, details or {})
        except sa.exc.DBAPIError as error:
            if is_away(error) or disk.caused(error):
                raise
            if str(error) != self._refused:  # once, not at each of what is refused meanwhile
                self._refused = str(error)
                log.error("the audit trail cannot be written: %s", error)
            raise AuditAway from error
        self._refused = ""

    def check(self, database: Database, now: datetime) -> None:
        """`AuditAway` unless a row could be added now: asked before what no transaction of ours can take back."""
        with database.write() as connection:
            self.append(connection, now=now, who=self.service, action="check", what="audit")
            connection.rollback()

    def _append(
        self, connection: sa.Connection, now: datetime, who: str, action: str, what: str, details: Mapping[str, Any]
    ) -> None:
        last = connection.execute(sa.select(self._head).where(self._head.c.id == 1).with_for_update()).one_or_none()
        sequence, previous = (last.sequence + 1, last.digest) if last else (1, GENESIS)
        text = json.dumps(dict(details), sort_keys=True, default=str)
        digest = chain_digest(previous, sequence, now, who, action, what, text)
        connection.execute(
            self._rows.insert().values(
                sequence=sequence, time=now, who=who, action=action, what=what, details=text, digest=digest
            )
        )
        if last is None:
            connection.execute(self._head.insert().values(id=1, sequence=sequence, digest=digest))
        else:
            connection.execute(self._head.update().where(self._head.c.id == 1).values(sequence=sequence, digest=digest))

    def page(
        self,
        connection: sa.Connection,
        *,
        before: int | None = None,
        who: str | None = None,
        search: str | None = None,
        limit: int = 100,
    ) -> AuditPage:
        """The newest rows first, with whether the whole chain is intact. `search` looks in every text of a row."""
        table = self._rows
        query = sa.select(table).order_by(table.c.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.sequence < before)
        if who is not None:
            query = query.where(table.c.who == who)
        if search:
            texts = (table.c.who, table.c.action, table.c.what, table.c.details)
            query = query.where(sa.or_(*(text.icontains(search, autoescape=True) for text in texts)))
        found = connection.execute(query).all()
        items = [
            AuditRow(
                service=self.service,
                sequence=row.sequence,
                time=row.time,
                who=row.who,
                action=row.action,
                what=row.what,
                details=json.loads(row.details),
                digest=row.digest,
            )
            for row in found
        ]
        following = items[-1].sequence if len(items) == limit else None
        return AuditPage(items=items, intact=self.first_break(connection) is None, next=following)

    def first_break(self, connection: sa.Connection) -> int | None:
        """The sequence number at which the chain no longer holds, or None."""
        previous, expected = GENESIS, 1
        for row in connection.execute(sa.select(self._rows).order_by(self._rows.c.sequence)):
            digest = chain_digest(previous, row.sequence, row.time, row.who, row.action, row.what, row.details)
            if row.sequence != expected or digest != row.digest:
                return expected
            previous, expected = digest, expected + 1
        head = connection.execute(sa.select(self._head)).one_or_none()
        ends_right = (head.sequence, head.digest) == (expected - 1, previous) if head else expected == 1
        return None if ends_right else expected


def chain_digest(previous: str, sequence: int, time: datetime, who: str, action: str, what: str, details: str) -> str:
    stamp = int(time.timestamp() * 1_000_000)
    text = json.dumps([previous, sequence, stamp, who, action, what, details])
    return hashlib.sha256(text.encode()).hexdigest()
