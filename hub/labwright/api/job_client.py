"""What the command line and the magics do with jobs, on top of the client: read a notebook, find, follow."""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from labwright.api.client import Client
from labwright.api.errors import BadNotebook, InvalidRequest, NotFound, Unavailable
from labwright.api.jobs import FINAL_STATES, Inspection, Job, JobPage, Run, RunPage
from labwright.api.parameters import from_text

POLL_SECONDS = 0.3
FOLLOWS = "Follows the notebook: each save in Lab becomes what runs next."
PATIENCE_SECONDS = 60.0  # how long core may be away while a run is followed


def read_notebook(path: Path) -> dict[str, Any]:
    """The JSON of a notebook file, or `BadNotebook` with what is wrong."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InvalidRequest(f"There is no notebook '{path}'.", remedy="Check the path.") from None
    except OSError as error:
        raise InvalidRequest(f"'{path}' cannot be read: {error.strerror}.", remedy="Check the path.") from None
    except (ValueError, RecursionError):
        raise BadNotebook(f"'{path}' is not a notebook.", remedy="Give an .ipynb file (JSON in UTF-8).") from None
    if not isinstance(content, dict):
        raise BadNotebook(f"'{path}' is not a notebook.", remedy="Give an .ipynb file (nbformat 4).")
    return content


def path_in_home(path: Path) -> str:
    """The path relative to the home, where a run of it works; a file elsewhere runs in the home itself."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - symlinks stay as they are
    home = Path.home()
    return str(whole.relative_to(home)) if whole.is_relative_to(home) else whole.name


def check_can_follow(path: Path) -> None:
    """Raise for a notebook that Lab does not save: the job would follow whatever has its name in the home."""
    if not Path(os.path.abspath(path)).is_relative_to(Path.home()):  # noqa: PTH100 - symlinks stay as they are
        raise InvalidRequest(
            f"'{path}' is not in your home, so a job cannot follow it.", remedy="Move it there, or leave --follow out."
        )


