"""Profiles, quota, usage and audit on the wire. Money is in the workbench's currency, memory in bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from labwright.api.jobs import Wire
from labwright.api.names import MOST_WHOLE

ReservationKind = Literal["server", "run", "cluster"]


class ProfileCard(Wire):
    slug: str
    name: str
    description: str = ""
    cpu: float
    memory_bytes: int
    gpu: dict[str, int] = Field(default_factory=dict)
    image: str
    price_per_hour: float
    options: dict[str, list[str]] = Field(default_factory=dict)
    group: str | None = Field(default=None, description="Your group that pays for it; you when absent.")
    available: bool
    reason: str | None = Field(default=None, description="Why it cannot be started now, and what would fit.")


class Ask(Wire):
    """What a server, run or cluster takes while it lives: totals, not amounts per piece.

    `count` is what it counts as in servers, runs or clusters: 0 for a part of something counted already.
    """

    cpu: float = Field(ge=0)
    memory_bytes: int = Field(ge=0, le=MOST_WHOLE)
    gpu: int = Field(default=0, ge=0, le=100_000)
    count: int = Field(default=1, ge=0, le=100_000)
    price_per_hour: float = Field(default=0.0, ge=0)


class ReservationRequest(Wire):
    user: str
    group: str | None = None
    kind: ReservationKind
    key: str = Field(max_length=200, description="Names the thing: asking twice for one key reserves once.")
    ask: Ask
    ttl_seconds: int = Field(default=300, ge=1, le=86400)
    profile: str | None = None


class ReservationKey(Wire):
    key: str = Field(max_length=200)


class Renewal(Wire):
    key: str = Field(max_length=200)
    ttl_seconds: int = Field(default=300, ge=1, le=86400)


def server_key(user: str, server: str = "") -> str:
    """The key under which a person's server is reserved; `server` is empty for the default one."""
    return f"server:{user}/{server}"


class Reservation(Wire):
    id: str
    user: str
    account: str = Field(description="Who is billed: 'user:alice' or 'group:research'.")
    kind: ReservationKind
    key: str
    ask: Ask
    profile: str | None
    created: datetime
    expires: datetime
    released: datetime | None = None
    cost: float


class QuotaLine(Wire):
    resource: str = Field(examples=["servers", "cpu", "gpu", "memory_bytes", "runs", "clusters", "budget"])
    used: float
    limit: float | None = Field(description="None: no limit.")
    left: float | None


class BudgetNotice(Wire):
    """That a budget nears its end or is spent. Account, threshold and `since` name it: each is worth telling once."""

    account: str
    threshold: Literal[80, 100] = Field(description="The percentage that was reached.")
    percent: int = Field(description="How much is spent, in whole percent.")
    since: datetime = Field(description="When the budget's day, week or month began.")
    until: datetime = Field(description="When the budget begins anew.")
    message: str
    remedy: str


class Quota(Wire):
    account: str
    lines: list[QuotaLine]
    notice: BudgetNotice | None = Field(default=None, description="From 80 % of the account's budget on.")


class Me(Wire):
    name: str
    groups: list[str]
    admin: bool
    currency: str
    quotas: list[Quota]
    profiles: list[ProfileCard]
    running: list[Reservation]


class UsageRow(Wire):
    user: str
    account: str
    kind: ReservationKind
    profile: str | None
    hours: float
    cpu_hours: float
    gpu_hours: float
    cost: float


class UsageReport(Wire):
    since: datetime
    until: datetime
    currency: str
    rows: list[UsageRow]
    running: list[Reservation]


class AuditRow(Wire):
    service: str
    sequence: int
    time: datetime
    who: str
    action: str = Field(examples=["job.create", "query", "cluster.start"])
    what: str
    details: dict[str, Any]
    digest: str = Field(description="SHA-256 over the previous row's digest and this row.")


class AuditPage(Wire):
    items: list[AuditRow]
    intact: bool = Field(description="Whether the hash chain holds over the whole trail.")
    next: int | None = None
