"""Whose experiments and models a request reaches: one MLflow workspace per person and per group.

MLflow's workspace-aware stores filter every query, name and artifact path by the workspace of the request, which the
door alone sets. A person's own workspace is nobody else's; a group's is shared by its members. Names of experiments
and models are free in each, so two people may both have 'late-flights'.
"""

from __future__ import annotations

import hashlib
import re

from labwright.api.errors import NotFound
from labwright.hub.callers import Caller

HEADER = "X-MLFLOW-WORKSPACE"
# MLflow's own rule: lower case, digits and inner hyphens, at most 63.
_PLAIN = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")


def workspace_name(kind: str, name: str) -> str:
    """`user-alice`, `group-research`; other names get a digest, under prefixes that no plain name can have."""
    if _PLAIN.fullmatch(name):
        return f"{kind}-{name}"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].strip("-")
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return "-".join(part for part in (f"x{kind}", slug, digest) if part)


def own_workspace(caller: Caller) -> str:
    return workspace_name("user", caller.name)


def workspaces_of(caller: Caller) -> dict[str, str]:
    """The workspaces that the caller may use, with what people call them; his own first."""
    own = {own_workspace(caller): caller.name}
    return own | {workspace_name("group", group): group for group in sorted(caller.groups)}


def choose_workspace(caller: Caller, asked: str | None) -> str:
    """The caller's own, or the one asked for (by its name or a group's): what he is no member of does not exist."""
    asked = (asked or "").strip()
    if not asked:
        return own_workspace(caller)
    if asked in workspaces_of(caller):
        return asked
    if asked in caller.groups:
        return workspace_name("group", asked)
    raise NotFound("workspace", asked)
