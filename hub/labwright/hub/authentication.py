"""How people log in to an embedded workbench: names and generated passwords from `people.json`.

Production uses OAuthenticator instead (docs/how-to/admin.md). Groups are the authenticator's in both:
the hub takes them over at login, and at once when `labwright people` tells it to look again.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.auth import Authenticator
from jupyterhub.scopes import needs_scope
from tornado import web
from traitlets import Bool, Unicode

from labwright.hub.people import ADMINS, FIRST_ADMIN, People, Person

MAX_FAILURES, FAILURE_SECONDS = 10, 60.0


class PeopleAuthenticator(Authenticator):  # type: ignore[misc]  # jupyterhub has no types
    """Checks passwords against the hub's own file of people."""

    people_file = Unicode(help="Path of people.json, readable by the hub alone.").tag(config=True)
    one_person = Bool(
        False, help="Only the first administrator may log in: all processes share one account of the machine."
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.people = People(Path(self.people_file))
        self._failures: dict[str, list[float]] = {}

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        name, password = data.get("username", ""), data.get("password", "")
        self._refuse_guessing(name)
        if self.one_person and name != FIRST_ADMIN:
            raise web.HTTPError(
                403, f"Only '{FIRST_ADMIN}' may log in: this workbench was started without root, so it has one person."
            )
        person = await asyncio.to_thread(self.people.check, name, password)
        if person is None:
            self._failures.setdefault(name, []).append(time.monotonic())
            return None
        self._failures.pop(name, None)
        return auth_model(person)

    def _refuse_guessing(self, name: str) -> None:
        since = time.monotonic() - FAILURE_SECONDS
        self._failures = {
            who: kept for who, times in self._failures.items() if (kept := [at for at in times if at > since])
        }
        if len(self._failures.get(name, ())) >= MAX_FAILURES:
            raise web.HTTPError(429, "Too many wrong passwords. Wait a minute, then try again.")

    def get_handlers(self, app: Any) -> list[tuple[str, Any]]:
        handlers: list[tuple[str, Any]] = super().get_handlers(app)
        return [*handlers, (r"/api/labwright/people/([^/]+)", PersonHandler)]


class PersonHandler(APIHandler):  # type: ignore[misc]
    """`POST /hub/api/labwright/people/{name}`: read the person's groups from the file again, now."""

    @needs_scope("admin:users")  # type: ignore[untyped-decorator]
    async def post(self, name: str) -> None:
        person = self.authenticator.people.all().get(name)
        user = self.find_user(name)
        if person is None:
            raise web.HTTPError(404, f"There is no '{name}'.")
        if user is not None:
            user.sync_groups(list(person.groups))
            user.admin = is_admin(person)
            self.db.commit()
        self.write(json.dumps({"name": name, "groups": sorted(person.groups), "known": user is not None}))


def auth_model(person: Person) -> dict[str, Any]:
    return {"name": person.name, "groups": sorted(person.groups), "admin": is_admin(person)}


def is_admin(person: Person) -> bool:
    return ADMINS in person.groups
