"""The usage area of core: its routes and its background task."""

from __future__ import annotations

from fastapi import APIRouter

from labwright.hub.core.context import Core
from labwright.hub.usage import routes, tables
from labwright.hub.usage.admin import AdminPages
from labwright.hub.usage.ledger import SqlLedger
from labwright.hub.usage.truth import Truth

__all__ = ["UsageArea", "build", "tables"]


class UsageArea:
    def __init__(self, core: Core) -> None:
        assert isinstance(core.ledger, SqlLedger), "core is built with SqlLedger"
        self.router: APIRouter = routes.router
        self.root: APIRouter = AdminPages(core, core.ledger).router  # pages: outside the API, below /services/core
        self.truth = Truth(core, core.ledger)

    async def start(self) -> None:
        await self.truth.start()

    async def close(self) -> None:
        await self.truth.close()


def build(core: Core) -> UsageArea:
    return UsageArea(core)
