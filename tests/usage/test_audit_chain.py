"""The audit trail notices whoever edits, deletes or moves a row."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from labwright.hub.audit import AuditAway, AuditLog
from labwright.hub.core import schema
from labwright.hub.database import Database

TAMPERINGS = {
    "edited": ["UPDATE audit SET who = 'mallory' WHERE sequence = 3"],
    "details edited": ["UPDATE audit SET details = '{}' WHERE sequence = 2"],
    "deleted": ["DELETE FROM audit WHERE sequence = 3"],
    "first deleted": ["DELETE FROM audit WHERE sequence = 1"],
    "last deleted": ["DELETE FROM audit WHERE sequence = 5"],
    "all deleted": ["DELETE FROM audit"],
    "moved": [
        "UPDATE audit SET sequence = 99 WHERE sequence = 2",
        "UPDATE audit SET sequence = 2 WHERE sequence = 4",
        "UPDATE audit SET sequence = 4 WHERE sequence = 99",
    ],
    "backdated": ["UPDATE audit SET time = time - 1 WHERE sequence = 4"],
}


@pytest.fixture
def audit(database: Database, clock: Any) -> AuditLog:
    log = AuditLog("core", schema.audit_rows, schema.audit_head)
    for number in range(5):
        with database.write() as connection:
            log.append(
                connection,
                now=clock.now(),
                who="alice",
                action="job.create",
                what=f"job-{number}",
                details={"n": number},
            )
    return log


def test_an_untouched_chain_is_intact(database: Database, audit: AuditLog) -> None:
    with database.read() as connection:
        page = audit.page(connection, limit=2)
        assert (page.intact, [row.what for row in page.items], page.next) == (True, ["job-4", "job-3"], 4)
        assert [row.what for row in audit.page(connection, search="JOB-2").items] == ["job-2"]
        assert audit.page(connection, search="%").items == []


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_row_that_was_tampered_with_breaks_the_chain(database: Database, audit: AuditLog, how: str) -> None:
    with database.write() as connection:
        for statement in TAMPERINGS[how]:
            connection.execute(sa.text(statement))
    with database.read() as connection:
        assert audit.page(connection).intact is False
        assert audit.page(connection, search="nothing").intact is False  # though the row is not shown


def test_a_trail_that_cannot_be_written_is_logged_once_until_it_can(
    database: Database, audit: AuditLog, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def rename(old: str, new: str) -> None:
        with database.write() as connection:
            connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

    for logged in (1, 2):
        rename("audit", "audit_elsewhere")
        for _ in range(3):
            with pytest.raises(AuditAway):
                audit.check(database, clock.now())
        assert caplog.text.count("the audit trail cannot be written") == logged
        rename("audit_elsewhere", "audit")
        audit.check(database, clock.now())
