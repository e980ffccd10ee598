"""Who is asking: one resolver for both kinds of token, the hub's and the ones core signs.

Order of the checks, in every service: the token; for hub tokens, that it may access *this* service; the scope that
the route asks for; then, in the store, ownership. What is not the caller's does not exist (404).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import quote

import httpx
from fastapi import Depends, Request

from labwright.api import names
from labwright.api.errors import DiskFull, Forbidden, NotAuthenticated, Unavailable
from labwright.hub import disk
from labwright.hub.settings import Settings
from labwright.hub.tokens import InvalidToken, Verifier, looks_signed

# A revoked token or membership must stop working within 5 s, so answers of the hub are kept for less.
CACHE_SECONDS = 3.0


@dataclass(frozen=True)
class Caller:
    """Somebody whose token was checked. `scopes` are what this token may do, not what its owner may."""

    name: str
    kind: Literal["user", "service", "run", "runner", "cluster"]
    groups: frozenset[str]
    scopes: frozenset[str]
    run_id: str | None = None
    attempt: int | None = None
    token: str = field(default="", repr=False)  # to speak to another service on the caller's behalf

    @property
    def admin(self) -> bool:
        """Whether this token carries admin rights: only a browser's or an admin's own token ever does."""
        return names.SCOPE_ADMIN in self.scopes


class UnknownPerson(NotAuthenticated):
    """The hub answers that there is nobody (or no token) of that name."""


class Resolver(Protocol):
    async def resolve(self, token: str) -> Caller:
        """The caller behind a token; `NotAuthenticated`, or `Forbidden` for a token of another service."""
        ...


class HubDirectory:
    """Asks the hub about tokens and people, and remembers for `CACHE_SECONDS`."""

    def __init__(
        self, api_url: str, service_token: Callable[[], str], client: httpx.AsyncClient, state: Path | None = None
    ) -> None:
        """`state`: the folder of the hub's database, where that is on this machine."""
        self._api_url = api_url
        self._state = state
        self._service_token = service_token
        self._client = client
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    @classmethod
    def of_service(cls, name: str, settings: Settings, client: httpx.AsyncClient) -> HubDirectory:
        """The directory as that service asks it, under its own token."""
        token_file = settings.service_token_file(name)
        return cls(settings.hub_api_url, lambda: token_file.read_text().strip(), client, settings.hub_folder)

    async def identify(self, token: str) -> dict[str, Any]:
        """The hub's model of the token's owner: kind, name, scopes."""
        return await self._get("/user", token)

    async def person(self, name: str) -> dict[str, Any]:
        """The hub's model of a person: groups, roles, servers. Needs the service's own `read:users`."""
        # One segment whatever it holds: neither a slash nor dots lead to another route of the hub.
        segment = quote(name, safe="").replace(".", "%2E")
        return await self._get(f"/users/{segment}", self._service_token())

    async def _get(self, path: str, token: str) -> dict[str, Any]:
        key = f"{path} {token}"
        now = time.monotonic()
        if (hit := self._known.get(key)) and now - hit[0] < CACHE_SECONDS:
            return hit[1]
        try:
            answer = await self._client.get(
                self._api_url + path, headers={"Authorization": f"token {token}"}, timeout=10.0
            )
        except httpx.TransportError:
            raise Unavailable("The hub") from None
        if answer.status_code == 404:
            raise UnknownPerson
        if answer.status_code in (401, 403):
            # A hub that cannot write down when a token was used refuses every token.
            raise DiskFull if self._state and disk.is_full(self._state) else NotAuthenticated
        if answer.is_error:
            raise Unavailable("The hub")
        if len(self._known) > 10_000:
            self._known.clear()
        model: dict[str, Any] = answer.json()
        self._known[key] = (now, model)
        return model


class CallerResolver:
    """Resolves hub tokens through the hub and signed tokens offline."""

    def __init__(self, service: str, directory: HubDirectory, verifier: Verifier) -> None:
        self._access = {"access:services", f"access:services!service={service}"}
        self._service = service
        self._directory = directory
        self._verifier = verifier

    async def resolve(self, token: str) -> Caller:
        if looks_signed(token):
            return self._signed(token)
        model = await self._directory.identify(token)
        scopes = frozenset(model.get("scopes", ()))
        if not scopes & self._access:
            raise Forbidden(
                f"This token may not be used with {self._service}.",
                remedy="Use a token made for it, or log in again.",
            )
        if model.get("kind") == "service":
            return Caller(model["name"], "service", frozenset(), scopes, token=token)
        person = await self._directory.person(model["name"])
        return Caller(model["name"], "user", frozenset(person.get("groups", ())), scopes, token=token)

    def _signed(self, token: str) -> Caller:
        try:
            claims = self._verifier.verify(token)
        except InvalidToken:
            raise NotAuthenticated from None
        scopes = frozenset(claims.scopes) - {names.SCOPE_ADMIN}
        return Caller(claims.user, claims.kind, frozenset(claims.groups), scopes, claims.run_id, claims.attempt, token)


def bearer_token(request: Request) -> str:
    """The token of the Authorization header; cookies never authenticate an API call."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() not in ("bearer", "token") or not token.strip():
        raise NotAuthenticated
    return token.strip()


def require(scope: str) -> Callable[[Request], Awaitable[Caller]]:
    """A FastAPI dependency: the caller, who must hold `scope`.

    `caller: Annotated[Caller, Depends(require(names.SCOPE_JOBS))]`
    """

    async def dependency(request: Request) -> Caller:
        resolver: Resolver = request.app.state.resolver
        caller = await resolver.resolve(bearer_token(request))
        if scope not in caller.scopes:
            raise Forbidden(f"This needs the right '{scope}'.", remedy="Ask your admin for it.", scope=scope)
        return caller

    dependency.required_scope = scope  # type: ignore[attr-defined]  # read by the test of the route table
    return dependency


JobsCaller = Annotated[Caller, Depends(require(names.SCOPE_JOBS))]
ClustersCaller = Annotated[Caller, Depends(require(names.SCOPE_CLUSTERS))]
DataCaller = Annotated[Caller, Depends(require(names.SCOPE_DATA))]
TrackingCaller = Annotated[Caller, Depends(require(names.SCOPE_TRACKING))]
UsageCaller = Annotated[Caller, Depends(require(names.SCOPE_USAGE))]
LedgerCaller = Annotated[Caller, Depends(require(names.SCOPE_LEDGER))]
AdminCaller = Annotated[Caller, Depends(require(names.SCOPE_ADMIN))]
