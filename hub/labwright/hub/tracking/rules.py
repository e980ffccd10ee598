"""What of MLflow the door lets through, and what it puts right on the way: pure decisions.

Deny by default: only routes listed here are known to be filtered by workspace and to read nothing but what the
workspace holds. Left out on purpose: webhooks, gateway, jobs, assistant and MCP (the server would call out or run
something), traces' writes (a tag tells the server which file to read), presigned and multipart uploads, workspaces
(the door answers for itself).
"""

from __future__ import annotations

import json
import re
from typing import Any

from labwright.api.errors import Forbidden, InvalidRequest, LabwrightError

USER_TAG = "mlflow.user"
# Tags that tell MLflow's server where to read.
_LOCATION_TAGS = frozenset({"mlflow.artifactLocation"})

_API = r"(?:ajax-)?api/2\.0/mlflow/"
_API3 = r"(?:ajax-)?api/3\.0/mlflow/"
_ID = r"[A-Za-z0-9_-]+"
_ARTIFACTS = r"(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts"

_ROUTES: tuple[tuple[str, str], ...] = (
    ("GET", r""),
    ("GET", r"static-files/.+"),
    ("GET", r"health|version"),
    ("GET", _API3 + r"server-info"),
    # Experiments
    ("GET", _API + r"experiments/(?:get|get-by-name|search)"),
    (
        "POST",
        _API + r"experiments/(?:create|update|delete|restore|search|search-datasets|set-experiment-tag"
        r"|delete-experiment-tag)",
    ),
    # Runs
    ("GET", _API + r"runs/get"),
    (
        "POST",
        _API + r"runs/(?:create|update|delete|restore|search|set-tag|delete-tag|log-batch|log-inputs|log-metric"
        r"|log-model|log-parameter|outputs)",
    ),
    ("GET", _API + r"metrics/(?:get-history|get-history-bulk|get-history-bulk-interval)"),
    ("GET", _API + r"artifacts/list"),
    ("GET", r"get-artifact|model-versions/get-artifact"),
    # Logged models
    ("POST", _API + r"logged-models(?:/search)?"),
    ("GET|PATCH|DELETE", _API + rf"logged-models/{_ID}"),
    ("GET", _API + rf"logged-models/{_ID}/artifacts/(?:directories|files)"),
    ("POST", _API + rf"logged-models/{_ID}/params"),
    ("PATCH", _API + rf"logged-models/{_ID}/tags"),
    ("DELETE", _API + rf"logged-models/{_ID}/tags/[^/]+"),
    # Registry
    ("GET", _API + r"registered-models/(?:get|search|get-latest-versions|alias)"),
    ("POST", _API + r"registered-models/(?:create|rename|set-tag|get-latest-versions|alias)"),
    ("PATCH", _API + r"registered-models/update"),
    ("DELETE", _API + r"registered-models/(?:delete|delete-tag|alias)"),
    ("GET", _API + r"model-versions/(?:get|search|get-download-uri)"),
    ("POST", _API + r"model-versions/(?:create|set-tag|transition-stage)"),
    ("PATCH", _API + r"model-versions/update"),
    ("DELETE", _API + r"model-versions/(?:delete|delete-tag)"),
    # Reading traces (there are none to read yet: MLflow's pages ask)
    ("GET", _API + r"traces"),
    ("POST", _API3 + r"traces/(?:search|metrics)"),
    # Artifacts
    ("GET", _ARTIFACTS),
    ("GET|PUT|DELETE", _ARTIFACTS + r"/.+"),
    ("GET|POST", r"graphql"),
)
_ALLOWED = tuple((frozenset(methods.split("|")), re.compile(pattern)) for methods, pattern in _ROUTES)
_STREAMED = re.compile(_ARTIFACTS + r"/.+")


class UnknownRoute(LabwrightError):
    """Not a part of MLflow that Labwright offers."""

    code, status = "not-found", 404

    def __init__(self) -> None:
        super().__init__(
            "Labwright does not offer this part of MLflow.",
            remedy="Experiments, runs, models and their artifacts are there.",
            # What MLflow's client looks for, with `message`.
            error_code="ENDPOINT_NOT_FOUND",
        )
        self.details["message"] = str(self)


