"""labwright connections: list, test, add and remove connections; grant and revoke them."""

from __future__ import annotations

import sys

import click

from labwright.api.client import Client
from labwright.api.errors import InvalidRequest


@click.group(invoke_without_command=True)
@click.pass_context
def connections(context: click.Context) -> None:
    """Data sources and who may read them (lists them when no verb is given)."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


@connections.command("list")
def list_() -> None:
    """Connections with their state, and whether you may read them."""
    for item in Client.from_environment().data("GET", "/connections")["items"]:
        access = "granted" if item["granted"] else "no grant"
        reason = f" ({item['reason']})" if item.get("reason") else ""
        where = "workbench.yaml" if item["declared"] else "added"
        click.echo(f"{item['name']:<20} {item['title']:<12} {item['state']:<12} {access:<9} {where}{reason}")


@connections.command()
@click.argument("name")
def test(name: str) -> None:
    """Ask a connection for its tables; exits 1 when it does not answer."""
    tables = Client.from_environment().data("GET", f"/connections/{name}/catalog", params={"fresh": "true"})["tables"]
    click.echo(f"{name} answers; {len(tables)} table{'' if len(tables) == 1 else 's'} that you may read.")


@connections.command()
@click.argument("name")
@click.option("--driver", required=True, help="postgresql, duckdb …")
@click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the driver.")
@click.option("--description", default="")
@click.option("--secret-stdin", is_flag=True, help="Read the credential from standard input (asked for otherwise).")
@click.option("--no-secret", is_flag=True, help="The source needs none.")
def add(
    name: str, driver: str, options: tuple[str, ...], description: str, secret_stdin: bool, no_secret: bool
) -> None:
    """Try a connection out and store it (admins)."""
    pairs = dict(option.partition("=")[::2] for option in options)
    if any("=" not in option for option in options):
        raise InvalidRequest("An option is written NAME=VALUE.")
    secret = None
    if secret_stdin:
        secret = sys.stdin.readline().rstrip("\n")
    elif not no_secret:
        secret = click.prompt("Credential", hide_input=True)
    body = {"name": name, "driver": driver, "options": pairs, "secret": secret, "description": description}
    Client.from_environment().data("POST", "/connections", json=body)
    click.echo(f"Added {name}. Nobody may read it yet: labwright connections grant {name} GROUP")


@connections.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a connection and its grants (admins)."""
    Client.from_environment().data("DELETE", f"/connections/{name}")
    click.echo(f"Removed {name}.")


@connections.command()
@click.argument("name")
@click.argument("group")
@click.option("--schema", "schemas", multiple=True, help="Pattern, any number of times (all).")
@click.option("--table", "tables", multiple=True, help="Pattern, any number of times (all).")
@click.option("--until", help="ISO time after which it no longer holds.")
def grant(name: str, group: str, schemas: tuple[str, ...], tables: tuple[str, ...], until: str | None) -> None:
    """Let a group read (admins); 'everyone' is everybody who can log in."""
    body = {
        "group": group,
        "connection": name,
        "schemas": list(schemas) or ["*"],
        "tables": list(tables) or ["*"],
        "until": until,
    }
    Client.from_environment().data("PUT", "/grants", json=body)
    click.echo(f"{group} may read {', '.join(tables or ['*'])} in {name}.")


@connections.command()
@click.argument("name")
@click.argument("group")
def revoke(name: str, group: str) -> None:
    """Take a group's grant away (admins); holds for the next query."""
    Client.from_environment().data("DELETE", "/grants", params={"group": group, "connection": name})
    click.echo(f"{group} may no longer read {name} by this grant.")
