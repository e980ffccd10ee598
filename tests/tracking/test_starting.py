"""Before MLflow is there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from labwright.hub.service import create_service
from labwright.hub.tracking.area import TrackingArea


async def test_while_mlflow_starts_the_door_says_so(bench: Any, tmp_path: Path) -> None:
    elsewhere = replace(bench.core.settings, home=tmp_path)
    area = TrackingArea(replace(bench.core, settings=elsewhere))
    app: FastAPI = create_service("test", "/services/core", None)  # type: ignore[arg-type]
    app.state.resolver = bench.resolver
    app.include_router(area.root, prefix="/services/core")
    token = bench.resolver.add("alice")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(
            "/services/core/mlflow/api/2.0/mlflow/experiments/get?experiment_id=1",
            headers={"Authorization": f"Bearer {token}"},
        )
    await area.close()
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "is starting" in answer.json()["remedy"]


@pytest.mark.parametrize("name", ["alice", "group-research"])
def test_names_of_people_and_groups_never_meet(name: str) -> None:
    from labwright.hub.tracking.workspaces import workspace_name

    odd = ["Alice", "alice ", "ALICE", "a" * 80, "x@y.org", "x-y-org", "ähm", "-", name]
    made = [workspace_name(kind, one) for kind in ("user", "group") for one in odd]
    assert len(set(made)) == len(made)
    assert all(len(one) <= 63 for one in made)


def test_tracking_does_not_wait_for_the_disk(bench: Any, mlflow: Any) -> None:
    file = bench.settings.mlflow_folder / "mlflow.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
