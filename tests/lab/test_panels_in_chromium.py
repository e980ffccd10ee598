"""The panels in a real Lab in a real browser, in front of the stand-in for core and data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import httpx
import nbformat
import pytest
from axe import faults
from playwright.sync_api import Locator, Page, Route, expect

from .conftest import NEEDS_LAB, card, compare_all, look_into_columns, side_panel, visit

pytestmark = NEEDS_LAB


def test_from_the_launcher_to_rows_queries_runs_and_a_schedule(page: Page, lab: tuple[str, str]) -> None:
    expect(page.locator(".lw-status-text")).to_contain_text("Small ·")
    card(page, "Data")
    page.click(".lw-row-label:text-is('warehouse')")
    page.hover(".lw-row:has-text('flights')")
    page.click(".lw-row:has-text('flights') >> text=Preview")
    expect(page.locator(".lw-grid tbody tr")).to_have_count(100)
    page.click("button:text-is('Insert query'):visible >> nth=-1")
    expect(page.locator(".jp-Notebook")).to_contain_text("FROM public.flights", timeout=60_000)
    page.click(".jp-Toolbar >> text=Schedule")
    expect(page.get_by_label("month integer")).to_have_value("7")
    page.get_by_label("month integer").fill("thirteen")
    page.click("button:text-is('Run now')")
    expect(page.locator(".lw-field-error")).to_have_text("This takes a whole number.")
    page.get_by_label("month integer").fill("8")
    page.check("text=Repeat on a schedule")
    expect(page.locator(".lw-next li")).to_have_count(3)
    page.click("button[type=submit]:text-is('Schedule')")
    # The page's own heading: the notebook below it has one too, as soon as it is there.
    expect(page.get_by_role("heading", name=re.compile(r"^late_flights run \d+ queued$"))).to_be_visible()


def test_a_job_whose_run_waits_says_why(page: Page) -> None:
    card(page, "Jobs")
    waiting = page.get_by_role("list", name="Jobs").get_by_role("listitem").filter(has_text="clean weather")
    expect(waiting).to_contain_text("queued")
    expect(waiting).to_contain_text("It waits: 3 of your runs go on, as many as one person may have at a time.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_panels(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(scheme == "light").lower())
    found = {}
    for name, shows in (
        ("Data", ".lw-row-label:text-is('warehouse')"),
        ("Clusters", ".lw-card:has-text('dask')"),
        ("Experiments", ".lw-run-name:text-is('late-flights')"),
        ("Jobs", ".lw-job-name:text-is('late_flights')"),
    ):
        card(page, name)
        expect(page.locator(shows)).to_be_visible()
        if name == "Data":
            look_into_columns(page)
        found[name] = faults(page, ".lw-panel:not(.lm-mod-hidden)")
    page.click(".lw-job-head:has-text('late_flights')")
    page.click(".lw-run:has-text('failed')")
    expect(page.locator(".lw-notebook")).to_contain_text("fitted 57 431 rows")
    found["run"] = faults(page, ".lw-view:not(.lm-mod-hidden)")
    page.get_by_role("tab", name="Resources").click()
    expect(page.get_by_role("region", name="Time by cell")).to_contain_text("fit(flights)")
    found["resources"] = faults(page, ".lw-view:not(.lm-mod-hidden)")
    page.get_by_role("tab", name="Source & diff").click()
    page.get_by_label("Compare with").select_option("run 1")
    expect(page.locator(".lw-diff .lw-mod-added >> visible=true")).to_have_text("+fit(flights)")
    found["source"] = faults(page, ".lw-view:not(.lm-mod-hidden)")
    side_panel(page, "clusters")
    page.get_by_role("button", name="New cluster").click()
    expect(page.locator(".lw-price-line")).to_contain_text("€/h")
    found["start"] = faults(page, ".lw-panel:not(.lm-mod-hidden)")
    side_panel(page, "experiments")
    compare_all(page)
    # Their dots are to be seen only.
    for name in ("gifted-crane running", "calm-otter finished", "quick-lynx failed"):
        expect(page.get_by_role("button", name=name)).to_be_visible()
    found["compare"] = faults(page, ".lw-view")
    assert not any(found.values()), "\n".join(f"{name}: {line}" for name, lines in found.items() for line in lines)


def test_a_cluster_is_started_at_the_price_that_is_shown(page: Page, lab: tuple[str, str]) -> None:
    card(page, "Clusters")
    page.get_by_role("button", name="New cluster").click()
    form = page.get_by_role("form", name="Start a cluster")
    expect(form.locator(".lw-price-line")).to_contain_text("2 CPU · 4 GB · 0.10 €/h")
    form.get_by_label("Workers").fill("6")
    expect(form.locator(".lw-price-line")).to_contain_text("This does not fit: only 5 CPU")
    form.get_by_label("Workers").fill("3")
    expect(form.locator(".lw-field-error")).to_have_count(0)
    form.get_by_role("button", name="Start Dask").click()
    expect(form).to_have_count(0)
    started = page.get_by_role("listitem", name="dask-2")
    expect(started).to_contain_text("3/3")
    stop(page, started)


def run_from_palette(page: Page, name: str) -> None:
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input:focus").fill(name)
    expect(page.locator(".lm-CommandPalette-item.lm-mod-active")).to_have_text(re.compile(name))
    page.keyboard.press("Enter")


@pytest.mark.parametrize(
    ("command", "engine"), [("Start a Dask cluster…", "Dask"), ("Start a Spark session…", "Spark")]
)
def test_the_palette_asks_at_the_price_that_is_shown_before_it_starts(
    page: Page, lab: tuple[str, str], command: str, engine: str
) -> None:
    visit(page, lab[0])
    form = page.get_by_role("form", name="Start a cluster")
    price, focused = form.locator(".lw-price-line"), page.locator(":focus")
    run_from_palette(page, command)
    expect(price).to_contain_text("0.10 €/h")
    expect(price).to_contain_text("Left for you: 1 cluster")
    expect(form.get_by_role("radio", name=engine)).to_be_focused()
    expect(page.get_by_role("list", name="Clusters").get_by_role("listitem")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(form).to_have_count(0)
    expect(focused).to_have_text("New cluster")
    page.keyboard.press("Enter")
    expect(form.get_by_role("radio", name=engine)).to_be_focused()
    form.get_by_role("button", name="Cancel").focus()
    run_from_palette(page, command)
    expect(form.get_by_role("radio", name=engine)).to_be_focused()
    page.keyboard.press("Enter")
    expect(form).to_have_count(0)
    started = page.get_by_role("listitem", name=f"{engine.lower()}-2")
    expect(started).to_contain_text("2/2")
    expect(focused).to_have_text("New cluster")
    stop(page, started)


def stop(page: Page, cluster: Locator) -> None:
    cluster.get_by_role("button", name="Stop").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Stop").click()
    expect(cluster).to_have_count(0)


def test_no_cluster_is_started_before_its_price_is_there(page: Page, lab: tuple[str, str]) -> None:
    visit(page, lab[0])
    held: list[Route] = []
    page.route("**/labwright/core/me*", hold_first(held))
    with page.expect_request("**/labwright/core/me*"):
        run_from_palette(page, "Start a Dask cluster…")
    form = page.get_by_role("form", name="Start a cluster")
    start = form.get_by_role("button", name="Start Dask")
    expect(form.get_by_role("radio", name="Dask")).to_be_focused()
    page.keyboard.press("Enter")
    expect(start).to_be_disabled()
    held[0].continue_()
    expect(start).to_be_enabled()
    expect(form.locator(".lw-price-line")).to_contain_text("0.10 €/h")
    expect(page.get_by_role("list", name="Clusters").get_by_role("listitem")).to_have_count(2)


def test_runs_are_compared_by_curves_parallel_coordinates_params_and_notebooks(page: Page) -> None:
    card(page, "Experiments")
    compare_all(page)
    view = page.locator(".lw-view:visible")
    view.locator(".lw-plot select").select_option("loss")
    expect(view.locator(".lw-curves canvas")).to_be_visible()
    expect(view.locator(".lw-parallel polyline")).to_have_count(4)
    expect(view.get_by_role("region", name="Notebooks").locator(".lw-diff, .lw-empty")).to_be_visible()
    view.get_by_label("Before").select_option("gifted-crane")
    view.get_by_label("After").select_option("calm-otter")
    expect(view.locator(".lw-diff .lw-mod-removed")).to_have_text("−fit(flights, depth=6)")
    expect(view.locator(".lw-diff .lw-mod-added")).to_have_text("+fit(flights)")


def test_a_deletion_can_be_undone_where_it_is_told(page: Page) -> None:
    card(page, "Jobs")
    page.click(".lw-job-head:has-text('clean weather')")
    job = page.locator(".lw-job").filter(has_text="clean weather")
    job.get_by_role("button", name="Delete").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Delete").click()
    expect(job).to_have_count(0)
    notice = page.locator(".Toastify__toast").filter(has_text="Job 'clean weather' was deleted.")
    notice.get_by_role("button", name="Undo").click()
    expect(job).to_have_count(1)
    expect(notice).to_have_count(0)


def test_scripts_in_outputs_do_not_run(page: Page) -> None:
    card(page, "Jobs")
    page.click(".lw-job-head:has-text('late_flights')")
    page.click(".lw-run:has-text('failed')")
    expect(page.locator(".lw-cell.lw-mod-error")).to_be_visible()
    expect(page.locator(".lw-notebook")).to_contain_text("fitted 57 431 rows")
    assert page.evaluate("window.pwned") is None


def test_markup_in_names_is_shown_as_text_and_does_not_run(blank: Page, lab: tuple[str, str]) -> None:
    markup = "<img src=x onerror=window.pwned=1>"

    def rename(route: Route) -> None:
        answer = route.fetch()
        text = re.sub("late_flights|clean weather|warehouse|dask-7f3a|late-flights", markup, answer.text())
        route.fulfill(response=answer, body=text)

    blank.route(re.compile(r"/labwright/(core/(jobs|clusters)|data/connections|mlflow/.*search)"), rename)
    blank.goto(lab[0])
    for name in ("Jobs", "Data", "Clusters", "Experiments"):
        card(blank, name)
        panel = blank.locator(f"#labwright-{name.lower()}")
        expect(panel.get_by_text(markup).first).to_be_visible()
        assert panel.locator("img").count() == 0
    side_panel(blank, "jobs")
    job = blank.locator("#labwright-jobs .lw-job").filter(has_text=markup).last
    job.locator(".lw-job-head").click()
    job.get_by_role("button", name="Delete").click()
    dialog = blank.locator(".jp-Dialog")
    expect(dialog).to_contain_text(markup)
    assert dialog.locator("img").count() == 0
    dialog.get_by_role("button", name="Cancel").click()
    assert blank.evaluate("window.pwned") is None
    blank.unroute_all(behavior="ignoreErrors")


@pytest.mark.parametrize(
    ("panel", "says", "shows"),
    [
        ("Experiments", "MLflow cannot be reached right now.", ".lw-run-name:text-is('late-flights')"),
        ("Data", "The service cannot be reached right now.", ".lw-row-label:text-is('warehouse')"),
        ("Clusters", "The service cannot be reached right now.", ".lw-card:has-text('dask')"),
        ("Jobs", "The service cannot be reached right now.", ".lw-job-name:text-is('late_flights')"),
    ],
)
def test_a_service_that_is_down_says_so_and_comes_back_by_itself(
    page: Page, lab: tuple[str, str], panel: str, says: str, shows: str
) -> None:
    httpx.put(f"{lab[1]}/fault/down", trust_env=False)
    try:
        card(page, panel)
        expect(page.locator(".lw-note:visible")).to_contain_text(says)
    finally:
        httpx.put(f"{lab[1]}/fault/none", trust_env=False)
    expect(page.locator(shows)).to_be_visible()
    expect(page.locator(".lw-note:visible")).to_have_count(0)


def test_run_all_right_after_opening_waits_for_the_kernel_instead_of_asking(page: Page, notebook: str) -> None:
    page.locator(".jp-DirListing-item").filter(has_text=notebook).dblclick()
    page.locator(".jp-NotebookPanel:visible .jp-Cell").first.wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(page.locator(".jp-OutputArea-output").last).to_have_text("42", timeout=60_000)
    expect(page.locator(".jp-Dialog")).to_have_count(0)


def test_the_example_opens_as_a_copy_that_is_the_persons_own(page: Page, home: Path, lab: tuple[str, str]) -> None:
    card(page, "Example model")
    expect(page.locator(".jp-NotebookPanel:visible h1").first).to_have_text(re.compile("Late flights"))
    copy = home / "examples" / "late_flights.ipynb"
    written = nbformat.read(copy, 4)
    written.cells[0].source = "# Mine"
    nbformat.write(written, copy)
    page.goto(lab[0])
    page.locator(".jp-Launcher").wait_for(timeout=60_000)
    card(page, "Welcome notebook")
    expect(page.locator(".jp-NotebookPanel:visible h1").first).to_have_text(re.compile("Welcome to Labwright"))
    assert nbformat.read(copy, 4).cells[0].source == "# Mine"


def test_the_death_of_a_kernel_is_told_with_its_reason_and_remedy(page: Page, home: Path) -> None:
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), home / "deadly.ipynb")
    page.locator(".jp-DirListing-item").filter(has_text="deadly.ipynb").dblclick()
    expect(page.locator("#jp-main-statusbar").get_by_text(re.compile(r"Python 3.*\| Idle"))).to_be_visible()
    page.locator(".jp-NotebookPanel:visible .jp-CodeCell").first.click()
    page.keyboard.press("Control+Enter")
    reason = "The kernel crashed with SIGSEGV. A compiled library crashed: update the package that was running"
    expect(page.locator(".Toastify__toast")).to_contain_text(f"deadly.ipynb: {reason}", timeout=10_000)
    expect(page.locator(".jp-OutputArea-output").last).to_contain_text(reason)


def test_a_budget_near_its_end_is_told_with_what_to_do_and_stays_in_the_status_bar(
    blank: Page, lab: tuple[str, str]
) -> None:
    httpx.put(f"{lab[1]}/fault/budget", trust_env=False)
    try:
        blank.goto(lab[0])
        told = blank.locator(".Toastify__toast")
        expect(told).to_contain_text("The budget of alice is 84 % spent: 421.30 € of 500.00 € this month.")
        expect(blank.locator(".lw-status-text.lw-mod-urgent")).to_contain_text("budget 84 % spent")
        told.get_by_role("button", name="What now?").click()
        expect(blank.locator(".jp-Dialog")).to_contain_text("Stop what you no longer need.")
        expect(told).to_have_count(0)
    finally:
        httpx.put(f"{lab[1]}/fault/none", trust_env=False)


def test_the_launcher_does_not_wait_for_the_layout_to_be_saved(blank: Page, lab: tuple[str, str]) -> None:
    blank.route("**/lab/api/workspaces/*", lambda route: None if route.request.method == "PUT" else route.continue_())
    blank.goto(lab[0])
    expect(blank.locator(".jp-LauncherCard").first).to_be_visible()
    blank.unroute_all(behavior="ignoreErrors")


def test_an_address_of_a_notebook_shows_it_and_no_launcher(blank: Page, lab: tuple[str, str], notebook: str) -> None:
    visit(blank, lab[0].replace("/lab?", f"/lab/tree/{notebook}?"))
    expect(blank.locator(".jp-NotebookPanel .jp-Cell").first).to_be_visible()
    expect(blank.locator(".jp-Launcher")).to_have_count(0)


def test_the_splash_screen_goes_once_lab_can_be_used(blank: Page, lab: tuple[str, str]) -> None:
    held: list[Route] = []
    blank.route("**/lab/api/workspaces/default?*", hold_first(held))
    with blank.expect_request("**/lab/api/workspaces/default?*"):
        blank.goto(lab[0].replace("?reset&", "?"))
    splash = blank.locator("#jupyterlab-splash")
    expect(splash).to_be_visible()
    held[0].continue_()
    expect(splash).to_have_count(0)
    assert blank.evaluate("document.getAnimations().length") == 0


def test_a_long_load_offers_to_clear_the_layout(blank: Page, lab: tuple[str, str]) -> None:
    blank.clock.install()
    held: list[Route] = []
    blank.route("**/lab/api/workspaces/default?*", hold_first(held))
    with blank.expect_request("**/lab/api/workspaces/default?*"):
        blank.goto(lab[0].replace("?reset&", "?"))
    expect(blank.locator("#jupyterlab-splash")).to_be_visible()
    blank.clock.fast_forward(13_000)
    dialog = blank.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Clear the layout")
    held[0].continue_()
    expect(blank.locator("#jupyterlab-splash")).to_have_count(0)
    expect(dialog).to_have_count(0)


def hold_first(held: list[Route]) -> Callable[[Route], None]:
    """Keeps the first request waiting until the test lets it go on."""

    def handle(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    return handle


def test_a_kernel_starts_while_its_new_notebook_opens(blank: Page, lab: tuple[str, str], home: Path) -> None:
    """And is written into the notebook, though that comes after it."""
    blank.goto(lab[0])
    held: list[Route] = []
    blank.route(re.compile(r"/api/contents/Untitled[^?]*\.ipynb\?.*content=1"), hold_first(held))
    with blank.expect_response(lambda answer: answer.request.method == "POST" and "/api/sessions" in answer.url):
        blank.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
    status = blank.locator("#jp-main-statusbar")
    expect(status).to_contain_text("| Idle")
    held[0].continue_()
    notebook = blank.locator(".jp-NotebookPanel:visible")
    notebook.locator(".jp-Cell").first.click()
    blank.keyboard.type("6 * 7")
    blank.keyboard.press("Shift+Enter")
    expect(notebook.locator(".jp-OutputArea-output")).to_have_text("42")
    with blank.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents" in answer.url):
        blank.keyboard.press("Control+s")
        blank.locator(".jp-Dialog .jp-mod-accept").click()  # it asks for a name
    kept = nbformat.read(max(home.glob("Untitled*.ipynb"), key=lambda file: file.stat().st_mtime), as_version=4)
    assert kept.metadata.kernelspec.name == "python3"
    assert kept.metadata.language_info.name == "python"
