"""How `%schedule` and `%jobs` show jobs and runs: HTML with the same words as text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from labwright.api import names
from labwright.api.client import Client, Endpoints, endpoints_from
from labwright.api.errors import InvalidRequest, LabwrightError
from labwright.api.job_client import FOLLOWS, JobClient, duration, state_sentence
from labwright.api.jobs import Job, Run


@cache
def client_for(endpoints: Endpoints) -> Client:
    """One client, and so one connection to core, for the kernel's life."""
    return Client(endpoints)


def job_client() -> JobClient:
    return JobClient(client_for(endpoints_from(os.environ)))


def this_notebook() -> Path:
    """The notebook whose kernel this is, as last saved."""
    known = os.environ.get(names.NOTEBOOK) or os.environ.get("JPY_SESSION_NAME")
    if not known:
        raise InvalidRequest("This kernel does not know its notebook.", remedy="Name it: %schedule work.ipynb --now.")
    path = Path(known)
    return path if path.is_absolute() else Path.home() / path


class Shown:
    """A line, and a table below it: rich in Lab, the same words as text elsewhere."""

    def __init__(self, title: str, rows: Sequence[Sequence[str]] = (), notes: Sequence[str] = ()) -> None:
        self.title, self.rows, self.notes = title, rows, notes

    def __repr__(self) -> str:
        lines = [self.title]
        if self.rows:
            widths = [max(len(row[column]) for row in self.rows) for column in range(len(self.rows[0]))]
            lines += [
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                for row in self.rows
            ]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        parts = [f"<div><b>{escape(self.title)}</b></div>"]
        if self.rows:
            head = "".join(f"<th style='text-align:left'>{escape(cell)}</th>" for cell in self.rows[0])
            body = "".join(
                "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in self.rows[1:]
            )
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        parts += [f"<div style='color:var(--jp-ui-font-color2)'>{escape(note)}</div>" for note in self.notes]
        return "".join(parts)


def planned(job: Job) -> str:
    if job.schedule is None:
        return "by hand"
    return f"{job.schedule.cron} ({job.schedule.timezone})" + (", paused" if job.paused else "")


def shown_jobs(jobs: Sequence[Job]) -> Shown:
    if not jobs:
        return Shown("No jobs yet.", notes=["Make one with %schedule, or with Schedule in the toolbar."])
    rows = [("#", "job", "schedule", "next (UTC)", "last run")]
    for number, job in enumerate(jobs, 1):
        following = f"{job.next_firings[0]:%Y-%m-%d %H:%M}" if job.next_firings else ""
        last = f"#{job.last_run.number} {state_sentence(job.last_run)}"[:80] if job.last_run else ""
        rows.append((str(number), job.name, planned(job), following, last))
    return Shown(f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}", rows)


def shown_job(job: Job, runs: Sequence[Run] = ()) -> Shown:
    rows = [("run", "state", "started (UTC)", "took", "cost")]
    for run in runs:
        started = f"{run.started:%Y-%m-%d %H:%M:%S}" if run.started else ""
        rows.append((f"#{run.number}", state_sentence(run)[:100], started, duration(run), f"{run.cost:.4f}"))
    values = ", ".join(f"{name}={value!r}" for name, value in job.parameters.items())
    notes = [f"{job.notebook_path} · profile {job.profile} · {planned(job)}", *([values] if values else [])]
    notes += [FOLLOWS] if job.follow else []
    notes += [f"next: {firing:%Y-%m-%d %H:%M} UTC" for firing in job.next_firings]
    notes += [job.reason] if job.reason else []
    return Shown(job.name, rows if runs else (), notes)


def shown_run(run: Run) -> Shown:
    values = ", ".join(f"{name}={value!r}" for name, value in run.parameters.items())
    notes = [values] if values else []
    if run.error is not None:
        notes.append(f"cell {run.error.cell + 1}: {run.error.name}: {run.error.message}")
    if run.cpu_seconds is not None and run.peak_memory_bytes is not None:
        notes.append(f"{run.cpu_seconds:.1f} s CPU · peak {run.peak_memory_bytes / 2**20:.0f} MB · cost {run.cost:.4f}")
    if run.mlflow_run_id:
        notes.append(f"MLflow run {run.mlflow_run_id}")
    return Shown(f"{run.job_name} · run {run.number}: {state_sentence(run)}", (), notes)


def completions(words: Sequence[str], text: str) -> list[str]:
    return sorted(word for word in words if word.startswith(text))


def job_names() -> list[str]:
    """Names to complete with; none when core does not answer."""
    try:
        return [job.name if " " not in job.name else repr(job.name) for job in job_client().jobs()]
    except LabwrightError:
        return []
