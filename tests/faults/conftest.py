"""A core with jobs on a real PostgreSQL, by way of a relay that can be away and lose replies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgresql import PostgreSQL
from relay import Relay, relay_to
from workbench import eventually

from tests.jobs.conftest import Workplace
from tests.jobs.conftest import alice as alice


@pytest.fixture
def relay(postgresql: PostgreSQL) -> Iterator[Relay]:
    with relay_to(postgresql.folder) as made:
        yield made


@pytest.fixture
def database_url(postgresql: PostgreSQL) -> str:
    """Of an empty database, past the relay."""
    return postgresql.new_database()


@pytest.fixture
def workplace(tmp_path: Path, database_url: str, relay: Relay) -> Iterator[Workplace]:
    place = Workplace(tmp_path / "labwright", relay.url(database_url))
    place.serve()
    yield place
    relay.come_back()
    place.close()


@pytest.fixture
def wait_for_log(caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    def wait(words: str) -> None:
        eventually(lambda: words in caplog.text, seconds=30, what=f"'{words}' in the log")

    return wait
