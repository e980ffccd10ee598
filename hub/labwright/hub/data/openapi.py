"""The data service's OpenAPI document, from the code alone: no database is opened, nobody is asked."""

from __future__ import annotations

import tempfile
from typing import Any

from labwright.api import names
from labwright.hub.data.app import create_app
from labwright.hub.settings import from_environment
from labwright.spawner.workbench import WatchedWorkbench


def document() -> dict[str, Any]:
    """What a running data service answers at /services/data/api/v1/openapi.json."""
    with tempfile.TemporaryDirectory() as scratch:  # for the key that the service makes at its first start
        settings = from_environment({names.HOME: scratch})
        return create_app(settings, WatchedWorkbench(settings.workbench_file, lambda problem: None)).openapi()
