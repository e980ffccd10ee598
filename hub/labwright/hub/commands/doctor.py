"""`labwright doctor`: test every part and say what to do."""

from __future__ import annotations

import sys

import click

from labwright.hub.commands.place import settings_for
from labwright.hub.diagnosis import diagnose

MARKS = {"good": ("ok  ", "green"), "note": ("note", "yellow"), "bad": ("BAD ", "red")}


@click.command()
@click.option("--home", type=click.Path(file_okay=False), help="Folder of all state.")
@click.option("--port", type=click.IntRange(1024, 65528), help="First port of the workbench.")
def command(home: str | None, port: int | None) -> None:
    """Test every part of the workbench. Exits 1 when something needs mending."""
    failed = 0
    for finding in diagnose(settings_for(home, port)):
        text, colour = MARKS[finding.state]
        click.echo(f"{click.style(text, fg=colour)}  {finding.part}: {finding.text}")
        if finding.remedy:
            click.echo(f"      → {finding.remedy}")
        failed += finding.state == "bad"
    sys.exit(1 if failed else 0)
