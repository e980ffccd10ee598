"""Core's database. Each area adds its tables to `metadata` in its own tables.py; Alembic migrates them."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from labwright.hub import audit, events
from labwright.hub.database import naming

MIGRATIONS = Path(__file__).parent / "migrations"

metadata = sa.MetaData(naming_convention=naming)
audit_rows, audit_head = audit.tables(metadata)
events_table = events.table(metadata)
