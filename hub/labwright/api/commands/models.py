"""`labwright models`: the model registry, for people, CI and cron."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from labwright.api.commands.experiments import METRICS_SHOWN, as_json, of_group, tracking
from labwright.api.commands.table import print_table


@click.group("models", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Registered models and their versions (lists models when no verb is given)."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@command.command("list")
@of_group
@as_json
def list_models(group: str | None, raw: bool) -> None:
    """Registered models, the last changed first."""
    found = tracking(group).models()
    if raw:
        for one in found:
            click.echo(json.dumps(one))
    elif not found:
        click.echo("No models yet. %register NAME, or 'labwright models register RUN NAME', makes one.")
    else:
        rows = [("name", "newest", "aliases")]
        for one in found:
            newest = max((int(version["version"]) for version in one.get("latest_versions", [])), default=0)
            aliases = [f"{alias['alias']} → {alias['version']}" for alias in one.get("aliases", [])]
            rows.append((one["name"], str(newest or "–"), ", ".join(aliases) or "–"))
        print_table(rows)


@command.command("versions")
@click.argument("model")
@of_group
@as_json
def list_versions(model: str, group: str | None, raw: bool) -> None:
    """Versions of a model, the newest first, with run and metrics."""
    found = tracking(group).versions(model)
    if raw:
        for one in found:
            click.echo(json.dumps(asdict(one), default=str))
        return
    rows = [("version", "aliases", "made (UTC)", "run", "metrics")]
    for one in found:
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in list(one.metrics.items())[:METRICS_SHOWN])
        made = f"{one.created:%Y-%m-%d %H:%M}"
        rows.append((str(one.number), ", ".join(one.aliases) or "–", made, one.run_id or "–", metrics or "–"))
    print_table(rows)


@command.command("register")
@click.argument("run")
@click.argument("model")
@click.option("--alias", help="A name for this version, such as champion.")
@of_group
def register(run: str, model: str, alias: str | None, group: str | None) -> None:
    """Make the last model of a run, by its id, a new version of a model."""
    client = tracking(group)
    version = client.register(run, model)
    if alias:
        client.name_version(model, alias, version.number)
    click.echo(f"Registered {model} version {version.number}" + (f" as {alias}." if alias else "."))


@command.command("alias")
@click.argument("model")
@click.argument("alias")
@click.argument("version", type=int)
@of_group
def name_version(model: str, alias: str, version: int, group: str | None) -> None:
    """Let ALIAS mean this version of the model."""
    tracking(group).name_version(model, alias, version)
    click.echo(f"{model}@{alias} is version {version} now.")
