"""How the hub opens its own database: SQLite with a write-ahead log, where the file system can keep one.

The hub commits about ten times for each start of a server, on the loop that answers everybody. What holds: the end of
the hub's process loses nothing; the machine's loses at most what Linux had not yet written, half a minute
(decision 64).
"""

from __future__ import annotations

import sqlite3
from typing import Any


def keep_a_log(connection: Any, _record: Any) -> None:
    """Let a new connection's commits go to the log and not wait for the disk. Other databases stay as they are."""
    if not isinstance(connection, sqlite3.Connection):
        return
    # In place of WAL some file systems and databases in memory answer the mode that they keep.
    if connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",):
        connection.execute("PRAGMA synchronous=NORMAL")
        # JupyterHub copies the file alone before it upgrades it: what a killed hub left in the log goes in first.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


# `JupyterHub.db_kwargs`, for every database: an option of SQLite's would keep a hub from opening PostgreSQL.
OPTIONS = {"pool_events": [(keep_a_log, "connect")]}
