"""`labwright down`: stop the workbench and everybody's processes."""

from __future__ import annotations

import click

from labwright.hub import supervision
from labwright.hub.commands.place import settings_for


@click.command()
@click.option("--home", type=click.Path(file_okay=False), help="Folder of all state.")
def command(home: str | None) -> None:
    """Stop the workbench, with everybody's servers, runs and clusters. Nothing stored is lost."""
    settings = settings_for(home, None)
    if not settings.home.exists():
        click.echo(f"There is no workbench at {settings.home}.")
        return
    with supervision.only_one(settings):
        if supervision.supervisor_pid(settings) is None and not supervision.strays(settings):
            click.echo("Labwright is not running.")
            return
        ended = supervision.stop(settings)
    click.echo(f"Labwright is down; {ended} process{'es' if ended != 1 else ''} of people ended.")
