"""When a schedule fires (pure). Five cron fields in a zone; firings are instants in UTC, strictly growing.

A fixed local time fires once a day also when clocks go back; one that does not exist that day fires at the next
instant that does. Schedules of the kind "every n minutes" follow elapsed time, as Debian's cron does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

from labwright.api.errors import BadSchedule
from labwright.api.jobs import Schedule

FIELDS = "minute hour day month weekday"
MAX_CATCH_UP = 1000  # slots looked at after a downtime; older ones are gone


@cache
def zone(name: str) -> ZoneInfo:
    """The IANA zone, or `BadSchedule`."""
    if name not in available_timezones():
        raise BadSchedule(f"There is no time zone '{name[:100]}'.", remedy="Use an IANA name such as Europe/Berlin.")
    return ZoneInfo(name)


def firings(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Every firing strictly after `after`, in UTC. `BadSchedule` at the first step when it can never fire."""
    fields = schedule.cron.split()
    if len(fields) != 5 or len(schedule.cron) > 200:
        raise BadSchedule(
            f"A schedule has five fields ({FIELDS}), '{schedule.cron[:100]}' has {len(fields)}.",
            remedy="For example '0 6 * * *': every day at 06:00.",
        )
    try:
        local = CronSim(schedule.cron, after.astimezone(zone(schedule.timezone)))
    except (CronSimError, IndexError, ValueError) as error:
        raise BadSchedule(
            f"The schedule '{schedule.cron[:100]}' is not possible: {str(error) or 'it cannot be read'}.",
            remedy=f"The fields are {FIELDS}; for example '0 6 * * *': every day at 06:00.",
        ) from None
    return _growing(local, after)


def _growing(local: Iterator[datetime], after: datetime) -> Iterator[datetime]:
    # Two local times in a gap meet at its end, and the hour that comes twice is walked from its first pass: so
    # instants are compared, not local times.
    last = after
    try:
        for firing in local:
            instant = firing.astimezone(UTC)
            if instant > last:
                last = instant
                yield instant
    except OverflowError:  # the year 9999
        return


def next_firings(schedule: Schedule, after: datetime, count: int = 3) -> list[datetime]:
    """The next `count` firings; `BadSchedule` when there is none."""
    found = []
    for firing in firings(schedule, after):
        found.append(firing)
        if len(found) == count:
            break
    if not found:
        raise BadSchedule(f"The schedule '{schedule.cron}' never fires.", remedy="Choose days that exist.")
    return found


def due(schedule: Schedule, first: datetime, now: datetime) -> tuple[list[datetime], datetime]:
    """The slots from `first` (itself a slot) to `now`, the last `MAX_CATCH_UP` of them, and the next one after."""
    slots = [first]
    for firing in firings(schedule, max(first, now - timedelta(days=366))):
        if firing > now:
            return slots[-MAX_CATCH_UP:], firing
        slots.append(firing)
        if len(slots) > 2 * MAX_CATCH_UP:
            del slots[:MAX_CATCH_UP]
    raise BadSchedule(f"The schedule '{schedule.cron}' never fires again.")


def sentence(schedule: Schedule) -> str:
    """The schedule in words, for people: 'Every day at 06:00 (Europe/Berlin)'."""
    minute, hour, day, month, weekday = schedule.cron.split()
    plain = re.fullmatch(r"\d{1,2} \d{1,2}", f"{minute} {hour}")
    if plain and day == month == "*":
        at = f"at {int(hour):02d}:{int(minute):02d}"
        days = {"*": "Every day", "1-5": "Every weekday", "MON-FRI": "Every weekday"}
        if (word := days.get(weekday.upper())) is not None:
            return f"{word} {at} ({schedule.timezone})"
    if schedule.cron == "* * * * *":
        return f"Every minute ({schedule.timezone})"
    words = Expression(["0", *schedule.cron.upper().split()]).explain()
    return f"{words} ({schedule.timezone})"
