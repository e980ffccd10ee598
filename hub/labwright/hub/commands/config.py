"""`labwright config`: check and explain config/workbench.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import click

from labwright.hub.settings import from_environment
from labwright.hub.spawn_page import describe_size, format_bytes, format_price
from labwright.spawner import workbench
from labwright.spawner.profiles import QuotaRule, Workbench, profiles_for

FILE = click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Another file than the workbench's own."
)


@click.group()
def command() -> None:
    """Check and explain the workbench file."""


@command.command()
@FILE
def check(path: Path | None) -> None:
    """Say what is wrong with the file: line, column, what and the fix. Exits 2 when something is."""
    path = path or from_environment().workbench_file
    found = workbench.load(path)
    click.echo(f"{path} is good: {len(found.profiles)} profiles, {len(found.quotas)} quotas.")


@command.command()
def schema() -> None:
    """Print the file's JSON Schema, for editors."""
    click.echo(json.dumps(workbench.json_schema(), indent=2))


@command.command()
@click.option("--user", required=True, help="Whose view to explain.")
@click.option("--group", "groups", multiple=True, help="A group the person is in; may be given several times.")
@FILE
def explain(user: str, groups: tuple[str, ...], path: Path | None) -> None:
    """Say which profiles, limits and grants somebody has, and by which entry."""
    path = path or from_environment().workbench_file
    found = workbench.load(path)
    click.echo(f"{user}, in {', '.join(('everyone', *groups))}:")
    for profile in profiles_for(groups, found.profiles):
        price = format_price(profile.price_per_hour, found.currency)
        click.echo(f"  profile {profile.slug}: {describe_size(profile)}, {price}/h")
    for rule in rules_for(found, user, groups):
        click.echo(f"  {describe_rule(rule, found.currency)}")
    for grant in found.grants:
        if grant.group in ("everyone", *groups):
            what = f"schemas {', '.join(grant.schemas)}, tables {', '.join(grant.tables)}"
            click.echo(f"  grant by {grant.group}: {grant.connection} ({what})")


def rules_for(found: Workbench, user: str, groups: tuple[str, ...]) -> list[QuotaRule]:
    own = [rule for rule in found.quotas if rule.user == user]
    default = [rule for rule in found.quotas if rule.user == "default"]
    return [*(own or default), *(rule for rule in found.quotas if rule.group in groups)]


def describe_rule(rule: QuotaRule, currency: str) -> str:
    whose = f"group {rule.group}" if rule.group else "own" if rule.user != "default" else "default"
    limits = [
        f"{getattr(rule, name):g} {name}"
        for name in ("servers", "runs", "clusters", "cpu", "gpu")
        if getattr(rule, name) is not None
    ]
    if rule.memory_bytes is not None:
        limits.append(f"{format_bytes(rule.memory_bytes)} memory")
    if rule.budget is not None:
        limits.append(f"{format_price(rule.budget.amount, currency)} per {rule.budget.per}")
    return f"quota ({whose}): {', '.join(limits) or 'no limits'}"
