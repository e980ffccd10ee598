"""What every handler of the server extension shares: who may ask, and errors as problem+json."""

from __future__ import annotations

import json
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado import web

from labwright.api.errors import PROBLEM_TYPE, Forbidden, InternalError, LabwrightError
from labwright.extensions.paths import DATA_POLICY
from labwright.extensions.services import Services

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class LabwrightHandler(JupyterHandler):
    """Authenticates and authorises before a byte of the body is read; answers errors as problem+json."""

    auth_resource = "labwright"

    def initialize(self, services: Services, part: str = "") -> None:
        self.services = services
        self.part = part

    async def prepare(self) -> None:  # type: ignore[override]
        await ensure_async(super().prepare(_redirect_to_login=False))  # type: ignore[arg-type]
        if self.current_user is None:  # Jupyter's default leaves this to each handler
            raise web.HTTPError(403)
        if self.request.method in SAFE_METHODS:
            self.check_same_site()
        action = "read" if self.request.method in SAFE_METHODS else "write"
        allowed = await ensure_async(self.authorizer.is_authorized(self, self.current_user, action, self.auth_resource))
        if not allowed:
            raise web.HTTPError(403)

    def check_same_site(self) -> None:
        """Refuse reading from other sites; following a link to here is fine."""
        site = self.request.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin") and self.request.headers.get("Sec-Fetch-Mode") != "navigate":
            raise web.HTTPError(403)

    @property
    def content_security_policy(self) -> str:
        return DATA_POLICY

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.set_header("Content-Type", PROBLEM_TYPE)
        self.finish(json.dumps(problem(error, status_code)))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, LabwrightError):
            return
        super().log_exception(typ, value, tb)

    async def execute(self, work: Any) -> None:
        """Run a handler's body; an error of our tree becomes its problem."""
        try:
            await work
        except LabwrightError as error:
            self.set_status(error.status)
            self.write_error(error.status, exc_info=(type(error), error, None))


def problem(error: BaseException | None, status: int) -> dict[str, Any]:
    if isinstance(error, LabwrightError):
        return error.problem()
    if status == 403:
        refused = Forbidden("Your server refused this request.", remedy="Reload the page; log in again if asked to.")
        return refused.problem()
    if status < 500:
        return {**LabwrightError(f"The request failed ({status}).").problem(), "status": status}
    return InternalError("in your server's log").problem()
