"""What an account may hold and spend, and whether an ask fits: pure decisions over plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from labwright.api.errors import describe_account
from labwright.api.money import money
from labwright.api.usage import Ask, BudgetNotice, Quota, QuotaLine, ReservationKind
from labwright.spawner.profiles import QuotaRule, Workbench

# The account of what this machine has, whoever asks.
MACHINE = "machine"
COUNTED: dict[ReservationKind, str] = {"server": "servers", "run": "runs", "cluster": "clusters"}
NEAR = 0.8  # of a budget: from here on people are told
THIS = {"day": "today", "week": "this week", "month": "this month"}
RESOURCES = ("servers", "runs", "clusters", "cpu", "memory_bytes", "gpu")


def account_of(user: str, group: str | None) -> str:
    """Who is billed: the group that is named, or the user himself."""
    return f"group:{group}" if group else f"user:{user}"


def rule_for(workbench: Workbench, account: str) -> QuotaRule | None:
    """The quota of an account; for a user without one, that of `user: default`. None: no limit.

    A group without a rule has none either, so that billing a group cannot be a way around the user's own quota:
    see `may_be_billed`.
    """
    kind, _, name = account.partition(":")
    if kind == "group":
        return next((rule for rule in workbench.quotas if rule.group == name), None)
    named = next((rule for rule in workbench.quotas if rule.user == name), None)
    return named or next((rule for rule in workbench.quotas if rule.user == "default"), None)


def may_be_billed(workbench: Workbench, account: str) -> bool:
    """Whether the account can carry a bill: every user, and the groups that have a quota."""
    return not account.startswith("group:") or rule_for(workbench, account) is not None


def limits_of(rule: QuotaRule | None) -> dict[str, float | None]:
    limits: dict[str, float | None] = {name: None if rule is None else getattr(rule, name) for name in RESOURCES}
    limits["budget"] = rule.budget.amount if rule and rule.budget else None
    return limits


def amounts_of(kind: ReservationKind, ask: Ask) -> dict[str, float]:
    """What an ask takes of each resource. The budget is judged by what was spent, not by what is asked."""
    amounts: dict[str, float] = dict.fromkeys(COUNTED.values(), 0)
    amounts[COUNTED[kind]] = ask.count
    return amounts | {"cpu": ask.cpu, "memory_bytes": ask.memory_bytes, "gpu": ask.gpu}


@dataclass(frozen=True)
class Refusal:
    resource: str
    asked: float
    left: float


def judge(
    kind: ReservationKind, ask: Ask, used: dict[str, float], spent: float, limits: dict[str, float | None]
) -> Refusal | None:
    """The resource that runs out first if `ask` were granted, or None when it fits."""
    for resource, asked in amounts_of(kind, ask).items():
        limit = limits[resource]
        # A hair of tolerance: sums of CPU shares such as 0.1 are not exact.
        if limit is not None and asked > 0 and used[resource] + asked > limit + 1e-9:
            return Refusal(resource, asked, max(limit - used[resource], 0.0))
    budget = limits["budget"]
    if budget is not None and ask.price_per_hour > 0 and spent >= budget:
        return Refusal("budget", ask.price_per_hour, max(budget - spent, 0.0))
    return None


def quota_of(workbench: Workbench, account: str, used: dict[str, float], spent: float, now: datetime) -> Quota:
    limits = limits_of(rule_for(workbench, account))
    used = used | {"budget": spent}
    lines = [
        QuotaLine(
            resource=resource,
            used=round(used[resource], 6),
            limit=limit,
            left=None if limit is None else round(max(limit - used[resource], 0.0), 6),
        )
        for resource, limit in limits.items()
    ]
    return Quota(account=account, lines=lines, notice=budget_notice(workbench, account, spent, now))


def budget_notice(workbench: Workbench, account: str, spent: float, now: datetime) -> BudgetNotice | None:
    """What whoever is billed to the account should hear of its budget: from 80 % on, and when it is spent."""
    rule = rule_for(workbench, account)
    # A budget of nothing is a rule that only what is free may run: nothing of it nears its end.
    if rule is None or rule.budget is None or rule.budget.amount == 0 or spent < NEAR * rule.budget.amount:
        return None
    budget, (since, until) = rule.budget, budget_period(workbench, account, now)
    over = spent >= budget.amount
    percent = 100 if over else max(80, int(100 * spent / budget.amount))
    what = f"The budget of {describe_account(account)} is {'spent' if over else f'{percent} % spent'}"
    amounts = f"{money(spent, workbench.currency)} of {money(budget.amount, workbench.currency)} {THIS[budget.per]}"
    begins = f"until {until:%d %B %Y} (UTC)"
    if over:
        remedy = f"What runs goes on; nothing else that costs starts {begins}. Ask your admin for more."
    else:
        remedy = (
            f"Once it is spent, nothing that costs starts {begins}. Stop what you no longer need, or ask your admin."
        )
    return BudgetNotice(
        account=account,
        threshold=100 if over else 80,
        percent=percent,
        since=since,
        until=until,
        message=f"{what}: {amounts}.",
        remedy=remedy,
    )


def budget_period(workbench: Workbench, account: str, now: datetime) -> tuple[datetime, datetime]:
    """The day, week (from Monday) or month of the account's budget, UTC: its begin and its end.

    The month without a budget.
    """
    rule = rule_for(workbench, account)
    per = rule.budget.per if rule and rule.budget else "month"
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match per:
        case "day":
            return today, today + timedelta(days=1)
        case "week":
            monday = today - timedelta(days=today.weekday())
            return monday, monday + timedelta(days=7)
        case _:
            return month_of(now), month_of(month_of(now) + timedelta(days=31))


def month_of(now: datetime) -> datetime:
    """When the budget's month began, UTC."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
