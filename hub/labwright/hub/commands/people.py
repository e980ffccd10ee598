"""`labwright people`: who may log in to an embedded workbench, and in which groups."""

from __future__ import annotations

from urllib.parse import quote

import click
import httpx

from labwright.api.errors import Forbidden, LabwrightError
from labwright.hub.commands.place import settings_for
from labwright.hub.people import People
from labwright.hub.settings import Settings

GROUPS = click.option("--group", "groups", multiple=True, help="A group; may be given several times.")


@click.group()
@click.option("--home", type=click.Path(file_okay=False), help="Folder of the workbench's state.")
@click.pass_context
def command(context: click.Context, home: str | None) -> None:
    """Add and remove people, and set their groups."""
    context.obj = settings_for(home, None)


def people_of(settings: Settings) -> People:
    try:
        if not (settings.hub_folder / "people.json").exists():
            raise LabwrightError(f"There is no workbench at {settings.home}.", remedy="Start it with 'labwright up'.")
        (settings.hub_folder / "people.json").read_bytes()
    except PermissionError:
        raise Forbidden("Only who started the workbench may change its people.", remedy="Use sudo.") from None
    return People(settings.hub_folder / "people.json")


@command.command()
@click.argument("name")
@GROUPS
@click.pass_obj
def add(settings: Settings, name: str, groups: tuple[str, ...]) -> None:
    """Let somebody in; prints a generated password once."""
    if not settings.by_user:
        raise Forbidden(
            "This workbench was started without root and has one person.", remedy="Start it with sudo to have several."
        )
    show(name, people_of(settings).add(name, groups))


@command.command()
@click.argument("name")
@click.pass_obj
def password(settings: Settings, name: str) -> None:
    """Make a new password; prints it once."""
    show(name, people_of(settings).renew_password(name))


@command.command()
@click.argument("name")
@GROUPS
@click.pass_obj
def groups(settings: Settings, name: str, groups: tuple[str, ...]) -> None:
    """Set somebody's groups to exactly these. It holds at once."""
    people_of(settings).set_groups(name, groups)
    tell_hub(settings, "POST", f"/labwright/people/{quote(name, safe='')}")
    click.echo(f"{name} is in: {', '.join(groups) or 'no group'}")


@command.command()
@click.argument("name")
@click.pass_obj
def remove(settings: Settings, name: str) -> None:
    """Lock somebody out and end their servers. Files and history stay."""
    people_of(settings).remove(name)
    tell_hub(settings, "DELETE", f"/users/{quote(name, safe='')}")
    click.echo(f"{name} may no longer log in.")


@command.command("list")
@click.pass_obj
def list_people(settings: Settings) -> None:
    """Who may log in."""
    for person in people_of(settings).all().values():
        click.echo(f"{person.name}\t{', '.join(person.groups)}")


def show(name: str, password: str) -> None:
    click.echo(f"This password is shown once and stored nowhere:\n    name      {name}\n    password  {password}")


def tell_hub(settings: Settings, method: str, path: str) -> None:
    """Let a running hub act at once; one that is down reads the file at the next login."""
    token = settings.service_token_file("people").read_text().strip()
    try:
        answer = httpx.request(
            method,
            settings.hub_api_url + path,
            headers={"Authorization": f"token {token}"},
            timeout=30.0,
            trust_env=False,
        )
    except httpx.TransportError:
        click.echo("The hub is not running; it holds from its next start.", err=True)
        return
    if answer.is_error and answer.status_code != 404:  # 404: never logged in
        raise LabwrightError(
            f"The hub answered {answer.status_code}, so the change holds from the next login only.",
            remedy="Run 'labwright doctor'.",
        )
