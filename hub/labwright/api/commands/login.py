"""`labwright login`: remember where Labwright is and who you are, for this person's shells."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

import click
import httpx

from labwright.api import names
from labwright.api.client import CREDENTIALS, Client, Endpoints
from labwright.api.errors import InvalidRequest, LabwrightError, NotAuthenticated, Unavailable

TOKEN_DAYS = 30


@click.command("login")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where your browser finds Labwright.")
@click.option("--token", envvar="LABWRIGHT_TOKEN", help="A token from the hub's page 'Tokens'; asked for otherwise.")
@click.option("--user", default=None, help="Log in with this name and a password instead of a token.")
@click.option("--password", envvar="LABWRIGHT_PASSWORD", help="Asked for when --user is given.")
def command(url: str, token: str | None, user: str | None, password: str | None) -> None:
    """Log this shell's user in. The token is kept in ~/.config/labwright/credentials.json, for you alone."""
    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest(f"'{url}' is no address.", remedy="Give it as http://host:port.")
    if user is not None:
        token = new_token(url, user, password or click.prompt("Password", hide_input=True))
    token = token or click.prompt("Token (from the hub's page 'Tokens')", hide_input=True).strip()
    core, data = f"{url}{names.CORE_PREFIX}", f"{url}{names.DATA_PREFIX}"
    check(Endpoints(core, data, token=token))
    write_private(CREDENTIALS.expanduser(), json.dumps({"core": core, "data": data, "token": token}, indent=2))
    click.echo(f"Logged in to {url}.")


def new_token(url: str, user: str, password: str) -> str:
    """A token of the hub for what people do, without admin rights, for a month."""
    scopes = [*names.USER_SCOPES, "access:services!service=core", "access:services!service=data"]
    body = {
        "auth": {"username": user, "password": password},
        "note": "labwright login",
        "scopes": scopes,
        "expires_in": TOKEN_DAYS * 86400,
    }
    try:
        answer = httpx.post(
            f"{url}/hub/api/users/{quote(user, safe='')}/tokens", json=body, timeout=30, trust_env=False
        )
    except httpx.TransportError:
        raise Unavailable(f"Labwright at {url}", remedy="Is it running? See 'labwright doctor'.") from None
    if answer.status_code in (401, 403):
        raise NotAuthenticated("The name or the password is wrong.")
    if answer.is_error:
        raise LabwrightError(f"The hub gave no token ({answer.status_code}).", remedy="Make one on its page 'Tokens'.")
    token: str = answer.json()["token"]
    return token


def check(endpoints: Endpoints) -> None:
    """Whether core takes the token, before anything is written."""
    client = Client(endpoints)
    try:
        client.core("GET", "/jobs", params={"limit": 1})
    finally:
        client.close()


def write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_suffix(".new")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    scratch.replace(path)
