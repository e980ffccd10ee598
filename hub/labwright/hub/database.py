"""One way to the database for every store: SQLite in WAL mode, or PostgreSQL, with the same code.

Stores are synchronous (SQLAlchemy Core) and are called from FastAPI's worker threads, never on the event loop.
A write transaction takes SQLite's write lock when it begins (BEGIN IMMEDIATE), so two writers never deadlock in the
middle; on PostgreSQL rows that decide are locked with FOR UPDATE.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from labwright.api.errors import LabwrightError, Unavailable

log = logging.getLogger("labwright.database")
CONNECT_SECONDS = 5
# PostgreSQL's own words for being away: connections fail (08), too many of them (53300), it shuts down or starts (57P).
_AWAY = ("08", "53300", "57P")

naming = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, stored as microseconds since 1970 (sorts and compares alike everywhere)."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        return None if value is None else int(value.timestamp() * 1_000_000)

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value / 1_000_000, UTC)


class DatabaseAway(Unavailable):
    """The database cannot be reached. When the reply to COMMIT was lost, what was asked for may have been done."""

    def __init__(self, *, unsure: bool = False) -> None:
        nothing = "Nothing was changed. Try again in a few seconds; if it lasts, tell your admin."
        super().__init__(
            "The workbench's database",
            remedy="What you asked for may have been kept: look before you ask again." if unsure else nothing,
        )


class Database:
    """An engine with our transaction rules. `url` is SQLAlchemy's: sqlite:///… or postgresql+psycopg://…"""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {}
        if not url.startswith("sqlite"):
            options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
        # An error tells which statement failed, and never with which values: it goes into logs.
        self.engine = sa.create_engine(url, hide_parameters=True, **options)
        self._away = False
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent snapshot. `DatabaseAway` when it cannot be reached."""
        with self._telling(unsure=False), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that is committed at the end, or rolled back whole. `DatabaseAway` like `read`."""
        writing = {"labwright_writes": True}
        with self._telling(unsure=False), self.engine.connect().execution_options(**writing) as connection:
            connection.begin()
            yield connection
            with self._telling(unsure=True):
                connection.commit()

    @contextmanager
    def _telling(self, *, unsure: bool) -> Iterator[None]:
        """Says `DatabaseAway` for what cannot be reached, and writes why into the log, once until it is reached."""
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            if not is_away(error):
                raise
            if not self._away:
                self._away = True
                log.warning("the database cannot be reached: %s", getattr(error, "orig", error))
            raise DatabaseAway(unsure=unsure) from error
        self._away = False

    def migrate(self, migrations: Path) -> None:
        """Bring the schema up to date (every Alembic head in `migrations`)."""
        there = self._revisions()
        if unknown := there - set(_revisions_in(migrations)):
            raise LabwrightError(
                f"The database was written by another version of Labwright ({', '.join(sorted(unknown))}). "
                "Start that version, or put back a copy from before."
            )
        if there == heads(migrations):
            return  # a warm start: Alembic's import alone takes longer than all the rest of this
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(migrations))
        config.attributes["engine"] = self.engine
        command.upgrade(config, "heads")

    def _revisions(self) -> set[str]:
        """What Alembic has noted in the database; empty at the first start."""
        with self.engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return set()
            return set(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars())

    def close(self) -> None:
        self.engine.dispose()


def is_away(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether the database could not be reached, rather than refused what it was asked (pure)."""
    if isinstance(error, sa.exc.TimeoutError):  # every connection is waiting for it
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", "")  # SQLite has none; None where no server spoke
    unspoken = isinstance(error, sa.exc.OperationalError) and state is None
    return error.connection_invalidated or unspoken or str(state).startswith(_AWAY)


def heads(migrations: Path) -> set[str]:
    """The revisions that no other one builds on, read from the files without running them."""
    below = _revisions_in(migrations)
    return set(below) - set().union(*below.values())


def _revisions_in(migrations: Path) -> dict[str, set[str]]:
    """Every revision that the files hold, with those that it builds on."""
    found = {}
    for file in (migrations / "versions").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        for revision in re.findall(r'^revision = "([^"]+)"', text, re.MULTILINE):
            found[revision] = set(re.findall(r'^down_revision = "([^"]+)"', text, re.MULTILINE))
    return found


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in ("journal_mode=WAL", "busy_timeout=30000", "foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("labwright_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
