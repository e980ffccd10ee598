"""What the database's errors say, and which of them mean that it is away."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from psycopg import errors

from labwright.hub.database import Database, DatabaseAway, is_away


def test_an_error_never_shows_the_values_that_were_to_be_stored(database: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError) as refused, database.write() as connection:
        connection.execute(sa.text("INSERT INTO nowhere (a) VALUES (:a)"), {"a": "canary-3f9a"})
    assert "INSERT INTO nowhere" in str(refused.value)
    assert "canary-3f9a" not in str(refused.value)


def test_a_write_that_fails_halfway_leaves_nothing(database: Database) -> None:
    insert = sa.text("INSERT INTO ledger_accounts (name) VALUES ('user:alice')")

    def insert_twice() -> None:
        with database.write() as connection:
            connection.execute(insert)
            connection.execute(insert)

    with pytest.raises(sa.exc.IntegrityError):
        insert_twice()
    with database.read() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM ledger_accounts")) == 0


@pytest.mark.parametrize(
    ("raised", "away"),
    [
        (errors.AdminShutdown(), True),
        (errors.CannotConnectNow(), True),
        (errors.TooManyConnections(), True),
        (errors.OperationalError("connection refused"), True),
        (errors.DiskFull(), False),
        (errors.QueryCanceled(), False),
    ],
)
def test_only_what_cannot_be_reached_is_away(raised: errors.OperationalError, away: bool) -> None:
    assert is_away(sa.exc.OperationalError("SELECT 1", {}, raised)) is away
    assert is_away(sa.exc.TimeoutError()) is True


def test_why_it_is_away_is_logged_once_until_it_is_back(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> sa.Connection:
        raise sa.exc.OperationalError("SELECT 1", {}, errors.OperationalError("connection refused"))

    for logged in (1, 2):
        with monkeypatch.context() as away:
            away.setattr(database.engine, "connect", refuse)
            for access in (database.read, database.write, database.read):
                with pytest.raises(DatabaseAway), access():
                    pass
        assert caplog.text.count("the database cannot be reached: connection refused") == logged
        with database.read() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
