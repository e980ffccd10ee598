"""The runner protocol on the wire: lease, heartbeat, frames, commit (below /services/core/runner/v1).

A runner is started with a runner token and asks for work with it. A lease carries an attempt token, which is the
fence: heartbeats, frames and the commit come with it, and once the attempt is over (cancelled, timed out, given to
somebody else) they are answered 409 and the runner drops the run. The kernel's own token is a third one.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from labwright.api.jobs import CellError, Wire
from labwright.api.names import MOST_WHOLE

RUNNER_PREFIX = "/services/core/runner/v1"
Ending = Literal["succeeded", "failed", "timed-out", "cancelled", "died"]


class LeaseRequest(Wire):
    runner_id: str = Field(max_length=100)
    profile: str
    wait_seconds: float = Field(default=0.0, ge=0, le=30)


class Lease(Wire):
    """One attempt of one run."""

    run_id: str
    attempt: int
    job_name: str
    notebook_path: str = Field(description="Relative to the owner's home.")
    notebook: dict[str, Any]
    parameters: dict[str, Any]
    dates: list[str] = Field(default_factory=list, description="Parameters that become datetime.date in the kernel.")
    timeout_seconds: int
    heartbeat_seconds: float
    token: str = Field(repr=False, description="The attempt's: for heartbeats, frames and the commit.")
    run_token: str = Field(repr=False, description="The kernel's.")


class LeaseAnswer(Wire):
    run: Lease | None = None
    token: str = Field(repr=False, description="The runner's, renewed.")


class HeartbeatAnswer(Wire):
    cancel: bool
    token: str = Field(repr=False)
    run_token: str = Field(repr=False)


class Frame(Wire):
    """A cell as it is now, with its outputs; the first frame of an attempt brings the whole notebook without them."""

    index: int = Field(ge=0, le=100_000)
    cell: dict[str, Any] | None = None
    notebook: dict[str, Any] | None = None
    finished: int = Field(ge=0, le=100_000, description="Cells finished so far.")
    total: int = Field(ge=0, le=100_000)


class FrameRequest(Wire):
    frames: list[Frame] = Field(max_length=1000)


class CommitRequest(Wire):
    state: Ending
    notebook: dict[str, Any] | None = Field(description="The output; None when there is none to show.")
    error: CellError | None = None
    reason: str | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = Field(default=None, ge=0, le=MOST_WHOLE)
    log: str = Field(default="", max_length=2_000_000)


class LeaveRequest(Wire):
    runner_id: str = Field(max_length=100)
