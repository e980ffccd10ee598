"""What owners may do at this moment: groups looked up anew, profiles by group."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from labwright.api.errors import AccessDenied, InvalidRequest, NotAuthenticated, Unavailable
from labwright.hub.callers import UnknownPerson
from labwright.hub.core.context import Core
from labwright.spawner.profiles import Profile, Workbench

log = logging.getLogger("labwright.jobs")
EVERYONE = "everyone"


class OwnerGone(Exception):
    """The hub no longer knows the person."""


async def current_groups(core: Core, owner: str, last_known: Sequence[str]) -> list[str]:
    """The person's groups now, or as last known while the hub is down; `OwnerGone` when he has left."""
    try:
        person = await core.directory.person(owner)
    except UnknownPerson:
        raise OwnerGone(owner) from None
    except (Unavailable, NotAuthenticated, OSError):
        log.warning("the hub does not answer; the groups of %s are as last known", owner)
        return list(last_known)
    return sorted(str(group) for group in person.get("groups", ()))


def choose_profile(workbench: Workbench, slug: str, groups: Collection[str]) -> Profile:
    """The profile of that slug, if somebody in these groups may use it."""
    offered = [profile for profile in workbench.profiles if entitled(profile, groups)]
    for profile in offered:
        if profile.slug == slug:
            return profile
    raise InvalidRequest(
        f"There is no profile '{slug[:100]}' for you.",
        remedy=f"Choose one of: {', '.join(profile.slug for profile in offered) or 'none'}.",
        profile=slug[:100],
    )


def entitled(profile: Profile, groups: Collection[str]) -> bool:
    return EVERYONE in profile.groups or not set(groups).isdisjoint(profile.groups)


def check_group(group: str | None, groups: Collection[str]) -> None:
    """Only one's own groups can be billed."""
    if group is not None and group not in groups:
        raise AccessDenied(f"You are not in the group '{group[:100]}'.", remedy="Bill a group that you are in.")
