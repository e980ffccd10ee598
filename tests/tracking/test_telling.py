"""MLflow has done what it was asked for, and the database that the door would tell is away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Request

from labwright.api import names
from labwright.api.errors import LabwrightError
from labwright.hub.audit import AuditAway
from labwright.hub.callers import Caller
from labwright.hub.database import DatabaseAway
from labwright.hub.tracking.door import Door

ALICE = Caller("alice", "user", frozenset(), frozenset(names.USER_SCOPES))


class DatabaseThatIsAway:
    """It, or the trail that is kept in it."""

    def __init__(self) -> None:
        self.fault: LabwrightError = DatabaseAway()

    @contextmanager
    def write(self) -> Iterator[Any]:
        raise self.fault
        yield


class AnswerOfMlflow(httpx.AsyncByteStream):
    """Holds a connection to MLflow until it is closed."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{}"

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def answer() -> AnswerOfMlflow:
    return AnswerOfMlflow()


@pytest.fixture
def database() -> DatabaseThatIsAway:
    return DatabaseThatIsAway()


@pytest.fixture
async def door(answer: AnswerOfMlflow, database: DatabaseThatIsAway, tmp_path: Path) -> AsyncIterator[Door]:
    core: Any = SimpleNamespace(
        settings=SimpleNamespace(mlflow_socket=tmp_path / "socket", home=tmp_path),
        database=database,
        audit=SimpleNamespace(check=lambda database, now: None),
        now=lambda: datetime.now(UTC),
    )
    made = Door(core)
    await made.close()
    made._http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: httpx.Response(200, stream=answer)), base_url="http://mlflow"
    )
    made._ensure = done  # type: ignore[method-assign]
    yield made
    await made.close()


async def done(workspace: str) -> None:
    """The workspace is there."""


def post(path: str, body: dict[str, Any]) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    return Request(scope, receive)


async def test_what_only_others_would_hear_of_is_not_refused_after_it_was_done(door: Door) -> None:
    path = "api/2.0/mlflow/runs/log-batch"
    said = await door.handle(post(path, {"run_id": "r"}), path, ALICE)
    assert said.status_code == 200  # MLflow's client would log it again


@pytest.mark.parametrize(
    ("fault", "may_be_done"),
    [(DatabaseAway(), "may have been kept"), (AuditAway(), "may have been done, and is not recorded")],
)
async def test_what_cannot_be_recorded_any_more_may_have_been_done_and_holds_no_connection(
    door: Door, answer: AnswerOfMlflow, database: DatabaseThatIsAway, fault: LabwrightError, may_be_done: str
) -> None:
    database.fault = fault
    path = "api/2.0/mlflow/registered-models/create"
    with pytest.raises(type(fault)) as away:
        await door.handle(post(path, {"name": "m"}), path, ALICE)
    assert may_be_done in str(away.value.remedy)
    assert answer.closed
