"""Jobs and runs on the wire. A job is what to run and when; a run is one execution of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RunState = Literal["queued", "leased", "running", "succeeded", "failed", "timed-out", "cancelled", "lost"]
FINAL_STATES: frozenset[RunState] = frozenset({"succeeded", "failed", "timed-out", "cancelled", "lost"})


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Wire):
    cron: str = Field(description="Five fields: minute hour day month weekday.", examples=["0 6 * * *"])
    timezone: str = Field(description="An IANA zone.", examples=["Europe/Berlin"])


class Policy(Wire):
    timeout_seconds: int = Field(default=3600, ge=1, le=7 * 86400)
    retries: int = Field(default=0, ge=0, le=10)
    overlap: Literal["skip", "queue", "cancel-old"] = "skip"
    misfire: Literal["skip", "once", "all"] = Field(
        default="once", description="What to do with slots missed while down."
    )
    keep_runs: int = Field(default=200, ge=1, le=100_000)


class NotebookInput(Wire):
    path: str = Field(description="Relative to the owner's home; the run's working directory is its folder.")
    content: dict[str, Any] = Field(description="The notebook's JSON, nbformat 4.")


class JobRequest(Wire):
    name: str = Field(min_length=1, max_length=128)
    notebook: NotebookInput
    follow: bool = Field(default=False, description="Take a new snapshot each time the file is saved in Lab.")
    parameters: dict[str, Any] = Field(default_factory=dict)
    profile: str = Field(default="small", description="Slug of a profile in workbench.yaml.")
    group: str | None = Field(default=None, description="The group that is billed; the owner himself when absent.")
    schedule: Schedule | None = None
    policy: Policy = Policy()


class JobUpdate(Wire):
    name: str | None = Field(default=None, min_length=1, max_length=128)
    notebook: NotebookInput | None = None
    follow: bool | None = Field(
        default=None,
        description="Take a new snapshot each time the file is saved in Lab, or no longer; the one it has stays.",
    )
    parameters: dict[str, Any] | None = None
    profile: str | None = None
    group: str | None = Field(
        default=None, description="The group that is billed from now on; null: the owner himself. Absent: as it was."
    )
    schedule: Schedule | None = None
    remove_schedule: bool = False
    policy: Policy | None = None
    paused: bool | None = None


class CellError(Wire):
    cell: int = Field(le=100_000, description="Index of the cell in the source notebook, from 0.")
    name: str = Field(examples=["ValueError"])
    message: str
    traceback: str = Field(description="Plain text, no ANSI codes.")


class RunRequest(Wire):
    parameters: dict[str, Any] = Field(default_factory=dict, description="Changes to the job's own parameters.")


class Run(Wire):
    id: str
    number: int = Field(description="Counts the job's runs from 1.")
    job_id: str
    job_name: str
    owner: str
    state: RunState
    trigger: Literal["schedule", "manual"]
    slot: datetime | None = Field(default=None, description="The firing it stands for.")
    attempt: int = 0
    parameters: dict[str, Any]
    profile: str
    notebook_path: str
    source_digest: str
    cell: int = Field(default=0, description="Cells finished so far.")
    cells: int = 0
    error: CellError | None = None
    reason: str | None = Field(default=None, description="Why it waits or ended so, and what to do.")
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    cost: float = 0.0
    mlflow_run_id: str | None = None
    mlflow_experiment_id: str | None = None


class Job(Wire):
    id: str
    name: str
    owner: str
    notebook_path: str
    source_digest: str
    follow: bool
    parameters: dict[str, Any]
    parameters_schema: dict[str, Any] = Field(description="JSON Schema of the notebook's parameters.")
    profile: str
    group: str | None = None
    schedule: Schedule | None = None
    next_firings: list[datetime] = Field(default_factory=list, description="The next three, UTC.")
    policy: Policy
    paused: bool = False
    created: datetime
    updated: datetime
    reason: str | None = Field(default=None, description="Why the schedule stands still, where it does.")
    last_run: Run | None = None


class InspectRequest(Wire):
    content: dict[str, Any]


class Inspection(Wire):
    parameters_schema: dict[str, Any]
    kernel: str
    cells: int = Field(description="Code cells.")


class SchedulePreview(Wire):
    next_firings: list[datetime]
    sentence: str = Field(examples=["Every day at 06:00 (Europe/Berlin)"])


class TrackingLink(Wire):
    """The MLflow run that a job's run made; sent by its kernel, with the run's own token."""

    experiment_id: str = Field(min_length=1, max_length=100)
    run_id: str = Field(min_length=1, max_length=100)


class JobPage(Wire):
    items: list[Job]
    next: str | None = None


class RunPage(Wire):
    items: list[Run]
    next: str | None = None
