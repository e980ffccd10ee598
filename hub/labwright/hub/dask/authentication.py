"""Who may use the gateway: whoever may use clusters through core, by the same tokens and the same rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from aiohttp import web
from dask_gateway_server.auth import Authenticator, unauthorized
from dask_gateway_server.models import User

from labwright.api import names
from labwright.api.errors import LabwrightError, NotAuthenticated
from labwright.hub.callers import Caller, Resolver

# Whose request is being answered; the backend asks core on this caller's behalf.
current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TokenAuthenticator(Authenticator):  # type: ignore[misc]  # dask-gateway has no types
    """Bearer tokens of the hub and of core, checked at every request.

    dask-gateway's own cookie is not used: it would outlive a revoked token by minutes.
    """

    async def authenticate_and_handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = await self.caller_of(request)
        request["user"] = User(caller.name, groups=caller.groups)
        known = current_caller.set(caller)
        try:
            return await handler(request)
        finally:
            current_caller.reset(known)

    async def caller_of(self, request: web.Request) -> Caller:
        token = bearer(request)
        if not token:
            raise unauthorized("Bearer")
        try:
            caller = await self.resolver.resolve(token)
        except NotAuthenticated:
            raise unauthorized("Bearer") from None
        except LabwrightError as error:
            raise refusal(error) from None
        if names.SCOPE_CLUSTERS not in caller.scopes:
            raise web.HTTPForbidden(reason="This token may not use clusters.")
        return caller

    @property
    def resolver(self) -> Resolver:
        resolver: Resolver = self.parent.context.resolver
        return resolver


def bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() in ("bearer", "jupyterhub", "token") else ""


def refusal(error: LabwrightError) -> web.HTTPException:
    """An aiohttp error with one of our sentences as its reason."""
    kinds: dict[int, Any] = {403: web.HTTPForbidden, 404: web.HTTPNotFound, 409: web.HTTPConflict}
    kind = kinds.get(error.status, web.HTTPServiceUnavailable)
    failure: web.HTTPException = kind(reason=error.sentence().replace("\n", " "))
    return failure
