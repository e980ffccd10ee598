"""Tables of the ledger: accounts (locked while one of them is judged), reservations, and the clock's anchor."""

from __future__ import annotations

import sqlalchemy as sa

from labwright.hub.core.schema import metadata
from labwright.hub.database import UtcDateTime

# One row per account that ever reserved; `SELECT … FOR UPDATE` of it makes the judgement of a reservation atomic.
accounts = sa.Table(
    "ledger_accounts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
)

# What is held: from `created` to `ended`, or to `expires` while nothing renews it. Amounts are totals of the thing.
reservations = sa.Table(
    "ledger_reservations",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("user", sa.Text, nullable=False, index=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("profile", sa.Text),
    sa.Column("cpu", sa.Float, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("gpu", sa.Integer, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("price_per_hour", sa.Float, nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("expires", UtcDateTime, nullable=False),
    sa.Column("ended", UtcDateTime),
    sa.Column("outcome", sa.Text),  # released or expired
)
live = reservations.c.ended.is_(None)
sa.Index("ix_ledger_reservations_live_key", reservations.c.key, unique=True, sqlite_where=live, postgresql_where=live)
sa.Index("ix_ledger_reservations_account_ended", reservations.c.account, reservations.c.ended)
sa.Index("ix_ledger_reservations_key_created", reservations.c.key, reservations.c.created)

# Where the wall clock stood against the machine's steady clock, to notice when somebody sets it (see clock.py).
clock = sa.Table(
    "ledger_clock",
    metadata,
    sa.Column("boot", sa.Text, primary_key=True),
    sa.Column("steady_seconds", sa.Float, nullable=False),
    sa.Column("wall", UtcDateTime, nullable=False),
)
