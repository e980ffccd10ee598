"""What holds for every test: the order, what is shared by all, and markers that this machine cannot serve."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `from workbench import running_workbench`

from postgresql import PostgreSQL, running_postgresql
from workbench import RunningWorkbench, reachable_folder, running_workbench

# Fixtures that start processes or a service: what uses none of them is quick, and runs first.
SERVICES = {"postgresql", "workplace", "warm_workplace", "service", "warehouse", "bench", "world"}
SERVICES |= {"launcher", "launcher_by_user", "server", "lab"}


# The same examples every time, however slow the machine is.
hypothesis.settings.register_profile("labwright", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("labwright")


def pytest_configure() -> None:
    # A polite kill cleans up like an interrupt; what an impolite one leaves is cleaned up by `processes`.
    # A shell's background job ignores interrupts, and so would everything that the tests start.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("uid") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
    items.sort(key=stage)


def stage(item: pytest.Item) -> tuple[int, str, bool]:
    """Pure tests, then services area by area with the slow ones last, then the whole workbench, then browsers."""
    fixtures = set(getattr(item, "fixturenames", ()))
    area, slow = item.path.parent.name, item.get_closest_marker("slow") is not None
    if item.get_closest_marker("browser"):
        return 3, area, slow
    if "workbench" in fixtures:
        return 2, area, slow
    if fixtures & SERVICES:
        return 1, area, slow
    return 0, "", slow


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A real PostgreSQL; ask it for a new database."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def workbench() -> Iterator[RunningWorkbench]:
    """One whole workbench that all tests share: each uses people of its own and leaves none of their processes."""
    with reachable_folder() as folder, running_workbench(folder / "home") as running:
        yield running
