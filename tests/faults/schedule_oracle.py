"""Firings of fixed local times against an oracle that knows nothing of cron, in every zone, around every change.

    python tests/faults/schedule_oracle.py                # every second minute of the day: over a million triples
    python tests/faults/schedule_oracle.py --step 1

A triple is a zone, an instant (each change of the offset in ten years, and twenty random days), and a time of day. For
each, the firings from 36 hours before to 36 hours after must be the oracle's: one a day, at the first instant that
shows the time, or at the change when none does. Zones with the same offsets in these years count once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from labwright.api.jobs import Schedule
from labwright.hub.jobs.schedule import firings

DAY, HOUR = 86400, 3600
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2026, 2036))
AROUND, RANDOM_DAYS = 36 * HOUR, 20

# From an instant on (seconds since 1970), the offset in seconds.
Rule = tuple[tuple[int, int], ...]


def offset(zone: ZoneInfo, instant: int) -> int:
    found = datetime.fromtimestamp(instant, zone).utcoffset()
    assert found is not None
    return int(found.total_seconds())


def rule_of(zone: ZoneInfo) -> Rule:
    """Every change is found in steps of six hours, then halved to the second."""
    found = [(FIRST - 7 * DAY, offset(zone, FIRST - 7 * DAY))]
    for instant in range(FIRST - 7 * DAY, LAST + 7 * DAY, 6 * HOUR):
        low, high = instant, instant + 6 * HOUR
        if offset(zone, low) == offset(zone, high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(zone, middle) == offset(zone, low) else (low, middle)
        found.append((high, offset(zone, high)))
    return tuple(found)


def instant_of(rule: Rule, wall: int) -> int:
    """The first instant that shows the wall clock's time (seconds as if it were UTC), or the change that skips it."""
    ends = [start for start, _ in rule[1:]] + [LAST + 30 * DAY]
    for (start, seconds), end in zip(rule, ends, strict=True):
        if start <= wall - seconds < end:
            return wall - seconds
    before = rule[0][1]
    for start, seconds in rule[1:]:
        if start + before <= wall < start + seconds:
            return start
        before = seconds
    raise AssertionError(f"the oracle has no instant for {wall}")


def expected(rule: Rule, after: int, until: int, time_of_day: int) -> list[int]:
    days = range(after // DAY - 2, until // DAY + 3)
    found = {instant_of(rule, day * DAY + time_of_day) for day in days}
    return sorted(instant for instant in found if after < instant <= until)


def got(schedule: Schedule, after: int, until: int) -> list[int]:
    found = []
    for firing in firings(schedule, datetime.fromtimestamp(after, UTC)):
        if (instant := int(firing.timestamp())) > until:
            return found
        if found and instant <= found[-1]:
            raise AssertionError(f"{schedule} goes back in time at {firing}")
        found.append(instant)
    return found


def check(work: tuple[str, Rule, int, int]) -> tuple[int, list[str]]:
    """All times of the day in one zone around one instant: how many, and what disagreed."""
    name, rule, middle, step = work
    starts = [start for start, _ in rule]
    first = max(0, bisect_right(starts, middle - 8 * DAY) - 1)
    near = rule[first : bisect_right(starts, middle + 8 * DAY)]
    wrong = []
    # A start that is not on a whole minute: what is due at it counts as past.
    after, until = middle - AROUND - 17, middle + AROUND
    times = range(middle // 60 % step, 1440, step)
    for minute in times:
        cron = f"{minute % 60} {minute // 60} * * *"
        found = got(Schedule(cron=cron, timezone=name), after, until)
        if found != (wanted := expected(near, after, until, minute * 60)):
            wrong.append(f"{name} '{cron}' after {datetime.fromtimestamp(after, UTC)}: {found}, meant {wanted}")
    return len(times), wrong


def work(step: int, seed: int) -> Iterator[tuple[str, Rule, int, int]]:
    chance, seen = random.Random(seed), set()
    for name in sorted(available_timezones()):
        rule = rule_of(ZoneInfo(name))
        if rule in seen:
            continue
        seen.add(rule)
        around = [start for start, _ in rule[1:] if FIRST <= start < LAST]
        around += [chance.randrange(FIRST, LAST) for _ in range(RANDOM_DAYS)]
        for middle in around:
            yield name, rule, middle, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--step", type=int, default=2, help="Minutes between the times of day that are tried.")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="Of the random days.")
    options = parser.parse_args()
    began, triples, wrong = time.monotonic(), 0, []
    jobs = list(work(options.step, options.seed))
    zones = {name for name, *_ in jobs}
    with multiprocessing.Pool() as pool:
        for count, found in pool.imap_unordered(check, jobs, chunksize=4):
            triples += count
            wrong += found
    print("\n".join(wrong[:20]), file=sys.stderr)
    seconds = round(time.monotonic() - began, 1)
    result = {"triples": triples, "zones": len(zones), "instants": len(jobs), "wrong": len(wrong)}
    print(json.dumps(result | {"seed": options.seed, "seconds": seconds}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
