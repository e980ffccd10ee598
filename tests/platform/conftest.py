"""One whole workbench for the tests that share it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench import RunningWorkbench, running_workbench


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorkbench]:
    home: Path = tmp_path_factory.mktemp("workbench")
    with running_workbench(home) as running:
        yield running
