"""What one person sees of profiles, quota and what runs: put together from the ledger and the workbench file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from labwright.api.usage import Ask, Me, ProfileCard, Quota
from labwright.hub.usage.ledger import SqlLedger
from labwright.hub.usage.limits import account_of
from labwright.spawner.profiles import Profile, Workbench, billed_group

EVERYONE = "everyone"


def may_use(profile: Profile, groups: Iterable[str]) -> bool:
    return EVERYONE in profile.groups or not set(profile.groups).isdisjoint(groups)


def ask_of(profile: Profile) -> Ask:
    """What a server of this profile reserves."""
    return Ask(
        cpu=profile.cpu,
        memory_bytes=profile.memory_bytes,
        gpu=profile.gpu_count,
        price_per_hour=profile.price_per_hour,
    )


def profile_cards(
    ledger: SqlLedger,
    connection: sa.Connection,
    workbench: Workbench,
    *,
    user: str,
    groups: Iterable[str],
    now: datetime,
) -> list[ProfileCard]:
    """The profiles that the person may choose, each with whether a server of it would fit into his quota now."""
    groups = frozenset(groups)
    cards = []
    for profile in workbench.profiles:
        if not may_use(profile, groups):
            continue
        group = billed_group(profile, groups, workbench)
        refused = ledger.refusal(connection, account_of(user, group), ask_of(profile), now=now)
        cards.append(
            ProfileCard(
                slug=profile.slug,
                name=profile.name,
                description=profile.description,
                cpu=profile.cpu,
                memory_bytes=profile.memory_bytes,
                gpu=dict(profile.gpu),
                image=profile.image,
                price_per_hour=profile.price_per_hour,
                options={name: list(values) for name, values in profile.options.items()},
                group=group,
                available=refused is None,
                reason=refused.sentence() if refused else None,
            )
        )
    return cards


def quotas_of(
    ledger: SqlLedger,
    connection: sa.Connection,
    workbench: Workbench,
    *,
    user: str,
    groups: Iterable[str],
    now: datetime,
) -> list[Quota]:
    """The person's own account first, then those of his groups that have a quota."""
    billed = sorted(rule.group for rule in workbench.quotas if rule.group and rule.group in set(groups))
    accounts = [account_of(user, None), *(account_of(user, group) for group in billed)]
    return [ledger.quota(connection, account, now=now) for account in accounts]


def me(
    ledger: SqlLedger,
    connection: sa.Connection,
    workbench: Workbench,
    *,
    user: str,
    groups: Iterable[str],
    admin: bool,
    now: datetime,
) -> Me:
    groups = sorted(groups)
    return Me(
        name=user,
        groups=groups,
        admin=admin,
        currency=workbench.currency,
        quotas=quotas_of(ledger, connection, workbench, user=user, groups=groups, now=now),
        profiles=profile_cards(ledger, connection, workbench, user=user, groups=groups, now=now),
        running=ledger.live(connection, now=now, user=user),
    )
