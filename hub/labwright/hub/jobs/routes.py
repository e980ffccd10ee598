"""The HTTP side of jobs: parse, call, render."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from fastapi.routing import APIRoute

from labwright.api.errors import BadNotebook
from labwright.api.jobs import (
    Inspection,
    InspectRequest,
    Job,
    JobPage,
    JobRequest,
    JobUpdate,
    Run,
    RunPage,
    RunRequest,
    RunState,
    Schedule,
    SchedulePreview,
    TrackingLink,
)
from labwright.hub.callers import JobsCaller, TrackingCaller
from labwright.hub.jobs.service import Jobs


class NotebookRoute(APIRoute):
    """A route whose body holds a notebook: what cannot be read as one is `BadNotebook`, not a generic error."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if await request.body():
                try:
                    await request.json()
                except (ValueError, RecursionError):  # also UnicodeDecodeError, and nesting beyond Python's stack
                    raise BadNotebook(
                        "The request is not JSON in UTF-8, or is nested too deeply.",
                        remedy="Give the JSON of an .ipynb file (nbformat 4).",
                    ) from None
            try:
                return await handle(request)
            except RequestValidationError as error:
                if any("content" in item["loc"] and "missing" not in item["type"] for item in error.errors()):
                    raise BadNotebook(
                        "This is not a notebook: its JSON is no object.",
                        remedy="Give the JSON of an .ipynb file (nbformat 4).",
                    ) from None
                raise

        return checked


router = APIRouter(tags=["jobs"], route_class=NotebookRoute)


def jobs_of(request: Request) -> Jobs:
    """The service of the area that is built into this app."""
    found = (getattr(area, "jobs", None) for area in request.app.state.areas)
    return next(jobs for jobs in found if isinstance(jobs, Jobs))


JobsService = Annotated[Jobs, Depends(jobs_of)]
Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[str | None, Query(max_length=100)]


@router.post("/jobs", status_code=201)
def create_job(ask: JobRequest, jobs: JobsService, caller: JobsCaller) -> Job:
    """Make a job from a notebook; run it with `POST /jobs/{id}/runs`, or let its schedule do so."""
    return jobs.submit(ask, caller)


@router.get("/jobs")
def list_jobs(
    jobs: JobsService,
    caller: JobsCaller,
    after: After = None,
    limit: Limit = 100,
    search: Annotated[str | None, Query(max_length=200)] = None,
    name: Annotated[str | None, Query(max_length=200)] = None,
    notebook: Annotated[str | None, Query(max_length=1024)] = None,
    deleted: bool = False,
) -> JobPage:
    """The caller's jobs, newest first, or those deleted: by `name`, by `notebook`, or with `search` in either."""
    return jobs.list(caller, after=after, limit=limit, search=search, name=name, notebook=notebook, deleted=deleted)


@router.get("/jobs/{job_id}")
def get_job(job_id: str, jobs: JobsService, caller: JobsCaller) -> Job:
    """One job with its schedule, parameters and next firings."""
    return jobs.get(job_id, caller)


@router.patch("/jobs/{job_id}")
def update_job(job_id: str, ask: JobUpdate, jobs: JobsService, caller: JobsCaller) -> Job:
    """Change what is given; the rest stays."""
    return jobs.update(job_id, ask, caller)


@router.delete("/jobs/{job_id}", status_code=204)
def delete_job(job_id: str, jobs: JobsService, caller: JobsCaller) -> None:
    """Delete a job and stop what of it runs. Its runs can still be read by their ids, and it can be restored."""
    jobs.delete(job_id, caller)


@router.post("/jobs/{job_id}/restore")
def restore_job(job_id: str, jobs: JobsService, caller: JobsCaller) -> Job:
    """Take a deletion back: the job under its name, its schedule from the next slot on."""
    return jobs.restore(job_id, caller)


@router.post("/jobs/{job_id}/runs", status_code=201)
def create_run(job_id: str, ask: RunRequest, jobs: JobsService, caller: JobsCaller) -> Run:
    """Run a job now, with other values for some parameters if given."""
    return jobs.run(job_id, ask, caller)


@router.get("/runs")
def list_runs(
    jobs: JobsService,
    caller: JobsCaller,
    job: Annotated[str | None, Query(max_length=100)] = None,
    number: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    state: Annotated[list[RunState] | None, Query()] = None,
    after: After = None,
    limit: Limit = 100,
) -> RunPage:
    """The caller's runs, newest first, or those of a `job`, by `number`; `state` may be given several times."""
    return jobs.list_runs(caller, job_id=job, number=number, states=state or [], after=after, limit=limit)


@router.get("/runs/{run_id}")
def get_run(run_id: str, jobs: JobsService, caller: JobsCaller) -> Run:
    """One run: state, cell, cost, error."""
    return jobs.get_run(run_id, caller)


@router.post("/runs/{run_id}/cancel")
def cancel_run(run_id: str, jobs: JobsService, caller: JobsCaller) -> Run:
    """Stop a run; the answer is its state now."""
    return jobs.cancel(run_id, caller)


@router.get("/runs/{run_id}/notebook")
def run_notebook(run_id: str, jobs: JobsService, caller: JobsCaller) -> dict[str, Any]:
    """The output notebook; it grows while the run goes on."""
    return jobs.notebook(run_id, caller)


@router.get("/runs/{run_id}/source")
def run_source(run_id: str, jobs: JobsService, caller: JobsCaller) -> dict[str, Any]:
    """The notebook exactly as the run got it."""
    return jobs.source(run_id, caller)


@router.get("/runs/{run_id}/log", response_class=PlainTextResponse)
def run_log(run_id: str, jobs: JobsService, caller: JobsCaller) -> str:
    """What the kernel printed outside of its cells."""
    return jobs.log(run_id, caller)


@router.post("/runs/{run_id}/tracking", status_code=204)
def link_tracking(run_id: str, ask: TrackingLink, jobs: JobsService, caller: TrackingCaller) -> None:
    """Tell which MLflow run belongs to this run."""
    jobs.link_tracking(run_id, ask, caller)


@router.post("/notebooks/inspect")
def inspect_notebook(ask: InspectRequest, jobs: JobsService, caller: JobsCaller) -> Inspection:
    """The typed parameters of a notebook, without storing it."""
    return jobs.inspect(ask.content)


@router.post("/schedules/preview")
def preview_schedule(ask: Schedule, jobs: JobsService, caller: JobsCaller) -> SchedulePreview:
    """When a schedule would fire, and what it says in words."""
    return jobs.preview(ask)
