"""Where the embedded warehouse and the lake keep their files, and who may open them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

SUPERUSER, READER, DATABASE = "labwright_loader", "labwright_reader", "warehouse"
TABLES = ("airlines", "airports", "planes", "weather", "flights")
# A Unix socket's path may have 107 bytes; PostgreSQL adds '/.s.PGSQL.5432.lock' to the folder's.
SOCKET_FOLDER_BYTES = 85


class Warehouse:
    """The files of one embedded PostgreSQL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = folder / "cluster"
        self.reader_password = folder / "reader.password"
        self.loader_password = folder / "loader.password"

    @property
    def socket_folder(self) -> Path:
        """Where the socket is: beside the data, or in the temporary folder when that path is too long for a socket."""
        beside = self.folder / "socket"
        if len(os.fsencode(beside)) <= SOCKET_FOLDER_BYTES:
            return beside
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"labwright-{os.geteuid()}-{name}"

    def ready(self) -> bool:
        """Whether the reader can query the flights now."""
        if not self.cluster.exists():
            return False  # being made, under another name
        import psycopg

        try:
            with self.connect(READER) as connection:
                return connection.execute("SELECT 1 FROM flights LIMIT 1").fetchone() is not None
        except (psycopg.Error, OSError):
            return False

    def connect(self, role: str, *, database: str = DATABASE, host: Path | None = None) -> psycopg.Connection:
        import psycopg

        password = self.reader_password if role == READER else self.loader_password
        return psycopg.connect(
            host=str(host or self.socket_folder),
            user=role,
            dbname=database,
            password=password.read_text().strip(),
            connect_timeout=5,
            autocommit=True,
        )


def lake_is_complete(folder: Path) -> bool:
    return all((folder / f"{name}.parquet").exists() for name in TABLES)
