"""`labwright config`: check, compare and explain config/workbench.yaml."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from labwright.api.errors import Forbidden, LabwrightError
from labwright.api.money import money
from labwright.hub.commands.place import settings_for
from labwright.hub.people import People
from labwright.hub.spawn_page import describe_size, format_bytes
from labwright.spawner import workbench
from labwright.spawner.profiles import QuotaRule, Workbench, profiles_for

FILE = click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False), help="Another file than the workbench's own."
)


@click.group()
def command() -> None:
    """Check, compare and explain the workbench file."""


@command.command()
@FILE
def check(path: Path | None) -> None:
    """Say what is wrong with the file: line, column, what and the fix. Exits 2 when something is."""
    path = path or settings_for(None, None).workbench_file
    found = workbench.load(path)
    click.echo(f"{path} is good: {len(found.profiles)} profiles, {len(found.quotas)} quotas.")


@command.command()
def schema() -> None:
    """Print the file's JSON Schema, for editors."""
    click.echo(json.dumps(workbench.json_schema(), indent=2))


@command.command()
@click.option("--user", required=True, help="Whose view to explain.")
@click.option("--group", "groups", multiple=True, help="As if in this group; several times. Else the person's own.")
@FILE
def explain(user: str, groups: tuple[str, ...], path: Path | None) -> None:
    """Say which profiles, limits and grants somebody has, and by which entry."""
    path = path or settings_for(None, None).workbench_file
    groups = tuple(group for group in groups or groups_of(user) if group != "everyone")
    found = workbench.load(path)
    click.echo(f"{user}, in {', '.join(('everyone', *groups))}:")
    for profile in profiles_for(groups, found.profiles):
        price = money(profile.price_per_hour, found.currency)
        click.echo(f"  profile {profile.slug}: {describe_size(profile)}, {price}/h")
    for rule in rules_for(found, user, groups):
        click.echo(f"  {describe_rule(rule, found.currency)}")
    for grant in found.grants:
        if grant.group in ("everyone", *groups):
            what = f"schemas {', '.join(grant.schemas)}, tables {', '.join(grant.tables)}"
            click.echo(f"  grant by {grant.group}: {grant.connection} ({what})")


def groups_of(user: str) -> tuple[str, ...]:
    """The groups of a person of the workbench on this machine; none where there is no workbench, as in a CI."""
    file = settings_for(None, None).hub_folder / "people.json"
    try:
        if not file.exists():
            click.echo(
                "note: no workbench was started here, so nobody's groups are known; say them with --group", err=True
            )
            return ()
        people = People(file).all()
    except PermissionError:
        raise Forbidden(
            "Only who started the workbench may read its people.", remedy="Use sudo, or say the groups with --group."
        ) from None
    if user not in people:
        raise LabwrightError(
            f"There is no person '{user}'.", remedy="Say the groups with --group (--group everyone for none)."
        )
    return people[user].groups


@command.command()
@click.argument("new", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@FILE
def diff(new: Path, path: Path | None) -> None:
    """Say what NEW would change, entry by entry, before it takes the place of the workbench's file."""
    changes = differences(workbench.load(path or settings_for(None, None).workbench_file), workbench.load(new))
    click.echo("\n".join(changes) or "Nothing changes.")


def differences(old: Workbench, new: Workbench) -> list[str]:
    """'profile large: price_per_hour 0.21 → 0.3', '+ grant of lake to research' …, in the order of the file."""
    before, after = entries(old), entries(new)
    found = []
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            found.append(f"- {name}")
        elif name not in before:
            found.append(f"+ {name}")
        else:
            pairs = ((key, before[name].get(key), after[name].get(key)) for key in before[name] | after[name])
            found += [f"{name}: {key} {shown(one)} → {shown(other)}" for key, one, other in pairs if one != other]
    return found


def entries(found: Workbench) -> dict[str, dict[str, Any]]:
    """Every entry of the file by what people call it, with its fields."""
    named: dict[str, dict[str, Any]] = {f"profile {one.slug}": asdict(one) for one in found.profiles}
    named |= {f"quota of {f'group {one.group}' if one.group else one.user}": asdict(one) for one in found.quotas}
    named |= {"idle": asdict(found.idle), "workbench": {"currency": found.currency}}
    named |= {f"image {name}": {"is": reference} for name, reference in found.images.items()}
    named |= {f"connection {one.name}": asdict(one) for one in found.connections}
    named |= {f"grant of {one.connection} to {one.group}": asdict(one) for one in found.grants}
    return named | {f"group {name}": {"roles": roles} for name, roles in found.groups.items()}


def shown(value: Any) -> str:
    return (
        "none" if value is None else json.dumps(value, default=str) if isinstance(value, dict | tuple) else str(value)
    )


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
        limits.append(f"{money(rule.budget.amount, currency)} per {rule.budget.per}")
    return f"quota ({whose}): {', '.join(limits) or 'no limits'}"
