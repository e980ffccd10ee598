"""Browsers' login at core's pages: the hub's OAuth with state and PKCE, and sessions that keep tokens in core.

The browser holds a random name of its session, nothing else. Sessions end after a working day, with core, and as soon
as the hub takes the token back or the admin's right away.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx
from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from labwright.api import names
from labwright.api.errors import Forbidden, NotAuthenticated, Unavailable
from labwright.hub.core.context import Core

SESSION_COOKIE, STATE_COOKIE = "labwright-core-session", "labwright-core-login"
CALLBACK = f"{names.CORE_PREFIX}/oauth_callback"
CLIENT_ID = "service-core"
SESSION_SECONDS, LOGIN_SECONDS = 8 * 3600, 600
# A browser that keeps beginning a login must not fill the memory.
MOST = 1000


@dataclass(frozen=True)
class Session:
    token: str = field(repr=False)
    user: str
    csrf: str
    began: float


@dataclass(frozen=True)
class Attempt:
    verifier: str = field(repr=False)
    began: float


class Logins:
    """The sessions of this process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._attempts: OrderedDict[str, Attempt] = OrderedDict()

    def begin(self) -> Response:
        """Send the browser to the hub."""
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        self._attempts[state] = Attempt(verifier, time.monotonic())
        while len(self._attempts) > MOST:
            self._attempts.popitem(last=False)
        query = {
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        # Relative: the address that the browser knows the hub by.
        answer = RedirectResponse(f"/hub/api/oauth2/authorize?{urlencode(query)}", status_code=302)
        _set_cookie(answer, STATE_COOKIE, state, LOGIN_SECONDS)
        return answer

    async def finish(self, request: Request, code: str, state: str) -> Response:
        """The browser is back: give the code for a token, and begin a session."""
        attempt = self._attempts.pop(state, None)
        bound = hmac.compare_digest(request.cookies.get(STATE_COOKIE, "").encode(), state.encode())
        if attempt is None or not bound or time.monotonic() - attempt.began > LOGIN_SECONDS:
            raise NotAuthenticated("This login was not begun here, or took too long.")
        token = await self._exchange(code, attempt.verifier)
        user = await self._admin(token)
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = Session(token, user, secrets.token_urlsafe(32), time.monotonic())
        while len(self._sessions) > MOST:
            self._sessions.popitem(last=False)
        answer = RedirectResponse(f"{names.CORE_PREFIX}/admin", status_code=302)
        _set_cookie(answer, SESSION_COOKIE, session_id, SESSION_SECONDS)
        answer.delete_cookie(STATE_COOKIE, path=names.CORE_PREFIX)
        return answer

    async def session(self, request: Request) -> Session | None:
        """Whose browser it is, asked of the hub again; None when nobody is logged in."""
        session_id = request.cookies.get(SESSION_COOKIE, "")
        session = self._sessions.get(session_id)
        if session is None or time.monotonic() - session.began > SESSION_SECONDS:
            return None
        try:
            await self._admin(session.token)
        except NotAuthenticated:
            self._sessions.pop(session_id, None)
            return None
        return session

    def end(self, request: Request) -> None:
        self._sessions.pop(request.cookies.get(SESSION_COOKIE, ""), None)

    async def _admin(self, token: str) -> str:
        """The name behind a token that carries the admin's scope for this service."""
        model = await self._core.directory.identify(token)
        scopes = set(model.get("scopes", ()))
        if scopes.isdisjoint({"access:services", "access:services!service=core"}):
            raise NotAuthenticated
        if names.SCOPE_ADMIN not in scopes:
            raise Forbidden("This page is for admins.", remedy="Ask an admin, or log in as one.")
        name: str = model["name"]
        return name

    async def _exchange(self, code: str, verifier: str) -> str:
        core = self._core
        form = {
            "client_id": CLIENT_ID,
            "client_secret": core.settings.service_token_file("core").read_text().strip(),
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": verifier,
        }
        try:
            answer = await core.http.post(f"{core.settings.hub_api_url}/oauth2/token", data=form, timeout=10.0)
        except httpx.TransportError:
            raise Unavailable("The hub") from None
        if answer.is_error:
            raise NotAuthenticated("The hub did not accept this login.")
        token: str = answer.json()["access_token"]
        return token


def check_form(request: Request, session: Session, csrf: str) -> None:
    """Raise unless a form was posted from a page of ours: the session's own word, and no foreign origin."""
    origin = request.headers.get("origin")
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    ours = origin is None or origin.partition("://")[2] == host
    site = request.headers.get("sec-fetch-site", "same-origin")
    if not ours or site not in ("same-origin", "none") or not hmac.compare_digest(csrf.encode(), session.csrf.encode()):
        raise Forbidden("This form was not sent from this page.", remedy="Reload the page and try again.")


def _set_cookie(answer: Response, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(name, value, max_age=seconds, path=names.CORE_PREFIX, httponly=True, samesite="lax")
