"""How the hub opens its own database: SQLite with a write-ahead log, where the file system can keep one.

The hub commits about ten times for each start of a server, on the loop that answers everybody. What holds: the end of
the hub's process loses nothing; the machine's loses at most what Linux had not yet written, half a minute
(decision 64).
"""

from __future__ import annotations

import sqlite3
from typing import Any


class WriteAheadConnection(sqlite3.Connection):
    """A connection whose commits go to the log and do not wait for the disk."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        # In place of WAL some file systems and databases in memory answer the mode that they keep.
        if self.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",):
            self.execute("PRAGMA synchronous=NORMAL")
            # JupyterHub copies the file alone before it upgrades it: what a killed hub left in the log goes in first.
            self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def options(url: str) -> dict[str, Any]:
    """`JupyterHub.db_kwargs` for this address: what SQLAlchemy's engine is made with."""
    if not url.startswith("sqlite:"):
        return {}
    return {"connect_args": {"check_same_thread": False, "factory": WriteAheadConnection}}
