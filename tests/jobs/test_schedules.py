"""Firings against an oracle that walks every minute, in zones with odd rules."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labwright.api.errors import BadSchedule
from labwright.api.jobs import Schedule
from labwright.hub.jobs.schedule import MAX_CATCH_UP, due, firings, next_firings, sentence

# Gaps and repeats of an hour and of 30 minutes, at midnight, in both hemispheres, with negative DST, without any.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Pacific/Auckland",
    "UTC",
]
FIXED = ["0 6 * * *", "30 1 * * *", "30 2 * * *", "0,30 2 * * *", "0 0 * * *", "15 0 1 * *", "45 1 * * 0"]
STEPPED = ["*/15 * * * *", "0 * * * *", "*/7 1 * * *", "30 */3 * * *"]


Fields = list[set[int]]


def fields_of(cron: str) -> Fields:
    """The values that fit, by field: numbers, lists, * and */n only."""
    ranges = (range(60), range(24), range(1, 32), range(1, 13), range(7))

    def values(field: str, every: range) -> set[int]:
        if field.startswith("*/"):
            return set(every[:: int(field[2:])])
        return set(every) if field == "*" else {int(part) for part in field.split(",")}

    return [values(field, every) for field, every in zip(cron.split(), ranges, strict=True)]


def matches(fields: Fields, wall: datetime) -> bool:
    """Whether a minute of the wall clock fits."""
    minute, hour, day, month, weekday = fields
    return (
        wall.minute in minute
        and wall.hour in hour
        and wall.day in day
        and wall.month in month
        and wall.isoweekday() % 7 in weekday
    )


class Oracle:
    """By definition: fixed times walk the wall clock, each at the first instant that shows it or a later one; others
    walk the instants."""

    def __init__(self, zone: ZoneInfo, after: datetime, days: int) -> None:
        self.zone, self.after, self.until = zone, after, after + timedelta(days=days)
        start = after - timedelta(days=2)
        wall = start.astimezone(zone).replace(tzinfo=None, second=0)
        steps = [timedelta(minutes=minute) for minute in range((days + 4) * 1440)]
        self.walls = [wall + step for step in steps]
        instants = [start.replace(second=0, microsecond=0) + step for step in steps]
        self.instants = [(instant, instant.astimezone(zone)) for instant in instants]

    def firings(self, cron: str) -> list[datetime]:
        fields = fields_of(cron)
        if cron.startswith("*") or cron.split()[1].startswith("*"):
            found = {instant for instant, wall in self.instants if matches(fields, wall)}
        else:
            found = {self.first_instant(wall) for wall in self.walls if matches(fields, wall)}
        return sorted(one for one in found if self.after < one <= self.until)

    def first_instant(self, wall: datetime) -> datetime:
        aware = wall.replace(tzinfo=self.zone)
        while aware.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != aware.replace(tzinfo=None):
            aware += timedelta(minutes=1)
        return aware.astimezone(UTC)


def changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """The instants of the year at which the offset changes, to the hour."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(366 * 24)]
    return [b for a, b in pairwise(hours) if a.astimezone(zone).utcoffset() != b.astimezone(zone).utcoffset()]


@pytest.mark.parametrize("name", ZONES)
def test_firings_agree_with_the_oracle_around_every_change_of_the_clock(name: str) -> None:
    zone = ZoneInfo(name)
    around = [change - timedelta(hours=36, minutes=17) for change in changes(zone, 2026)][:2]
    for after in around or [datetime(2026, 5, 17, 3, 33, tzinfo=UTC)]:
        oracle = Oracle(zone, after, days=3)
        for cron in FIXED + STEPPED:
            expected = oracle.firings(cron)
            found = firings(Schedule(cron=cron, timezone=name), after)
            until = after + timedelta(days=3)
            got = []
            for firing in found:
                if firing > until:
                    break
                got.append(firing)
            assert got == expected, (cron, name, after)


