"""The door to MLflow: says who is asking, in which workspace, and lets through what the rules know."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import quote

import httpx
from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from labwright.api import names
from labwright.api.errors import DiskFull, LabwrightError, Unavailable
from labwright.hub import disk
from labwright.hub.audit import after_the_act
from labwright.hub.callers import Caller
from labwright.hub.core.context import Core
from labwright.hub.database import DatabaseAway
from labwright.hub.tracking import rules, workspaces

log = logging.getLogger("labwright.tracking")
# A plot that follows a run needs no more than this; each event is a row.
EVENT_SECONDS = 1.0
_REQUEST_HEADERS = ("accept", "accept-language", "content-type", "if-none-match", "if-modified-since", "range")
_RESPONSE_HEADERS = (
    "accept-ranges",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "x-content-type-options",
    "x-frame-options",
)
# MLflow's artifacts are people's files: shown in a browser they must not act as this site.
_SANDBOX = "sandbox; default-src 'none'; img-src data: 'self'; style-src 'unsafe-inline'"


class Door:
    """One per core. Holds the connections to MLflow's socket."""

    def __init__(self, core: Core) -> None:
        self._core = core
        transport = httpx.AsyncHTTPTransport(uds=str(core.settings.mlflow_socket), retries=0)
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url="http://localhost",
            timeout=httpx.Timeout(120.0, connect=5.0),
            trust_env=False,
        )
        self._made: set[str] = set()
        self._told: dict[tuple[str, str], float] = {}

    async def close(self) -> None:
        await self._http.aclose()

    async def ready(self) -> bool:
        """Whether MLflow answers."""
        try:
            answer = await self._http.get(f"{names.MLFLOW_PREFIX}/health", timeout=5.0)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    async def handle(self, request: Request, path: str, caller: Caller) -> Response:
        """Answer one request of a person, as MLflow would if he were alone with his groups."""
        if path in _WORKSPACE_LISTS and request.method == "GET":
            listed = [{"name": name, "description": title} for name, title in workspaces.workspaces_of(caller).items()]
            return JSONResponse({"workspaces": listed})
        rules.check_route(request.method, path)
        asked = request.headers.get(workspaces.HEADER) or request.query_params.get("workspace")
        workspace = workspaces.choose_workspace(caller, asked)
        if rules.audited_action(request.method, path) is not None:
            await run_in_threadpool(self._core.audit.check, self._core.database, self._core.now())
        await self._ensure(workspace)
        content: AsyncIterator[bytes] | bytes | None = None
        if request.method in ("POST", "PUT", "PATCH", "DELETE"):
            if rules.is_artifact(path):
                content = request.stream()
            elif path != "graphql":
                try:
                    content = rules.rewrite(path, await request.body(), caller.name)
                except rules.UserTagIsKept:
                    return JSONResponse({})
            else:
                content = await request.body()
        answer = await self._send(request, path, workspace, content)
        try:
            await self._tell(request, path, caller, workspace, content, answer)
        except BaseException:
            if answer.background is not None:  # what nobody reads would hold its connection to MLflow for good
                await answer.background()
            raise
        return answer

    async def _send(
        self, request: Request, path: str, workspace: str, content: AsyncIterator[bytes] | bytes | None
    ) -> Response:
        headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
        headers[workspaces.HEADER] = workspace
        # Ours to decode and to measure: what is sent on has the length that it has.
        headers["accept-encoding"] = "identity"
        if isinstance(content, bytes) and path != "graphql":
            headers["content-type"] = "application/json"
        elif content is not None and "content-length" in request.headers:
            headers["content-length"] = request.headers["content-length"]
        target = quote(rules.upstream_path(path, names.MLFLOW_PREFIX), safe="/:@!$&'()*+,;=~-._")
        query: list[tuple[str, Any]] = [
            (key, value) for key, value in request.query_params.multi_items() if key != "workspace"
        ]
        sent = self._http.build_request(request.method, target, params=query, headers=headers, content=content)
        try:
            answer = await self._http.send(sent, stream=True)
        except httpx.TransportError:
            self._check_disk()
            raise starting() from None
        kept = {name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers}
        if rules.is_artifact(path) or path.endswith("get-artifact") or "/artifacts/files" in path:
            kept["content-security-policy"] = _SANDBOX
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers=kept, background=BackgroundTask(answer.aclose)
        )

    async def _ensure(self, workspace: str) -> None:
        """Make the workspace when it is used for the first time."""
        if workspace in self._made:
            return
        try:
            answer = await self._http.post(
                f"{names.MLFLOW_PREFIX}/api/3.0/mlflow/workspaces", json={"name": workspace}, timeout=30.0
            )
        except httpx.TransportError:
            self._check_disk()
            raise starting() from None
        if answer.is_error and "ALREADY_EXISTS" not in answer.text:
            self._check_disk()
            raise LabwrightError(
                "MLflow could not make your workspace.", remedy="Tell your admin; mlflow.log says why."
            )
        self._made.add(workspace)

    def _check_disk(self) -> None:
        """MLflow can neither start nor make anything on a full disk."""
        if disk.is_full(self._core.settings.home):
            raise DiskFull

    async def _tell(
        self,
        request: Request,
        path: str,
        caller: Caller,
        workspace: str,
        content: AsyncIterator[bytes] | bytes | None,
        answer: Response,
    ) -> None:
        """Audit and announce what was done. Where it is only announced, a database that is away does not undo it."""
        if answer.status_code >= 400:
            return
        action = rules.audited_action(request.method, path)
        topic = rules.changed_topic(request.method, path)
        if topic is not None and action is None and path.endswith(("log-metric", "log-batch", "log-parameter")):
            last = self._told.get((caller.name, topic), 0.0)
            if time.monotonic() - last < EVENT_SECONDS:
                return
        if topic is None:
            return
        self._told[caller.name, topic] = time.monotonic()
        text = content.decode() if isinstance(content, bytes) else "{}"
        try:
            with after_the_act():
                await run_in_threadpool(self._write, caller, workspace, topic, action, text)
        except DatabaseAway as error:
            if action is not None:
                raise
            log.info("nobody hears of a changed %s: %s", topic, error)

    def _write(self, caller: Caller, workspace: str, topic: Any, action: str | None, body: str) -> None:
        asked = json.loads(body)
        key = str(asked.get("name") or asked.get("experiment_id") or asked.get("run_id") or "")
        now = self._core.now()
        with self._core.database.write() as connection:
            if action is not None:
                details = {"workspace": workspace} | {
                    name: asked[name] for name in ("version", "alias", "run_id", "new_name") if name in asked
                }
                self._core.audit.append(connection, now=now, who=caller.name, action=action, what=key, details=details)
            change: Literal["created", "updated"] = (
                "created" if action is not None and action.endswith(".create") else "updated"
            )
            self._core.events.append(connection, owner=caller.name, topic=topic, key=key, action=change, now=now)
        self._core.events.wake()


_WORKSPACE_LISTS = ("api/3.0/mlflow/workspaces", "ajax-api/3.0/mlflow/workspaces")


def starting() -> Unavailable:
    return Unavailable("MLflow", remedy="It is starting; try again in a few seconds.")


async def wait_until_ready(door: Door, seconds: float) -> bool:
    """Whether MLflow answered within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await door.ready():
            return True
        await asyncio.sleep(0.1)
    return False
