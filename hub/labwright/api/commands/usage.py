"""`labwright usage`: hours and cost, as a table or as CSV."""

from __future__ import annotations

from datetime import datetime

import click

from labwright.api.client import Client
from labwright.api.commands.table import print_table
from labwright.api.money import money
from labwright.api.usage import Quota, UsageReport


@click.command("usage")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values, for a spreadsheet.")
@click.option("--everybody", is_flag=True, help="Of all people; for admins.")
@click.option("--since", type=click.DateTime(), help="From this day or moment on (UTC); this month when absent.")
@click.option("--until", type=click.DateTime(), help="Up to this day or moment (UTC); now when absent.")
def command(as_csv: bool, everybody: bool, since: datetime | None, until: datetime | None) -> None:
    """Show what was used and what it cost."""
    params = {name: moment.isoformat() for name, moment in (("since", since), ("until", until)) if moment}
    if everybody:
        params["everybody"] = "true"
    client = Client.from_environment()
    try:
        if as_csv:
            with client.stream_core("GET", "/usage.csv", params=params) as answer:
                answer.read()
                click.echo(answer.text, nl=False)
            return
        report = UsageReport.model_validate(client.core("GET", "/usage", params=params))
        quotas = [Quota.model_validate(quota) for quota in client.core("GET", "/quota")]
    finally:
        client.close()
    print_report(report)
    for quota in quotas:
        if quota.notice:
            click.echo(f"{quota.notice.message} {quota.notice.remedy}")


def print_report(report: UsageReport) -> None:
    click.echo(f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC")
    rows = [("user", "account", "kind", "profile", "hours", "cpu h", "gpu h", "cost")]
    rows += [
        (
            row.user,
            row.account,
            row.kind,
            row.profile or "-",
            f"{row.hours:.2f}",
            f"{row.cpu_hours:.2f}",
            f"{row.gpu_hours:.2f}",
            money(row.cost, report.currency),
        )
        for row in report.rows
    ]
    print_table(rows)
    total = sum(row.cost for row in report.rows)
    click.echo(f"{money(total, report.currency)} in all; {len(report.running)} running now")
