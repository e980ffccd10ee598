"""`labwright jobs …`: list, run, change and read jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from labwright.api.client import Client
from labwright.api.commands import EXIT_FAILED
from labwright.api.commands.run import followed
from labwright.api.commands.table import print_table
from labwright.api.errors import InvalidRequest
from labwright.api.job_client import (
    FOLLOWS,
    JobClient,
    duration,
    echo_error,
    older_runs,
    path_in_home,
    split_parameter,
    state_sentence,
)
from labwright.api.jobs import Job
from labwright.api.parameters import from_text

as_json = click.option("--json", "raw", is_flag=True, help="As JSON, for programs.")


@click.group("jobs")
def command() -> None:
    """Your jobs. JOB is a name, an id or a number of the list; RUN is an id, JOB#3, or JOB for its last run."""


def client() -> JobClient:
    return JobClient(Client.from_environment())


def echo_json(found: BaseModel | Sequence[BaseModel]) -> None:
    value: Any = (
        found.model_dump(mode="json") if isinstance(found, BaseModel) else [x.model_dump(mode="json") for x in found]
    )
    click.echo(json.dumps(value, indent=2))


@command.command("list")
@click.option("--search", default=None, help="Only names and paths that contain this.")
@click.option("--notebook", type=click.Path(path_type=Path), help="Only jobs that run this notebook.")
@click.option("--deleted", is_flag=True, help="Those that were deleted, for 'labwright jobs restore'.")
@as_json
def list_jobs(search: str | None, notebook: Path | None, deleted: bool, raw: bool) -> None:
    """Jobs, newest first."""
    path = path_in_home(notebook) if notebook else None
    found = client().jobs(search, notebook=path, deleted=deleted)
    asked = [f"has '{search}' in its name or path"] if search else []
    asked += [f"runs '{path}'"] if path else []
    if raw:
        echo_json(found)
    elif asked and not found:
        click.echo(f"No {'deleted ' if deleted else ''}job {' and '.join(asked)}.")
    elif deleted and not found:
        click.echo("No job was deleted.")
    elif not found:
        click.echo("No jobs yet. Make one with 'labwright run NOTEBOOK' or Schedule in Lab.")
    else:
        rows = [("#", "name", "notebook", "schedule", "last run")]
        for number, job in enumerate(found, 1):
            planned = f"{job.schedule.cron} {job.schedule.timezone}" if job.schedule else "–"
            planned += " (paused)" if job.paused else ""
            last = f"{job.last_run.number}: {state_sentence(job.last_run)}"[:60] if job.last_run else "–"
            rows.append((str(number), job.name, job.notebook_path, planned, last))
        print_table(rows)


@command.command("show")
@click.argument("job")
@as_json
def show(job: str, raw: bool) -> None:
    """One job: schedule, parameters, next firings."""
    found = client().find(job)
    if raw:
        echo_json(found)
        return
    click.echo(f"{found.name} ({found.id})\nnotebook    {found.notebook_path}\nprofile     {found.profile}")
    if found.follow:
        click.echo(f"            {FOLLOWS}")
    for name, about in found.parameters_schema["properties"].items():
        value = json.dumps(found.parameters.get(name, about.get("default")))
        click.echo(f"parameter   {name} = {value}  {about.get('description', '')}".rstrip())
    if found.schedule:
        click.echo(f"schedule    {found.schedule.cron} {found.schedule.timezone}{' (paused)' if found.paused else ''}")
    if found.reason:
        click.echo(f"            {found.reason}")
    for firing in found.next_firings:
        click.echo(f"next        {firing:%Y-%m-%d %H:%M} UTC")
    if found.last_run:
        click.echo(f"last run    {found.last_run.number}: {state_sentence(found.last_run)}")


@command.command("runs")
@click.argument("job")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@as_json
def runs(job: str, limit: int, raw: bool) -> None:
    """The job's runs, newest first."""
    jobs = client()
    of = jobs.find(job)
    page = jobs.runs(of.id, limit)
    found = page.items
    if raw:
        echo_json(found)
    elif not found:
        click.echo("No runs yet.")
    else:
        rows = [("run", "state", "by", "created (UTC)", "took", "cost")]
        for run in found:
            state = state_sentence(run).split(" in ")[0][:60]
            row = (str(run.number), state, run.trigger, f"{run.created:%Y-%m-%d %H:%M:%S}", duration(run))
            rows.append((*row, f"{run.cost:.4f}"))
        print_table(rows)
    if note := older_runs(page, "labwright jobs runs", of):
        click.echo(note, err=True)  # what is piped on is the runs alone


