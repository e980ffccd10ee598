"""Clusters as core wants them (`target`) and as they are (`state`). The reconciler steps from one to the other."""

from __future__ import annotations

import sqlalchemy as sa

from labwright.hub.core.schema import metadata
from labwright.hub.database import UtcDateTime

clusters = sa.Table(
    "clusters",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("account_group", sa.Text),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("cpu", sa.Float, nullable=False),  # of one worker
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),  # of one worker
    sa.Column("gpu", sa.Integer, nullable=False, server_default="0"),  # of one worker
    sa.Column("price_per_hour", sa.Float, nullable=False),  # of one worker
    sa.Column("workers_wanted", sa.Integer, nullable=False),
    sa.Column("target", sa.Text, nullable=False),  # running, stopped
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("remote", sa.Text),  # the gateway's name, or the launcher's id
    sa.Column("port", sa.Integer),  # Spark Connect's
    sa.Column("dashboard", sa.Text),  # http://127.0.0.1:…
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("workers", sa.Integer, nullable=False),
    sa.Column("memory_used_bytes", sa.BigInteger),
    sa.Column("activity", sa.Text, nullable=False),  # changes when the cluster works
    sa.Column("created", UtcDateTime, nullable=False),
    sa.Column("started", UtcDateTime),
    sa.Column("stopped", UtcDateTime),
    sa.Column("last_active", UtcDateTime, nullable=False),
    sa.Column("renewed", UtcDateTime, nullable=False),  # of the reservation
)
