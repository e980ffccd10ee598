"""Accessibility of what a page shows, judged by axe-core (the rules of WCAG 2.1 A and AA, and its best practices)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

SCRIPT = Path(__file__).resolve().parents[1] / "extensions" / "lab" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


def faults(page: Page, within: str = "html", *, leave_out: str | None = None) -> list[str]:
    """What axe finds in the elements that match `within`: a line for each, with rule and element."""
    page.evaluate(SCRIPT.read_text())
    found: dict[str, Any] = page.evaluate(
        "([context, tags]) => axe.run(context, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})",
        [{"include": [[within]], "exclude": [[leave_out]] if leave_out else []}, TAGS],
    )
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} – {node['failureSummary'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
