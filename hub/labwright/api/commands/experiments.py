"""`labwright experiments`: what was tracked, for people, CI and cron."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice

import click

from labwright.api.client import Client
from labwright.api.commands.table import print_table
from labwright.api.tracking import TrackedRun, TrackingClient, moment

METRICS_SHOWN = 4

of_group = click.option("--group", help="A group's instead of your own.")
as_json = click.option("--json", "raw", is_flag=True, help="One JSON object per line.")


@click.group("experiments", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Experiments and their runs (lists experiments when no verb is given)."""
    if context.invoked_subcommand is None:
        context.invoke(list_experiments)


@command.command("list")
@of_group
@as_json
def list_experiments(group: str | None, raw: bool) -> None:
    """Experiments, the last used first."""
    found = tracking(group).experiments()
    if raw:
        for one in found:
            click.echo(json.dumps(one))
    elif not found:
        click.echo("No experiments yet. %track NAME in a notebook begins one.")
    else:
        rows = [("id", "name", "last used (UTC)")]
        rows += [
            (one["experiment_id"], one["name"], f"{moment(one['last_update_time']):%Y-%m-%d %H:%M}") for one in found
        ]
        print_table(rows)


@command.command("runs")
@click.argument("experiment")
@click.option("--sort", metavar="METRIC", help="The largest of this metric first; the newest run when absent.")
@click.option("--ascending", is_flag=True, help="The smallest, or the oldest, first.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many runs at most.")
@of_group
@as_json
def list_runs(experiment: str, sort: str | None, ascending: bool, limit: int, group: str | None, raw: bool) -> None:
    """Runs of an experiment, by its name or id, with their metrics."""
    found = list(islice(tracking(group).runs(experiment, sort=sort, ascending=ascending), limit))
    if raw:
        for one in found:
            click.echo(json.dumps(asdict(one), default=str))
    elif not found:
        click.echo(f"No runs in {experiment} yet.")
    else:
        print_table(rows_of(found, sort))


def rows_of(runs: list[TrackedRun], first: str | None) -> list[tuple[str, ...]]:
    """A line for each run, with the metrics that most of them have; `first` leads."""
    counts: dict[str, int] = {}
    for run in runs:
        for name in run.metrics:
            counts[name] = counts.get(name, 0) + 1
    metrics = sorted(counts, key=lambda name: (name != first, -counts[name], name))[:METRICS_SHOWN]
    rows: list[tuple[str, ...]] = [("run", "name", "state", "started (UTC)", *metrics)]
    for run in runs:
        values = (f"{run.metrics[name]:.6g}" if name in run.metrics else "–" for name in metrics)
        rows.append((run.id, run.name, run.status.lower(), f"{run.started:%Y-%m-%d %H:%M}", *values))
    return rows


def tracking(group: str | None) -> TrackingClient:
    client = Client.from_environment()
    click.get_current_context().call_on_close(client.close)
    return TrackingClient(client, group)
