"""Core and data as the panels see them: our own HTTP contract with believable rows, no work behind it.

For developing the panels and for their browser test only; the models are those of labwright.api, so a change of the
contract breaks here too. `PUT /fault/{name}` (empty, down, none) brings the other states of the lists.

    python -m tests.lab.stand_in 26003
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from labwright.api.errors import LabwrightError, Unavailable

from .clusters import add_clusters
from .data import add_data
from .experiments import add_experiments
from .jobs import add_jobs
from .world import CORE, World


def stand_in(world: World) -> FastAPI:
    """Core and data on one port."""
    app = FastAPI()
    guard(app, world)
    for add in (add_data, add_clusters, add_experiments, add_jobs):
        add(app, world)

    @app.get(f"{CORE}/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(stream(world), media_type="text/event-stream")

    @app.put("/fault/{name}")
    def fault(name: str) -> dict[str, str]:
        world.fault = "" if name == "none" else name
        return {"fault": world.fault}

    return app


async def stream(world: World) -> AsyncIterator[str]:
    yield "id: 0\nevent: ready\ndata: {}\n\n"
    for number in itertools.count(1):
        change = await world.changes.get()
        yield f"id: {number}\ndata: {json.dumps({'sequence': number, 'action': 'updated', **change})}\n\n"


def guard(app: FastAPI, world: World) -> None:
    """Faults on request, our errors as problems, and only calls that carry a token."""

    @app.exception_handler(LabwrightError)
    async def on_error(request: Request, error: LabwrightError) -> JSONResponse:
        return JSONResponse(error.problem(), error.status, media_type="application/problem+json")

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Any:
        if request.url.path.startswith("/fault/"):
            return await call_next(request)
        if request.headers.get("authorization") != "Bearer stand-in" or "cookie" in request.headers:
            return JSONResponse({"code": "not-authenticated", "detail": "No token."}, 401)
        if world.fault == "down":
            part = "MLflow" if "/mlflow/" in request.url.path else "The service"
            error = Unavailable(part, remedy="It is starting; this takes up to half a minute.")
            return JSONResponse(error.problem(), 503)
        return await call_next(request)


def main() -> None:
    uvicorn.run(stand_in(World()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