def test_starting_inside_the_repeated_hour_fires_neither_twice_nor_back_in_time() -> None:
    schedule = Schedule(cron="30 1 * * *", timezone="America/New_York")
    first = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    for minutes in range(0, 180, 7):
        after = datetime(2026, 11, 1, 4, 40, tzinfo=UTC) + timedelta(minutes=minutes)
        following = next_firings(schedule, after, 1)[0]
        assert following == (first if after < first else datetime(2026, 11, 2, 6, 30, tzinfo=UTC))


def test_the_next_firing_strictly_grows() -> None:
    random.seed(1)
    for _ in range(200):
        cron = random.choice(FIXED + STEPPED)
        after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=random.randrange(525_600))
        found = list(islice(firings(Schedule(cron=cron, timezone=random.choice(ZONES)), after), 5))
        assert all(a < b for a, b in zip([after, *found], found, strict=False))


@pytest.mark.parametrize(
    "cron",
    ["0 0 30 2 *", "0 0 31 4,6 *", "61 * * * *", "* * * *", "* * * * * *", "@daily", "", "a b c d e", "*/0 * * * *"],
)
def test_an_impossible_schedule_is_refused(cron: str) -> None:
    with pytest.raises(BadSchedule):
        next_firings(Schedule(cron=cron, timezone="UTC"), datetime(2026, 1, 1, tzinfo=UTC))


def field_texts(low: int, high: int, *words: str) -> st.SearchStrategy[str]:
    """A field: mostly what its grammar allows, in or out of its range, and sometimes anything."""
    value = st.integers(low, high).map(str) | st.sampled_from(["*", *words])
    stepped = st.tuples(value, st.integers(0, 70)).map(lambda parts: f"{parts[0]}/{parts[1]}")
    spans = st.tuples(value, value).map("-".join)
    listed = st.lists(value | spans | stepped, min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), value, listed, listed, st.text("0159*/-,#?LWx²\u0663 ", max_size=4))


CRONS = st.tuples(
    field_texts(0, 59, "60"),
    field_texts(0, 23, "24"),
    field_texts(1, 31, "0", "32", "L", "LW", "15W"),
    field_texts(1, 12, "0", "13", "JAN", "feb"),
    field_texts(0, 7, "8", "MON", "fri", "5#3", "MON#5", "5L", "5#9"),
).map(" ".join)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@settings(max_examples=1000)
@given(CRONS | st.text(max_size=30), st.sampled_from(ZONES), MOMENTS)
def test_whatever_is_written_is_refused_or_fires_ever_later_and_is_said_in_words(
    cron: str, zone: str, after: datetime
) -> None:
    schedule = Schedule(cron=cron, timezone=zone)
    try:
        found = next_firings(schedule, after)
    except BadSchedule:
        return
    assert all(earlier < later for earlier, later in pairwise([after, *found]))
    slots, following = due(schedule, found[0], found[-1])
    assert [slots[0], slots[-1]] == [found[0], found[-1]]  # what lies more than a year back is gone
    assert following > found[-1]
    assert zone in sentence(schedule)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", ""])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadSchedule):
        next_firings(Schedule(cron="0 6 * * *", timezone=zone), datetime(2026, 1, 1, tzinfo=UTC))


def test_slots_after_a_long_downtime_are_bounded() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    slots, following = due(Schedule(cron="* * * * *", timezone="UTC"), now - timedelta(days=30), now)
    assert len(slots) == MAX_CATCH_UP
    assert slots[-1] == now
    assert following == now + timedelta(minutes=1)


def test_the_sentence_says_when_and_where() -> None:
    assert sentence(Schedule(cron="0 6 * * *", timezone="Europe/Berlin")) == "Every day at 06:00 (Europe/Berlin)"
    assert sentence(Schedule(cron="5 18 * * 1-5", timezone="UTC")) == "Every weekday at 18:05 (UTC)"
    assert "UTC" in sentence(Schedule(cron="*/15 8-18 * * 1-5", timezone="UTC"))