def check_route(method: str, path: str) -> None:
    """Raise unless `path` (decoded, below MLflow's prefix, no leading slash) is one that may be asked for."""
    segments = path.split("/")
    # A segment that means "here" or "up" must not be given to another parser.
    if any(segment in (".", "..") for segment in segments) or "\\" in path or "\0" in path or "//" in path:
        raise UnknownRoute
    asked = "GET" if method == "HEAD" else method
    if not any(asked in methods and pattern.fullmatch(path) for methods, pattern in _ALLOWED):
        raise UnknownRoute


def is_artifact(path: str) -> bool:
    """Whether a body goes through as it is (a file) instead of being read as JSON."""
    return _STREAMED.fullmatch(path) is not None


def upstream_path(path: str, prefix: str) -> str:
    """Where MLflow has it. Artifacts: its native route, which streams; that one stands without the prefix."""
    return f"/{path}" if is_artifact(path) else f"{prefix}/{path}"


def rewrite(path: str, body: bytes, user: str) -> bytes:
    """The JSON that goes on: `mlflow.user` is the caller whatever the client says, sources stay inside."""
    if not body.strip():
        content: Any = {}
    else:
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is not JSON.", remedy="Send a JSON object.") from None
    if not isinstance(content, dict):
        raise InvalidRequest("The body is not a JSON object.", remedy="Send a JSON object.")
    try:
        content = _put_right(content, user)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", remedy="Send a flat JSON object.") from None
    if path.endswith("runs/create"):
        content.pop("userId", None)
        content["user_id"] = user
        tags = [tag for tag in content.get("tags") or [] if tag.get("key") != USER_TAG]
        content["tags"] = [*tags, {"key": USER_TAG, "value": user}]
    elif path.endswith(("runs/set-tag", "runs/delete-tag")) and content.get("key") == USER_TAG:
        raise UserTagIsKept
    elif path.endswith("runs/log-batch"):
        content["tags"] = [tag for tag in content.get("tags") or [] if tag.get("key") != USER_TAG]
    elif path.endswith("model-versions/create"):
        _check_source(content.get("source"))
    return json.dumps(content).encode()


class UserTagIsKept(Exception):
    """Setting `mlflow.user` of a run that exists: it was set when the run began, so there is nothing to do."""


def _put_right(value: Any, user: str) -> Any:
    """The same with every `mlflow.user` being the caller, as a tag or as a key."""
    if isinstance(value, list):
        return [_put_right(item, user) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("key") in _LOCATION_TAGS or not _LOCATION_TAGS.isdisjoint(value):
        raise Forbidden("Where artifacts are is not for a client to say.", remedy="Leave the tag out.")
    changed = {key: user if key == USER_TAG else _put_right(item, user) for key, item in value.items()}
    if changed.get("key") == USER_TAG and "value" in changed:
        changed["value"] = user
    return changed


def _check_source(source: Any) -> None:
    """A model version is made of what was logged here: MLflow would fetch any other address by itself."""
    if not isinstance(source, str) or not re.match(r"(?:mlflow-artifacts:/(?!/)|runs:/(?!/)|models:/(?!/))", source):
        error = InvalidRequest(
            "A model version is registered from a model that was logged here.",
            remedy="Log the model with a run first, then register it: %register NAME.",
            error_code="INVALID_PARAMETER_VALUE",
        )
        error.details["message"] = error.sentence()
        raise error


# What an admin wants to find in the audit trail: what appears, vanishes or is put into service.
AUDITED = re.compile(
    _API + r"(experiments/(?:create|delete|restore)|runs/delete|registered-models/(?:create|rename|delete|alias)"
    r"|model-versions/(?:create|delete|transition-stage))"
)


def audited_action(method: str, path: str) -> str | None:
    """The action's name in the audit trail, such as 'model-versions.create'; None for what is not kept."""
    found = AUDITED.fullmatch(path)
    if found is None or method == "GET":
        return None
    action = found[1].replace("/", ".")
    return f"{action}-delete" if action.endswith(".alias") and method == "DELETE" else action


_QUIET = ("search", "search-datasets", "get-latest-versions")


def changed_topic(method: str, path: str) -> str | None:
    """What a successful request changed, as a topic of the event stream."""
    if method == "GET" or path.endswith(_QUIET) or is_artifact(path):
        return None
    if "/registered-models/" in path or "/model-versions/" in path:
        return "model"
    if any(part in path for part in ("/experiments/", "/runs/", "/logged-models")):
        return "experiment"
    return None
