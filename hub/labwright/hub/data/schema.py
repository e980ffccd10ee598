"""The data service's own database."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from labwright.hub import audit, events
from labwright.hub.database import UtcDateTime, naming

MIGRATIONS = Path(__file__).parent / "migrations"

metadata = sa.MetaData(naming_convention=naming)
audit_rows, audit_head = audit.tables(metadata)
events_table = events.table(metadata)

connections = sa.Table(
    "connections",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("driver", sa.Text, nullable=False),
    sa.Column("options", sa.Text, nullable=False),  # JSON, no secrets
    sa.Column("secret", sa.LargeBinary, nullable=True),  # encrypted, see vault
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("group_name", sa.Text, primary_key=True),
    sa.Column("connection", sa.Text, primary_key=True),
    sa.Column("schemas", sa.Text, nullable=False),  # JSON list of patterns
    sa.Column("tables", sa.Text, nullable=False),
    sa.Column("until", UtcDateTime, nullable=True),
)
