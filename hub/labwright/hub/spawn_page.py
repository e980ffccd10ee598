"""The spawn page: profile cards with size, price and what is left of one's quota. Pure but for the template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from labwright.api.errors import LabwrightError, QuotaExceeded
from labwright.api.money import money
from labwright.api.usage import Me, QuotaLine
from labwright.spawner.profiles import Profile, Workbench

TEMPLATES = Path(__file__).parent / "templates"
WORDS = {"servers": "servers", "cpu": "CPU", "gpu": "GPU", "memory_bytes": "memory", "budget": "budget"}


@cache
def _template() -> Template:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("cards.html")


def render_cards(profiles: Sequence[Profile], me: Me | None, workbench: Workbench) -> str:
    """The inside of the spawn form. Without `me` (core is away) the cards show no quota and may all be tried."""
    known = {card.slug: card for card in me.profiles} if me else {}
    cards = []
    for profile in profiles:
        card = known.get(profile.slug)
        idle = workbench.idle.gpu_seconds if profile.gpu_count else workbench.idle.server_seconds
        cards.append(
            {
                "slug": profile.slug,
                "name": profile.name,
                "description": profile.description,
                "size": describe_size(profile),
                "price": f"{money(profile.price_per_hour, workbench.currency)}/h",
                "idle": f"stops after {format_duration(idle)} without work",
                "options": profile.options,
                "available": card.available if card else True,
                "reason": card.reason if card else None,
            }
        )
    return _template().render(cards=cards, quotas=quota_lines(me), quota_known=me is not None)


def describe_size(profile: Profile) -> str:
    parts = [f"{profile.cpu:g} CPU", format_bytes(profile.memory_bytes)]
    for resource, count in profile.gpu.items():
        parts.append(f"{count} {'GPU' if resource.endswith('/gpu') else resource}")
    return " · ".join(parts)


def quota_lines(me: Me | None) -> list[dict[str, Any]]:
    """What is left, per account: only resources with a limit."""
    if me is None:
        return []
    lines = []
    for quota in me.quotas:
        kind, _, name = quota.account.partition(":")
        title = "You" if kind == "user" else name
        parts = [
            {"text": format_line(line, me.currency), "full": line.left is not None and line.left <= 0}
            for line in quota.lines
            if line.limit is not None and line.resource in WORDS
        ]
        if parts:
            lines.append({"title": title, "parts": parts})
    return lines


def format_line(line: QuotaLine, currency: str) -> str:
    left, limit = line.left or 0.0, line.limit or 0.0
    if line.resource == "budget":
        return f"{money(line.used, currency)} of {money(limit, currency)} spent"
    if line.resource == "memory_bytes":
        return f"{format_bytes(int(left))} of {format_bytes(int(limit))} memory left"
    return f"{left:g} of {limit:g} {WORDS[line.resource]} left"


def format_bytes(amount: int) -> str:
    if amount <= 0:
        return "0 GB"
    power = min(4, int(math.log(amount, 1024)))
    return f"{amount / 1024**power:.4g} {('B', 'KB', 'MB', 'GB', 'TB')[power]}"


def format_duration(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{max(1, seconds // 60)} min"


def options_from_form(form: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What was clicked: a slug and the options of that card. `choose` decides whether they exist."""
    slug = form.get("profile", [""])[0]
    prefix = f"option:{slug}:"
    options = {name.removeprefix(prefix): values[0] for name, values in form.items() if name.startswith(prefix)}
    return {"profile": slug, "options": options} if slug else {}


def describe_refusal(error: LabwrightError, me: Me) -> str:
    if not isinstance(error, QuotaExceeded):
        return ""
    fitting = [card.name for card in me.profiles if card.available]
    running = [item.key.removeprefix("server:") for item in me.running if item.kind == "server"]
    text = f"What would fit now: {', '.join(fitting)}." if fitting else "No profile fits now."
    return f"{text} Running: {', '.join(running)}." if running else text
