"""Data's audit trail cannot be written: nothing is changed, and nothing is read, that it could not tell of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import sqlalchemy as sa

from labwright.hub.database import Database

from .conftest import Service
from .test_service import ask, rows


@contextmanager
def trail_away(service: Service) -> Iterator[None]:
    """Every row that is added to the trail is refused."""
    database = Database(service.settings.data_database_url)
    refuse = "CREATE TRIGGER away BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'the trail is away'); END"
    try:
        with database.write() as connection:
            connection.execute(sa.text(refuse))
        yield
    finally:
        with database.write() as connection:
            connection.execute(sa.text("DROP TRIGGER away"))
        database.close()


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    said = answer.json()
    assert said["detail"] == "The audit trail cannot be reached right now."
    assert "was not done" in said["remedy"]
    assert "trail is away" not in answer.text


def test_nothing_is_changed_or_read_that_the_trail_cannot_tell_of(service: Service, tmp_path: Path) -> None:
    alice, admin = service.client("alice"), service.client("admin")
    grant = {"group": "everyone", "connection": "warehouse", "schemas": ["public"], "tables": ["planes"]}
    wanted = {"name": "unseen", "driver": "duckdb", "options": {"path": str(tmp_path)}, "description": ""}
    before = admin.get("/grants").json(), admin.get("/connections").json()
    statement = "SELECT count(*) AS n FROM airlines"
    with trail_away(service):
        refused(admin.put("/grants", json=grant))
        refused(admin.post("/connections", json=wanted))
        refused(ask(alice, "warehouse", statement))
        refused(ask(alice, "warehouse", "SELECT * FROM planes"))
        refused(alice.get("/connections/warehouse/tables/public/airlines/preview"))
        assert (admin.get("/grants").json(), admin.get("/connections").json()) == before
    assert rows(ask(alice, "warehouse", statement)) == [{"n": 16}]
    trail = admin.get("/audit").json()
    assert trail["intact"]
    assert trail["items"][0]["details"]["sql"] == statement
