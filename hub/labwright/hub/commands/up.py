"""`labwright up`: start the workbench."""

from __future__ import annotations

import time

import click

from labwright.hub import supervision
from labwright.hub.commands.place import remember, settings_for
from labwright.hub.installation import install
from labwright.hub.people import FIRST_ADMIN
from labwright.hub.programs import exists, programs
from labwright.hub.settings import Settings
from labwright.spawner import workbench

DEADLINE_SECONDS = 180.0  # a machine under load; a part that cannot start at all is named by doctor


@click.command()
@click.option("--home", type=click.Path(file_okay=False), help="Folder of all state.")
@click.option("--port", type=click.IntRange(1024, 65528), help="First of 8 ports in a row; the browser uses it.")
@click.option("--wait", is_flag=True, help="Return when every service is ready, not only the login page.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground (containers).")
def command(home: str | None, port: int | None, wait: bool, foreground: bool) -> None:
    """Start the workbench, or say that it is up."""
    began = time.monotonic()
    settings = settings_for(home, port)
    declared = workbench.load(settings.workbench_file)
    with supervision.only_one(settings):
        if supervision.supervisor_pid(settings) is not None:
            click.echo(f"Labwright is already up at {settings.public_url}")
            return
        for warning in supervision.check_machine(settings):
            click.echo(f"warning: {warning}", err=True)
        password = install(settings, tuple(declared.groups))
        remember(settings)
        click.echo(f"Starting the workbench in {settings.home} …")
        if password:
            show_password(password)
        for program in programs(settings):
            if not exists(program):
                click.echo(f"note: {program.name} is left out, its code is not there yet.", err=True)
        supervision.start_supervisor(settings, foreground=foreground)
        await_ready(settings, wait=wait)
    click.echo(f"Labwright is up at {settings.public_url} ({time.monotonic() - began:.1f} s)")
    if not settings.by_user:
        click.echo("Started without root: one person may log in. 'labwright doctor' says why.")


def show_password(password: str) -> None:
    click.echo("First start. This password is shown once and stored nowhere:")
    click.echo(f"    name      {FIRST_ADMIN}\n    password  {password}")


def await_ready(settings: Settings, *, wait: bool) -> None:
    """Until the login page is there, or with `wait` every service but MLflow; says what came up."""
    wanted = [program.name for program in programs(settings) if program.name != "mlflow" and exists(program)]
    began = time.monotonic()
    start = supervision.Start(
        settings, wanted, lambda name: click.echo(f"    {name:<10} ready after {time.monotonic() - began:.1f} s")
    )
    login = f"{settings.public_url}/hub/login"
    start.wait_for(lambda: supervision.answers(login), "The login page", DEADLINE_SECONDS)
    start.look()
    if wait:
        start.wait_for_all(DEADLINE_SECONDS)
    elif late := [name for name in (*wanted, "mlflow") if name not in start.ready]:
        click.echo(f"    {', '.join(late)} follow within seconds; 'labwright doctor' tells")
