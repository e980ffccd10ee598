"""One whole workbench for the tests that share it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from workbench import RunningWorkbench, reachable_folder, running_workbench


@pytest.fixture(scope="module")
def workbench() -> Iterator[RunningWorkbench]:
    with reachable_folder() as folder, running_workbench(folder / "home") as running:
        yield running