@command.command("run")
@click.argument("job")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Changed for this run.")
@click.option("--wait", is_flag=True, help="Follow the run; exit 0 when it succeeds, 1 when it does not.")
def run_job(job: str, parameters: tuple[str, ...], wait: bool) -> None:
    """Run a job now."""
    jobs = client()
    found = jobs.find(job)
    texts = dict(split_parameter(text) for text in parameters)
    values = {name: from_text(found.parameters_schema, name, text) for name, text in texts.items()}
    run = jobs.start(found.id, values)
    click.echo(f"{run.job_name} · run {run.number} ({run.id})")
    if wait:
        sys.exit(0 if followed(jobs, run).state == "succeeded" else EXIT_FAILED)


@command.command("cancel")
@click.argument("run")
def cancel(run: str) -> None:
    """Stop a run."""
    jobs = client()
    click.echo(state_sentence(jobs.cancel(jobs.find_run(run).id)))


@command.command("pause")
@click.argument("job")
def pause(job: str) -> None:
    """Let a schedule rest."""
    click.echo(f"{change(job, paused=True).name} is paused.")


@command.command("resume")
@click.argument("job")
def resume(job: str) -> None:
    """Let a schedule go on with its next slot."""
    found = change(job, paused=False)
    click.echo(f"{found.name} goes on{next_at(found)}.")


@command.command("follow")
@click.argument("job")
def follow(job: str) -> None:
    """Follow the notebook: each save in Lab becomes what runs next."""
    found = change(job, follow=True)
    click.echo(f"{found.name} follows the notebook {found.notebook_path}: each save in Lab becomes what runs next.")


@command.command("unfollow")
@click.argument("job")
def unfollow(job: str) -> None:
    """Keep the notebook as the job has it: saves in Lab do not change what runs."""
    found = change(job, follow=False)
    kept = f"keeps the notebook {found.notebook_path} as it has it"
    click.echo(f"{found.name} {kept}: saves in Lab do not change what runs.")


def change(job: str, **values: bool) -> Job:
    jobs = client()
    return jobs.update(jobs.find(job).id, values)


def next_at(job: Job) -> str:
    return f"; next at {job.next_firings[0]:%Y-%m-%d %H:%M} UTC" if job.next_firings else ""


@command.command("delete")
@click.argument("job")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(job: str, yes: bool) -> None:
    """Delete a job; its runs can still be read by their ids, and it can be restored."""
    jobs = client()
    found = jobs.find(job)
    if not yes:
        click.confirm(f"Delete the job '{found.name}' and stop what of it runs?", abort=True)
    jobs.delete(found.id)
    click.echo(f"{found.name} is deleted; 'labwright jobs restore {found.id}' brings it back.")


@command.command("restore")
@click.argument("job")
def restore(job: str) -> None:
    """Take the deletion of a job back; JOB is its name or its id.

    Its schedule goes on with the next slot. Runs that the deletion stopped stay stopped.
    """
    jobs = client()
    found = jobs.restore(jobs.find_deleted(job))
    click.echo(f"{found.name} is restored{next_at(found)}.")


@command.command("output")
@click.argument("run")
@click.option(
    "-o", "--to", type=click.Path(path_type=Path, dir_okay=False), help="A file; standard output when absent."
)
def output(run: str, to: Path | None) -> None:
    """The notebook with its outputs, as far as the run has come."""
    jobs = client()
    text = json.dumps(jobs.notebook(jobs.find_run(run).id), indent=1, ensure_ascii=False) + "\n"
    if to is None:
        click.echo(text, nl=False)
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"'{to}' cannot be written: {error.strerror}.", remedy="Give another path.") from None
    click.echo(f"Wrote {to}.")


@command.command("log")
@click.argument("run")
def log(run: str) -> None:
    """What a run's kernel printed outside of its cells, and the error of a failed one."""
    jobs = client()
    found = jobs.find_run(run)
    click.echo(jobs.log(found.id), nl=False)
    echo_error(found)
