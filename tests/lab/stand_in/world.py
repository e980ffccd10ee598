"""What the parts of the stand-in share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labwright.api.errors import NotFound

CORE = "/services/core/api/v1"
DATA = "/services/data/api/v1"
MLFLOW = "/services/core/mlflow/api"
NOW = datetime.now(UTC)
GIB = 1024**3


@dataclass
class World:
    """What is wrong with the services now, and the changes that nobody has been told yet."""

    fault: str = ""
    changes: asyncio.Queue[dict[str, str]] = field(default_factory=asyncio.Queue)


def one(items: list[Any], key: str) -> Any:
    for item in items:
        if item.id == key:
            return item
    raise NotFound("thing", key)
