"""What a person hears of usage and budgets: `labwright usage` and the API of a real core."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from labwright.api.commands import main
from labwright.hub.database import Database
from labwright.hub.usage.tables import reservations


def spend(bench: Any, user: str, cost: float) -> None:
    """A server of a second, given back a moment ago, that cost this much."""
    database: Database = bench.core.database
    now = bench.core.now()
    with database.write() as connection:
        connection.execute(
            reservations.insert().values(
                id=f"{user}-{cost}",
                key=f"server:{user}/{cost}",
                user=user,
                account=f"user:{user}",
                kind="server",
                profile="small",
                cpu=1,
                memory_bytes=1,
                gpu=0,
                count=1,
                price_per_hour=cost * 3600,
                created=now - timedelta(seconds=1),
                expires=now,
                ended=now,
                outcome="released",
            )
        )


def labwright(bench: Any, token: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setenv("LABWRIGHT_CORE_URL", bench.url)
    monkeypatch.setenv("LABWRIGHT_DATA_URL", "http://127.0.0.1:9/services/data")
    monkeypatch.setenv("LABWRIGHT_TOKEN", token)
    return CliRunner().invoke(main, words)


def test_a_budget_near_its_end_is_told_by_the_api_and_the_command_line(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bench.resolver.add("bella")
    spend(bench, "bella", 7.9)
    with bench.http(token) as bella:
        assert [quota["notice"] for quota in bella.get("/api/v1/quota").json()] == [None]
        assert "budget" not in labwright(bench, token, monkeypatch, "usage").stdout
        spend(bench, "bella", 0.5)
        (quota,) = bella.get("/api/v1/me").json()["quotas"]
    said = "The budget of bella is 84 % spent: 8.40 € of 10.00 € this month."
    assert (quota["notice"]["threshold"], quota["notice"]["message"]) == (80, said)
    shown = labwright(bench, token, monkeypatch, "usage").stdout.splitlines()
    assert shown[-1] == f"{said} {quota['notice']['remedy']}"
    csv = labwright(bench, token, monkeypatch, "usage", "--csv").stdout
    assert "budget" not in csv


def test_less_than_a_cent_is_not_printed_as_nothing(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token = bench.resolver.add("dan")
    spend(bench, "dan", 0.004)
    table = labwright(bench, token, monkeypatch, "usage").stdout.splitlines()
    assert table[2].endswith("  0.0040 €")
    assert table[-1] == "0.0040 € in all; 0 running now"
