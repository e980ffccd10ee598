"""What the admin declares in config/workbench.yaml, as plain values; and the choice of a profile, recomputed here.

Nothing that a browser sends is believed but a slug and declared options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Toleration:
    key: str
    operator: str = "Exists"
    value: str | None = None
    effect: str | None = None


@dataclass(frozen=True)
class Profile:
    """A size of server, run or cluster worker. `gpu` maps a resource name to a count."""

    slug: str
    name: str
    cpu: float
    memory_bytes: int
    image: str
    price_per_hour: float
    description: str = ""
    gpu: Mapping[str, int] = field(default_factory=dict)
    groups: tuple[str, ...] = ("everyone",)
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # option name -> allowed values, first default
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    @property
    def gpu_count(self) -> int:
        return sum(self.gpu.values())


@dataclass(frozen=True)
class Budget:
    amount: float
    per: str = "month"


@dataclass(frozen=True)
class QuotaRule:
    """Limits of one account: a group, one user, or (`user='default'`) every user without a rule of his own."""

    group: str | None = None
    user: str | None = None
    servers: int | None = None
    runs: int | None = None
    clusters: int | None = None
    cpu: float | None = None
    memory_bytes: int | None = None
    gpu: int | None = None
    budget: Budget | None = None


@dataclass(frozen=True)
class Idle:
    server_seconds: int = 3600
    gpu_seconds: int = 1200
    cluster_seconds: int = 1800


@dataclass(frozen=True)
class DeclaredConnection:
    """A connection that stands in the file; `secret` is a reference (file:/path, env:NAME), never the secret."""

    name: str
    driver: str
    options: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = None
    description: str = ""


@dataclass(frozen=True)
class DeclaredGrant:
    group: str
    connection: str
    schemas: tuple[str, ...] = ("*",)
    tables: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class Workbench:
    """The whole file."""

    profiles: tuple[Profile, ...]
    quotas: tuple[QuotaRule, ...] = ()
    idle: Idle = Idle()
    currency: str = "EUR"
    images: Mapping[str, str] = field(default_factory=dict)  # short name -> full reference, for Kubernetes
    connections: tuple[DeclaredConnection, ...] = ()
    grants: tuple[DeclaredGrant, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # group -> roles: developer, ai-admin, cloud-admin

    def profile(self, slug: str) -> Profile | None:
        return next((profile for profile in self.profiles if profile.slug == slug), None)
