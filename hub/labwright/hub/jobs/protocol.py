"""The HTTP side of the runner protocol, below /services/core/runner/v1."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from labwright.api import names
from labwright.api.errors import Forbidden, StaleAttempt
from labwright.api.runner import CommitRequest, FrameRequest, HeartbeatAnswer, LeaseAnswer, LeaseRequest, LeaveRequest
from labwright.hub.callers import Caller, require
from labwright.hub.core.context import Core
from labwright.hub.jobs.attempts import Attempts
from labwright.hub.jobs.people import OwnerGone, current_groups

router = APIRouter(prefix="/runner/v1", tags=["runner"])


def runner(caller: Annotated[Caller, Depends(require(names.SCOPE_RUNNER))]) -> Caller:
    """A runner between runs."""
    if caller.kind != "runner" or caller.run_id is not None:
        raise Forbidden("Only a runner may do this.")
    return caller


def attempt(run_id: str, caller: Annotated[Caller, Depends(require(names.SCOPE_RUNNER))]) -> Caller:
    """The runner of the attempt that the path names."""
    if caller.kind != "runner" or caller.run_id != run_id or caller.attempt is None:
        raise Forbidden("Only the runner that leased this run may do this.")
    return caller


def attempts_of(request: Request) -> Attempts:
    """The runner's side of the area that is built into this app."""
    found = (getattr(area, "attempts", None) for area in request.app.state.areas)
    return next(attempts for attempts in found if isinstance(attempts, Attempts))


AttemptsService = Annotated[Attempts, Depends(attempts_of)]
Runner = Annotated[Caller, Depends(runner)]
Attempt = Annotated[Caller, Depends(attempt)]


@router.post("/lease")
async def lease(ask: LeaseRequest, request: Request, attempts: AttemptsService, caller: Runner) -> LeaseAnswer:
    """The next run, waiting up to `wait_seconds` for one; and the runner's token, renewed."""
    work = attempts.work
    core: Core = request.app.state.core
    deadline = asyncio.get_running_loop().time() + ask.wait_seconds
    while True:
        seen = work.rung
        row = await run_in_threadpool(attempts.lease, caller.name, ask.profile, ask.runner_id)
        left = deadline - asyncio.get_running_loop().time()
        if row is not None or left <= 0 or request.app.state.stopping:
            break
        await work.wait(seen, left)
    run = None
    if row is not None:
        known = await run_in_threadpool(attempts.last_known_groups, row.job_id)
        try:
            groups = await current_groups(core, row.owner, known)
        except OwnerGone:
            groups = []
        run = await run_in_threadpool(attempts.lease_answer, row, groups)
    return LeaseAnswer(run=run, token=attempts.runner_token(caller.name))


@router.post("/runs/{run_id}/heartbeat")
async def heartbeat(run_id: str, request: Request, attempts: AttemptsService, caller: Attempt) -> HeartbeatAnswer:
    """Keep the attempt alive; the answer renews its tokens and tells of a cancellation."""
    job_id = await run_in_threadpool(attempts.job_of, run_id)
    if job_id is None:
        raise StaleAttempt
    known = await run_in_threadpool(attempts.last_known_groups, job_id)
    try:
        groups = await current_groups(request.app.state.core, caller.name, known)
    except OwnerGone:
        groups = []
    return await run_in_threadpool(attempts.heartbeat, run_id, caller.attempt or 0, groups)


@router.post("/runs/{run_id}/frames", status_code=204)
def frames(run_id: str, ask: FrameRequest, attempts: AttemptsService, caller: Attempt) -> None:
    """Cells as they are now, in the order in which they changed."""
    attempts.frames(run_id, caller.attempt or 0, ask)


@router.post("/runs/{run_id}/commit", status_code=204)
def commit(run_id: str, ask: CommitRequest, attempts: AttemptsService, caller: Attempt) -> None:
    """The attempt's end. Repeating it is harmless."""
    attempts.commit(run_id, caller.attempt or 0, ask)


@router.post("/leave", status_code=204)
def leave(ask: LeaveRequest, attempts: AttemptsService, caller: Runner) -> None:
    """The runner goes; another is started when there is work."""
    attempts.leave(caller.name, ask.runner_id)
