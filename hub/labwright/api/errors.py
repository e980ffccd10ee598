"""Every error a user can meet, in one tree.

    LabwrightError
    ├── InvalidRequest (422)
    │   ├── UnknownParameter      a parameter that the notebook does not declare
    │   ├── BadParameter          a value of the wrong type
    │   ├── BadSchedule           a cron or zone that cannot fire
    │   ├── BadNotebook           not a notebook that can be run
    │   └── BadQuery              SQL that the source or the grants cannot take
    ├── NotAuthenticated (401)
    ├── Forbidden (403)
    │   └── AccessDenied          the grants refuse; says whom to ask
    ├── NotFound (404)            does not exist, or is not yours: the two are not told apart
    ├── Conflict (409)
    │   └── QuotaExceeded         says which limit, and what is left
    ├── TooLarge (413)
    ├── Unavailable (503)         a part is starting or down; says which, retry helps
    ├── DiskFull (507)            nothing can be stored
    └── InternalError (500)       an id to quote, nothing else

Each carries a stable `code`, data for machines (`details`), a sentence on what happened (`str(error)`) and a
sentence on what to do next (`remedy`). On the wire they are application/problem+json (RFC 9457).
"""

from __future__ import annotations

from typing import Any, ClassVar

PROBLEM_TYPE = "application/problem+json"


class LabwrightError(Exception):
    """A failure that a user can understand and act on."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, remedy: str = "", **details: Any) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.details = details

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 object: type, title, status, detail, code, remedy and the error's own data."""
        return {
            "type": f"urn:labwright:error:{self.code}",
            "title": self.code.replace("-", " "),
            "status": self.status,
            "code": self.code,
            "detail": str(self),
            "remedy": self.remedy,
            **self.details,
        }

    def sentence(self) -> str:
        """What happened and what to do, for a terminal or a cell."""
        return f"{self} {self.remedy}".strip()


class InvalidRequest(LabwrightError):
    code, status = "invalid-request", 422


class UnknownParameter(InvalidRequest):
    code = "unknown-parameter"

    def __init__(self, name: str, declared: list[str]) -> None:
        known = ", ".join(declared) or "none"
        super().__init__(
            f"The notebook has no parameter '{name}'.",
            remedy=f"It declares: {known}.",
            parameter=name,
            declared=declared,
        )


class BadParameter(InvalidRequest):
    code = "bad-parameter"


class BadSchedule(InvalidRequest):
    code = "bad-schedule"


class BadNotebook(InvalidRequest):
    code = "bad-notebook"


class BadQuery(InvalidRequest):
    code = "bad-query"


class NotAuthenticated(LabwrightError):
    code, status = "not-authenticated", 401

    def __init__(self, message: str = "No valid token came with the request.", **details: Any) -> None:
        super().__init__(message, remedy="Log in again, or restart your server to renew its token.", **details)


class Forbidden(LabwrightError):
    code, status = "forbidden", 403


class AccessDenied(Forbidden):
    code = "access-denied"


class NotFound(LabwrightError):
    code, status = "not-found", 404

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"There is no {what} '{name}'.", remedy="List yours to see their names.", what=what)


class Conflict(LabwrightError):
    code, status = "conflict", 409


class QuotaExceeded(Conflict):
    code = "quota-exceeded"

    def __init__(self, resource: str, asked: float, left: float, account: str, *, remedy: str = "") -> None:
        super().__init__(
            describe_shortage(resource, asked, left, account),
            remedy=remedy or "Stop something you no longer need, choose a smaller profile, or ask your admin.",
            resource=resource,
            asked=asked,
            left=left,
            account=account,
        )


def describe_account(account: str) -> str:
    """'the group research', or a person's name."""
    kind, _, name = account.partition(":")
    return f"the group {name}" if kind == "group" else name


def describe_shortage(resource: str, asked: float, left: float, account: str) -> str:
    """'The quota of the group research has 32 GB of memory left, and this needs 64 GB.', or of the machine."""
    who = describe_account(account)
    if resource == "budget":
        return f"The budget of {who} is spent."
    if resource == "memory_bytes":
        needs, has = f"{asked / 2**30:.4g} GB", f"{left / 2**30:.4g} GB of memory"
    else:
        word = {"cpu": "CPU", "gpu": "GPU"}.get(resource, resource)
        needs, has = f"{asked:g}", f"{left:g} {word}" if left else f"no {word}"
    if account == "machine":
        return f"This machine has {has} free, and this needs {needs}."
    return f"The quota of {who} has {has} left, and this needs {needs}."


class TooLarge(LabwrightError):
    code, status = "too-large", 413


class Unavailable(LabwrightError):
    code, status = "unavailable", 503

    def __init__(self, part: str, *, remedy: str = "It restarts by itself; try again in a few seconds.") -> None:
        super().__init__(f"{part} cannot be reached right now.", remedy=remedy, part=part)


class StaleAttempt(Conflict):
    """The attempt is over: somebody else has the run now, or it has ended."""

    code = "stale-attempt"

    def __init__(self) -> None:
        super().__init__("This attempt of the run is over.", remedy="Drop it; nothing that it says is kept.")


class DiskFull(LabwrightError):
    code, status = "disk-full", 507

    def __init__(self) -> None:
        super().__init__(
            "The workbench's disk is full, so nothing can be stored.",
            remedy="Remove files that you no longer need, or ask your admin to. What was stored before is kept.",
        )


class InternalError(LabwrightError):
    code, status = "internal-error", 500

    def __init__(self, error_id: str) -> None:
        super().__init__(
            f"Something broke on our side (error {error_id}).",
            remedy="Tell your admin this id; the service's log has the rest.",
            error_id=error_id,
        )


def _tree(root: type[LabwrightError]) -> dict[str, type[LabwrightError]]:
    """Code -> class; a subclass that keeps its parent's code does not stand in for it."""
    found = {root.code: root}
    for child in root.__subclasses__():
        found = _tree(child) | found
    return found


class ProblemResponse(LabwrightError):
    """An error as it came back from a service, with the code, status and data it had there."""

    def __init__(self, body: dict[str, Any], status: int) -> None:
        super().__init__(str(body.get("detail") or "The request failed."), remedy=str(body.get("remedy") or ""))
        known = {"type", "title", "status", "code", "detail", "remedy"}
        self.details = {key: value for key, value in body.items() if key not in known}
        self.code = str(body.get("code") or "error")  # type: ignore[misc]
        self.status = status  # type: ignore[misc]


def from_problem(body: dict[str, Any], status: int) -> LabwrightError:
    """The error of our tree that a problem+json body describes, catchable by its class."""
    kind = _tree(LabwrightError).get(str(body.get("code")))
    if kind is None:
        return ProblemResponse(body, status)
    error = kind.__new__(kind)
    LabwrightError.__init__(error, str(body.get("detail", "")), remedy=str(body.get("remedy", "")))
    known = {"type", "title", "status", "code", "detail", "remedy"}
    error.details = {key: value for key, value in body.items() if key not in known}
    return error
