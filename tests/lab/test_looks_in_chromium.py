"""How the panels look where it is hard to: in 280 px, and in the colours that the system forces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Page, expect

from .conftest import NEEDS_LAB, card, compare_all, look_into_columns, side_panel, visit

pytestmark = NEEDS_LAB

PANELS = ("data", "clusters", "experiments", "jobs")
NARROW = 280
# What is wider than it may be, but for the table of runs, which scrolls in a frame of its own.
STICKING_OUT = """panel => {
    const { left, right } = panel.getBoundingClientRect();
    const sticksOut = node => {
        const box = node.getBoundingClientRect();
        return box.width > 0 && (box.right > right + 0.5 || box.left < left - 0.5) && !node.closest('.lw-grid');
    };
    return [...panel.querySelectorAll('*')].filter(sticksOut).map(node => node.outerHTML.slice(0, 160));
}"""
GROUND = "(node, name) => getComputedStyle(node)[name]"


@pytest.fixture
def narrow(blank: Page, lab: tuple[str, str]) -> Page:
    """Lab with a left side of 280 px, where the files are shown."""
    visit(blank, lab[0])
    side = blank.locator("#jp-left-stack")
    width = side.evaluate("node => node.clientWidth")
    handle = blank.locator("#jp-main-split-panel > .lm-SplitPanel-handle:visible").first.bounding_box()
    assert handle
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    blank.mouse.move(x, y)
    blank.mouse.down()
    blank.mouse.move(x + NARROW - width, y, steps=3)
    blank.mouse.up()
    expect(side).to_have_css("width", f"{NARROW}px")
    return blank


@pytest.fixture
def weather(lab: tuple[str, str], request: pytest.FixtureRequest) -> Iterator[str]:
    httpx.put(f"{lab[1]}/fault/{request.param}", trust_env=False)
    yield request.param
    httpx.put(f"{lab[1]}/fault/none", trust_env=False)


def sticking_out(page: Page, panel: str) -> list[str]:
    shown = page.locator(f"#labwright-{panel}")
    expect(shown).to_be_visible()
    found: list[str] = shown.evaluate(STICKING_OUT)
    return found


@pytest.mark.parametrize("weather", ["empty", "down"], indirect=True)
def test_what_is_said_instead_of_a_list_fits_in_280_px(weather: str, narrow: Page) -> None:
    for panel in PANELS:
        side_panel(narrow, panel)
        said = ".lw-note" if weather == "down" else ".lw-empty"
        expect(narrow.locator(f"#labwright-{panel} {said}").first).to_be_visible()
        assert sticking_out(narrow, panel) == []


def test_lists_that_still_load_fit_in_280_px(narrow: Page) -> None:
    narrow.route("**/labwright/**", lambda route: None)
    for panel in PANELS:
        side_panel(narrow, panel)
        expect(narrow.locator(f"#labwright-{panel} .lw-skeleton").first).to_be_visible()
        assert sticking_out(narrow, panel) == []
    narrow.unroute_all(behavior="ignoreErrors")


def test_lists_and_forms_fit_in_280_px(narrow: Page) -> None:
    side_panel(narrow, "data")
    look_into_columns(narrow)
    assert sticking_out(narrow, "data") == []
    side_panel(narrow, "clusters")
    expect(narrow.get_by_role("listitem", name="dask-7f3a")).to_be_visible()
    assert sticking_out(narrow, "clusters") == []
    narrow.get_by_role("button", name="New cluster").click()
    narrow.get_by_label("Workers", exact=True).fill("256")
    expect(narrow.locator(".lw-field-error")).to_be_visible()
    assert sticking_out(narrow, "clusters") == []
    side_panel(narrow, "jobs")
    narrow.click(".lw-job-head:has-text('late_flights')")
    expect(narrow.locator(".lw-run").first).to_be_visible()
    assert sticking_out(narrow, "jobs") == []
    side_panel(narrow, "experiments")
    expect(narrow.locator(".lw-run-name:text-is('late-flights')")).to_be_visible()
    assert sticking_out(narrow, "experiments") == []
    compare_all(narrow)
    assert sticking_out(narrow, "experiments") == []


def css(page: Page, selector: str, name: str) -> str:
    found: str = page.locator(selector).first.evaluate(GROUND, name)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_states_shares_and_bars_are_seen_in_forced_colours(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme, forced_colors="active")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(scheme == "light").lower())
    card(page, "Clusters")
    good, waiting = (f".lw-state[data-state='{state}'] > .lw-dot" for state in ("running", "starting"))
    expect(page.locator(waiting).first).to_be_visible()
    assert css(page, good, "backgroundColor") != css(page, waiting, "backgroundColor")
    new, refresh = "button:text-is('New cluster')", "#labwright-clusters .lw-icon-button"
    assert css(page, new, "backgroundColor") != css(page, refresh, "backgroundColor")
    side_panel(page, "data")
    look_into_columns(page)
    assert css(page, ".lw-share", "borderBottomStyle") == "solid"
    assert css(page, ".lw-share", "opacity") == "1"
    side_panel(page, "jobs")
    page.click(".lw-job-head:has-text('late_flights')")
    page.click(".lw-run:has-text('failed')")
    expect(page.locator(".lw-cell.lw-mod-error")).to_be_visible()
    ground = css(page, ".lw-view", "backgroundColor")
    assert css(page, ".lw-cell.lw-mod-error", "borderLeftColor") != ground
    assert css(page, ".lw-cell:not(.lw-mod-error)", "borderLeftColor") == css(page, ".lw-main", "backgroundColor")
    page.get_by_role("tab", name="Resources").click()
    chosen, other = (f".lw-tabs [role='tab'][aria-selected='{selected}']" for selected in ("true", "false"))
    assert css(page, chosen, "borderBottomColor") != css(page, other, "borderBottomColor")
    assert css(page, ".lw-bar", "backgroundColor") != css(page, ".lw-main", "backgroundColor")