def split_parameter(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise InvalidRequest(f"'{text}' is not a parameter.", remedy="Write -p name=value.")
    return name.strip(), value


class JobClient:
    """The jobs of whoever the client speaks for."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def inspect(self, content: Mapping[str, Any]) -> Inspection:
        return Inspection.model_validate(self._client.core("POST", "/notebooks/inspect", json={"content": content}))

    def typed(self, content: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
        """Values of `-p name=text` by the notebook's own types."""
        schema = self.inspect(content).parameters_schema
        return {name: from_text(schema, name, text) for name, text in texts.items()}

    def jobs(
        self,
        search: str | None = None,
        *,
        name: str | None = None,
        notebook: str | None = None,
        deleted: bool = False,
    ) -> list[Job]:
        """All of them, or all that were deleted, newest first."""
        found: list[Job] = []
        after: str | None = None
        while True:
            given = {
                "after": after,
                "search": search,
                "name": name,
                "notebook": notebook,
                "deleted": "true" if deleted else None,
            }
            params = {"limit": 200, **{key: value for key, value in given.items() if value is not None}}
            page = JobPage.model_validate(self._client.core("GET", "/jobs", params=params))
            found += page.items
            if page.next is None:
                return found
            after = page.next

    def find(self, reference: str) -> Job:
        """A job by its name, its id, or its number in the list (1 is the newest)."""
        if reference.startswith("job-"):
            return Job.model_validate(self._client.core("GET", f"/jobs/{reference}"))
        if named := self.jobs(name=reference):
            return named[0]
        if reference.isdigit() and 1 <= int(reference) <= len(everything := self.jobs()):
            return everything[int(reference) - 1]
        raise NotFound("job", reference)

    def find_deleted(self, reference: str) -> str:
        """The id of a deleted job by its name, the last one deleted when there are several, or by its id."""
        if reference.startswith("job-"):
            return reference
        named = self.jobs(name=reference, deleted=True)
        if not named:
            raise NotFound("deleted job", reference)
        return max(named, key=lambda job: job.updated).id

    def find_run(self, reference: str) -> Run:
        """A run by its id, by `job#number`, or the last one of a job."""
        if reference.startswith("run-"):
            return self.run(reference)
        name, numbered, number = reference.rpartition("#")
        job = self.find(name if numbered else reference)
        if not numbered:
            if job.last_run is None:
                raise NotFound("run of the job", job.name)
            return job.last_run
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 2**31):
            raise NotFound("run", reference)
        page = RunPage.model_validate(self._client.core("GET", "/runs", params={"job": job.id, "number": int(number)}))
        if not page.items:
            raise NotFound("run", reference)
        return page.items[0]

    def run(self, run_id: str) -> Run:
        return Run.model_validate(self._client.core("GET", f"/runs/{run_id}"))

    def runs(self, job_id: str, limit: int, *, page: int = 500) -> RunPage:
        """The `limit` newest ones, asked for `page` (500 at most) at a time; `next` where there are older ones."""
        found = RunPage(items=[])
        while True:
            params = {"job": job_id, "limit": min(page, limit - len(found.items)), "after": found.next}
            asked = {key: value for key, value in params.items() if value is not None}
            more = RunPage.model_validate(self._client.core("GET", "/runs", params=asked))
            found = RunPage(items=[*found.items, *more.items], next=more.next)
            if found.next is None or len(found.items) >= limit:
                return found

    def submit(self, request: Mapping[str, Any]) -> Job:
        return Job.model_validate(self._client.core("POST", "/jobs", json=dict(request)))

    def update(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        return Job.model_validate(self._client.core("PATCH", f"/jobs/{job_id}", json=dict(changes)))

    def delete(self, job_id: str) -> None:
        self._client.core("DELETE", f"/jobs/{job_id}")

    def restore(self, job_id: str) -> Job:
        return Job.model_validate(self._client.core("POST", f"/jobs/{job_id}/restore"))

    def start(self, job_id: str, parameters: Mapping[str, Any] | None = None) -> Run:
        body = {"parameters": dict(parameters or {})}
        return Run.model_validate(self._client.core("POST", f"/jobs/{job_id}/runs", json=body))

    def cancel(self, run_id: str) -> Run:
        return Run.model_validate(self._client.core("POST", f"/runs/{run_id}/cancel"))

    def log(self, run_id: str) -> str:
        with self._client.stream_core("GET", f"/runs/{run_id}/log") as response:
            return response.read().decode()

    def notebook(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.core("GET", f"/runs/{run_id}/notebook")
        return found

    def follow(self, run: Run) -> Iterator[Run]:
        """The run each time it has changed, until it is over. A restart of core is waited out."""
        yield run
        lost_since: float | None = None
        while run.state not in FINAL_STATES:
            threading.Event().wait(POLL_SECONDS)
            try:
                latest = self.run(run.id)
                lost_since = None
            except Unavailable:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > PATIENCE_SECONDS:
                    raise
                continue
            if latest != run:
                run = latest
                yield run

    def place(
        self,
        notebook: Path,
        content: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        name: str | None = None,
        profile: str = "small",
        group: str | None = None,
        schedule: Mapping[str, str] | None = None,
        policy: Mapping[str, Any] | None = None,
        follow: bool | None = None,
    ) -> Job:
        """The job of that name (the file's when absent), made anew or changed to what is given.

        Without a schedule a scheduled job of that name is left alone: runs by hand get one beside it. `group` is whom
        to bill: '' for oneself, None for whom the job billed before. `follow` says whether saves in Lab become what
        runs next; None: as it was.
        """
        if follow:
            check_can_follow(notebook)
        request: dict[str, Any] = {
            "name": name or notebook.stem,
            "notebook": {"path": path_in_home(notebook), "content": content},
            "parameters": dict(parameters),
            "profile": profile,
            "group": group or None,
            "schedule": schedule,
            "policy": dict(policy or {}),
            "follow": bool(follow),
        }
        names = [request["name"]] if schedule else [request["name"], f"{request['name']} (by hand)"]
        for candidate in names:
            job = next(iter(self.jobs(name=candidate)), None)
            if job is None:
                return self.submit({**request, "name": candidate})
            if schedule or job.schedule is None:
                said = {"group": group, "schedule": schedule, "policy": policy, "follow": follow}
                changed = ("notebook", "parameters", "profile", *(key for key in said if said[key] is not None))
                return self.update(job.id, {key: request[key] for key in changed})
        raise InvalidRequest(f"The names {' and '.join(map(repr, names))} are taken.", remedy="Give another --name.")


def older_runs(found: RunPage, command: str, job: Job) -> str | None:
    """That only the newest runs are shown, with the command that shows older ones; None when these are all."""
    if found.next is None:
        return None
    shown = len(found.items)
    return (
        f"These are the newest {shown} runs; {command} {shlex.quote(job.name)} --limit {shown * 10} shows older ones."
    )


def state_sentence(run: Run) -> str:
    """The run's state in a few words: 'running, cell 3 of 7'."""
    match run.state:
        case "queued":
            return f"queued – {run.reason}" if run.reason else "queued"
        case "leased":
            return "starting"
        case "running":
            at = min(run.cell + 1, run.cells)
            return f"running, cell {at} of {run.cells}" if run.cells else "running"
        case "succeeded":
            return f"succeeded in {duration(run)}"
        case _:
            return run.state.replace("-", " ") + (f" – {run.reason}" if run.reason else "")


def duration(run: Run) -> str:
    if run.started is None or run.finished is None:
        return ""
    seconds = (run.finished - run.started).total_seconds()
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def echo_error(run: Run) -> None:
    """On standard error: which cell failed and how."""
    if run.error is not None:
        click.echo(f"cell {run.error.cell + 1}: {run.error.name}: {run.error.message}", err=True)
        click.echo(run.error.traceback, err=True)
