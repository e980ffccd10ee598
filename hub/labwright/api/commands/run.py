"""`labwright run NOTEBOOK`: one run of a notebook through the API."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from labwright.api.client import Client
from labwright.api.commands import EXIT_FAILED
from labwright.api.job_client import (
    JobClient,
    echo_error,
    read_notebook,
    split_parameter,
    state_sentence,
)
from labwright.api.jobs import Run


@click.command("run")
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="May be given many times.")
@click.option("--wait", is_flag=True, help="Follow the run; exit 0 when it succeeds, 1 when it does not.")
@click.option("--profile", default="small", show_default=True, help="The size it runs on.")
@click.option("--name", default=None, help="The job's name; the file's by default.")
@click.option(
    "--group", default=None, help="The group that is billed, '' for you; without, you, or whom the job billed before."
)
@click.option("--timeout", type=click.IntRange(1), default=3600, show_default=True, help="Seconds it may take.")
def command(
    notebook: Path,
    parameters: tuple[str, ...],
    wait: bool,
    profile: str,
    name: str | None,
    group: str | None,
    timeout: int,
) -> None:
    """Run a notebook as a job of yours.

    Exits with 2 when the request is wrong, a misspelt parameter say.
    """
    content = read_notebook(notebook)
    jobs = JobClient(Client.from_environment())
    values = jobs.typed(content, dict(split_parameter(text) for text in parameters))
    policy = {"timeout_seconds": timeout, "overlap": "queue"}
    run = jobs.start(jobs.place(notebook, content, values, name=name, profile=profile, group=group, policy=policy).id)
    click.echo(f"{run.job_name} · run {run.number} ({run.id})")
    if wait:
        sys.exit(0 if followed(jobs, run).state == "succeeded" else EXIT_FAILED)


def followed(jobs: JobClient, run: Run) -> Run:
    """The run when it is over; a live line on a terminal, a line for each change elsewhere."""
    live = sys.stdout.isatty()
    said = ""
    for latest in jobs.follow(run):
        run = latest
        sentence = state_sentence(run)
        if sentence == said:
            continue
        click.echo(("\r\x1b[K" if live else "") + sentence, nl=not live)
        said = sentence
    if live:
        click.echo()
    if run.state != "succeeded":
        echo_error(run)
    return run
