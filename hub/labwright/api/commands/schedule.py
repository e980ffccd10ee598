"""`labwright schedule NOTEBOOK`: what %schedule does, for people, CI and cron."""

from __future__ import annotations

from pathlib import Path

import click

from labwright.api.client import Client
from labwright.api.job_client import JobClient, read_notebook, split_parameter
from labwright.api.jobs import Job


@click.command("schedule")
@click.argument("notebook", type=click.Path(path_type=Path))
@click.option("--cron", required=True, help="Minute hour day month weekday, for example '0 6 * * *'.")
@click.option("--zone", default="UTC", show_default=True, help="The schedule's time zone, for example Europe/Berlin.")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="May be given many times.")
@click.option("--name", help="The job's name; the file's by default. A job of that name is changed.")
@click.option(
    "--follow/--no-follow",
    default=None,
    help="Follow the notebook: each save in Lab becomes what runs next. Without: as the job had it; new ones do not.",
)
@click.option("--profile", default="small", show_default=True, help="The size it runs on.")
@click.option("--group", help="The group that is billed, '' for you; without, you, or whom the job billed before.")
@click.option("--timeout", type=click.IntRange(1), default=3600, show_default=True, help="Seconds a run may take.")
@click.option(
    "--retries", type=click.IntRange(0), default=0, show_default=True, help="How often a failed run is tried again."
)
@click.option(
    "--overlap",
    type=click.Choice(["skip", "queue", "cancel-old"]),
    default="skip",
    show_default=True,
    help="When the run before still goes on.",
)
@click.option(
    "--misfire",
    type=click.Choice(["skip", "once", "all"]),
    default="once",
    show_default=True,
    help="For slots missed while the workbench was down.",
)
def command(
    notebook: Path,
    cron: str,
    zone: str,
    parameters: tuple[str, ...],
    name: str | None,
    follow: bool | None,
    profile: str,
    group: str | None,
    timeout: int,
    retries: int,
    overlap: str,
    misfire: str,
) -> None:
    """Run a notebook every so often, whether or not anybody is logged in."""
    content = read_notebook(notebook)
    jobs = JobClient(Client.from_environment())
    policy = {"timeout_seconds": timeout, "retries": retries, "overlap": overlap, "misfire": misfire}
    values = jobs.typed(content, dict(split_parameter(text) for text in parameters))
    schedule = {"cron": cron, "timezone": zone}
    job = jobs.place(
        notebook,
        content,
        values,
        name=name,
        profile=profile,
        group=group,
        schedule=schedule,
        policy=policy,
        follow=follow,
    )
    click.echo(sentence(job))


def sentence(job: Job) -> str:
    """'late_flights (job-…) runs at 0 6 * * * Europe/Berlin; next 2026-11-22 05:00, … UTC.'"""
    assert job.schedule is not None
    firings = ", ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in job.next_firings[:3])
    return f"{job.name} ({job.id}) runs at {job.schedule.cron} {job.schedule.timezone}; next {firings} UTC."
