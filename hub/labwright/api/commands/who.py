"""`labwright who`: what runs now, and whose it is."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from labwright.api.client import Client
from labwright.api.commands.table import print_table
from labwright.api.money import money
from labwright.api.usage import UsageReport


@click.command("who")
@click.option("--everybody", is_flag=True, help="Of all people; for admins.")
def command(everybody: bool) -> None:
    """Show what runs now: servers, runs and clusters."""
    client = Client.from_environment()
    try:
        params = {"everybody": "true"} if everybody else {}
        report = UsageReport.model_validate(client.core("GET", "/usage", params=params))
    finally:
        client.close()
    if not report.running:
        click.echo("Nothing runs now.")
        return
    now = datetime.now(UTC)
    rows = [("user", "what", "profile", "cpu", "memory", "since", "cost")]
    rows += [
        (
            held.user,
            held.key,
            held.profile or "-",
            f"{held.ask.cpu:g}",
            f"{held.ask.memory_bytes / 2**30:.1f} GB",
            f"{(now - held.created).total_seconds() / 60:.0f} m",
            money(held.cost, report.currency),
        )
        for held in report.running
    ]
    print_table(rows)
