"""Whether something fits a quota: one pure decision, for servers, runs and clusters alike."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Resources:
    """Amounts that are asked for, in use, or (`Limit`) allowed."""

    servers: int = 0
    runs: int = 0
    clusters: int = 0
    cpu: float = 0.0
    memory_bytes: int = 0
    gpu: int = 0
    budget: float = 0.0


@dataclass(frozen=True)
class Limit:
    """The most of each; None means no limit. The names are those of `Resources`."""

    servers: int | None = None
    runs: int | None = None
    clusters: int | None = None
    cpu: float | None = None
    memory_bytes: int | None = None
    gpu: int | None = None
    budget: float | None = None


@dataclass(frozen=True)
class Admission:
    """Whether it fits; if not, the first resource that ran out, what was asked of it and what is left."""

    admitted: bool
    resource: str | None = None
    asked: float = 0.0
    left: float = 0.0


def admit(ask: Resources, used: Resources, limit: Limit) -> Admission:
    """Say whether `ask` fits, and if not, which resource ran out first.

    Only what is asked for can run out: a server is not refused for a full number of clusters. A budget that is
    spent refuses everything, since work costs before its price is known.
    """
    for field in fields(Resources):
        most = getattr(limit, field.name)
        if most is None:
            continue
        asked, taken = getattr(ask, field.name), getattr(used, field.name)
        left = max(0.0, most - taken)
        spent = field.name == "budget" and left <= 0
        # 0.1 + 0.2 must fit into 0.3.
        if spent or asked > left + 1e-9:
            return Admission(False, field.name, asked, left)
    return Admission(True)
