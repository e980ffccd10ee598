"""Core's OpenAPI document, from the code alone: no database is opened, nobody is asked."""

from __future__ import annotations

import tempfile
from typing import Any

from labwright.api import names
from labwright.hub.core.app import AREAS, build_core, create_app
from labwright.hub.settings import from_environment
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.local import LocalLauncher
from labwright.spawner.workbench import WatchedWorkbench


def document() -> dict[str, Any]:
    """What a running core answers at /services/core/api/v1/openapi.json."""
    with tempfile.TemporaryDirectory() as scratch:  # for the key that core makes at its first start
        settings = from_environment({names.HOME: scratch})
        workbench = WatchedWorkbench(settings.workbench_file, lambda problem: None)
        core = build_core(
            settings,
            ledger=SqlLedger(workbench),
            launcher=LocalLauncher(settings.launcher_socket),
            workbench=workbench,
        )
        return create_app(core, AREAS).openapi()
