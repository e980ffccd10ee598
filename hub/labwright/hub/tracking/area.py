"""The tracking area of core: MLflow's REST API and pages below /services/core/mlflow, as the caller."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from labwright.hub.callers import TrackingCaller
from labwright.hub.core.context import Core
from labwright.hub.tracking.door import Door

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class TrackingArea:
    """Its routes stand under /services/core, not under the API: MLflow's clients and pages want it so."""

    def __init__(self, core: Core) -> None:
        self.door = Door(core)
        self.router = APIRouter()  # nothing of its own under /api/v1
        self.root = APIRouter()
        self.root.add_api_route("/mlflow/{path:path}", self.forward, methods=METHODS, include_in_schema=False)

    async def forward(self, request: Request, path: str, caller: TrackingCaller) -> Response:
        return await self.door.handle(request, path, caller)

    async def start(self) -> None:
        """Nothing waits for MLflow: it comes when it comes."""

    async def close(self) -> None:
        await self.door.close()


def build(core: Core) -> TrackingArea:
    return TrackingArea(core)
