"""What the admin declares in config/workbench.yaml, as plain values; and the choice of a profile, recomputed here.

Nothing that a browser sends is believed but a slug and declared options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labwright.api.errors import InvalidRequest

EVERYONE = "everyone"  # the group that everybody is in


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
    """A connection that stands in the file; `secret` is a reference (file:/path), never the secret."""

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

    def visible_gpus(self, count: int) -> int | None:
        """How many GPUs a process with `count` of them sees: all (None) where no profile asks for any."""
        return count if any(profile.gpu_count for profile in self.profiles) else None


@dataclass(frozen=True)
class Choice:
    """A profile and its options as this person may have them; made by `choose` alone."""

    profile: Profile
    options: Mapping[str, str]


def profiles_for(groups: Iterable[str], profiles: Iterable[Profile]) -> list[Profile]:
    """The profiles that a member of these groups may use, in the file's order."""
    member = {EVERYONE, *groups}
    return [profile for profile in profiles if member & set(profile.groups)]


def billed_group(profile: Profile, groups: Iterable[str], workbench: Workbench) -> str | None:
    """The group of somebody in `groups` that pays for what he starts with this profile; None: he does himself."""
    mine, paying = set(groups), {rule.group for rule in workbench.quotas if rule.group}
    return next((name for name in profile.groups if name in mine & paying), None)


def choose(user_options: Mapping[str, Any], profiles: Iterable[Profile], groups: Iterable[str]) -> Choice:
    """The profile that was asked for, looked up here; `InvalidRequest` for anything that is not declared.

    A profile of other groups does not exist for this person. Without a slug it is the first one allowed.
    """
    allowed = profiles_for(groups, profiles)
    if not allowed:
        raise InvalidRequest("There is no profile that you may use.", remedy="Ask your admin for one.")
    unknown = sorted(set(user_options) - {"profile", "options"})
    if unknown:
        raise InvalidRequest(f"'{unknown[0]}' cannot be chosen.", remedy="Choose a profile and its options only.")
    slug = user_options.get("profile", allowed[0].slug)
    profile = next((profile for profile in allowed if profile.slug == slug), None)
    if profile is None:
        known = ", ".join(profile.slug for profile in allowed)
        raise InvalidRequest(f"There is no profile '{slug}'.", remedy=f"Choose one of: {known}.")
    given = user_options.get("options") or {}
    if not isinstance(given, Mapping):
        raise InvalidRequest("The options of a profile are names with values.", remedy="Choose them on the form.")
    return Choice(profile, _choose_options(given, profile))


def _choose_options(given: Mapping[Any, Any], profile: Profile) -> dict[str, str]:
    for name, value in given.items():
        if name not in profile.options:
            known = ", ".join(profile.options) or "none"
            raise InvalidRequest(f"{profile.name} has no option '{name}'.", remedy=f"It has: {known}.")
        if value not in profile.options[name]:
            known = ", ".join(profile.options[name])
            raise InvalidRequest(f"'{value}' is no {name} of {profile.name}.", remedy=f"Choose one of: {known}.")
    return {name: str(given.get(name, values[0])) for name, values in profile.options.items()}
