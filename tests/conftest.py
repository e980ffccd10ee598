"""What holds for every test: markers that this machine cannot serve are skipped."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `from workbench import running_workbench`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("uid") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
