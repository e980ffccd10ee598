"""The golden path: from login to a scheduled, tracked, registered model, in a real browser.

    make demo                       # against the running workbench, pictures under var/demo/
    make demo ARGS='--user … --password …'     # as somebody who is there already

Run by an operator it lets a person named 'demo' in (groups research and admins) and uses the password it is given.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, expect

from labwright.hub.commands.place import settings_for
from tests.golden.lab import Lab
from tests.golden.steps import NoBrowser, StepFailed, Walk, chromium, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = CHECKOUT / "examples" / "late_flights.ipynb"
FAILING = CHECKOUT / "examples" / "fails.ipynb"
LABWRIGHT = CHECKOUT / ".envs" / "user" / "bin" / "labwright"
OPERATOR = CHECKOUT / ".envs" / "hub" / "bin" / "labwright"


@dataclass
class Person:
    name: str
    password: str


def admit(name: str) -> Person:
    """Let somebody in, or give him a new password; needs the rights of the one who started the workbench."""
    add = [str(OPERATOR), "people", "add", name, "--group", "research", "--group", "admins"]
    made = subprocess.run(add, capture_output=True, text=True, check=False)
    if "without root" in made.stderr:
        sys.exit(f"{made.stderr.strip()}\nOr walk as its one person: make demo ARGS='--user admin --password …'")
    if made.returncode != 0:
        again = [str(OPERATOR), "people", "password", name]
        made = subprocess.run(again, capture_output=True, text=True, check=True)
    found = re.search(r"^\s+password\s+(\S+)", made.stdout, re.MULTILINE)
    assert found, made.stdout
    return Person(name, found[1])


PARTS = ("data", "clusters", "track", "schedule", "outlive", "shell", "admin")


def walk(
    url: str, person: Person, pictures: Path, *, dark: bool = False, parts: Sequence[str] = PARTS
) -> dict[str, float]:
    """Log in and walk the path; returns seconds by step. Raises `StepFailed` at the first that does not hold."""
    pictures.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=60_000)
    with chromium(dark=dark) as context:
        page = context.new_page()
        steps = Walk(page, pictures)
        lab = Lab(page)
        log_in_and_start(steps, lab, url, person)
        walks: dict[str, Callable[[], None]] = {
            "data": lambda: explore_data(steps, lab),
            "clusters": lambda: run_clusters(steps, lab),
            "track": lambda: track_and_register(steps, lab),
            "schedule": lambda: schedule(steps, lab),
            "outlive": lambda: outlive_the_server(steps, lab, url, person),
            "shell": lambda: from_a_shell(steps, url, person),
            "admin": lambda: as_admin(steps, url),
        }
        for part in parts:
            walks[part]()
        return steps.seconds


def log_in_and_start(steps: Walk, lab: Lab, url: str, person: Person) -> None:
    page = steps.page
    with steps.step("Login page"):
        page.goto(url)
        page.locator("input[name=username]").wait_for()
    with steps.step("Log in and see the profiles"):
        page.locator("input[name=username]").fill(person.name)
        page.locator("input[name=password]").fill(person.password)
        page.locator("input[name=password]").press("Enter")
        page.wait_for_url(re.compile("/hub/spawn|/user/"))
        if "/user/" in page.url:  # left running by an earlier walk
            stop_server(page, url)
            page.goto(f"{url}/hub/spawn")
        expect(page.get_by_role("heading", name="Start your server")).to_be_visible()
        for text in ("Small", "0.05", "1 CPU", "2 GB", "One GPU", "left"):
            expect(page.get_by_text(text, exact=False).first).to_be_visible()
    with steps.step("Start Small and open Lab"):
        page.get_by_role("button", name="Start", exact=False).first.click()
        lab.wait_until_ready()
        lab.reset()
    with steps.step("Launcher cards and status bar"):
        for card in ("Data", "Clusters", "Experiments", "Jobs", "Welcome notebook"):
            expect(lab.card(card)).to_be_visible()
        expect(page.locator("#jp-main-statusbar").get_by_text(re.compile(r"Small · .*GB"))).to_be_visible()


def stop_server(page: Page, url: str) -> None:
    page.goto(f"{url}/hub/home", wait_until="commit")  # a click as early as can be
    page.locator("#stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("link", name="Start Your server")).to_be_visible(timeout=60_000)


def explore_data(steps: Walk, lab: Lab) -> None:
    page = steps.page
    with steps.step("Data panel lists warehouse and lake"):
        lab.card("Data").click()
        panel = lab.open_panel("Data")
        for name in ("warehouse", "lake"):
            expect(panel.get_by_role("treeitem", name=name, exact=True)).to_be_visible()
    with steps.step("Tables and columns of the warehouse"):
        panel.get_by_role("treeitem", name="warehouse", exact=True).locator(".lw-row-main").click()
        schema = panel.get_by_role("treeitem", name="public", exact=True)
        schema.wait_for()
        if schema.get_attribute("aria-expanded") != "true":
            schema.locator(".lw-row-main").click()
        flights = panel.get_by_role("treeitem", name="flights", exact=True).first
        expect(flights).to_contain_text(re.compile(r"336"))
        flights.locator(".lw-row-main").click()
        expect(panel.get_by_text("arr_delay").first).to_be_visible()
    with steps.step("Preview 100 rows"):
        flights.hover()
        flights.get_by_role("button", name="Preview").click()
        expect(page.get_by_role("region", name="Rows of flights").locator("tbody tr")).to_have_count(100)
    with steps.step("Insert query and run it"):
        flights.hover()
        flights.get_by_role("button", name="Insert query").click()
        cell = lab.notebook.locator(".jp-CodeCell").filter(has_text="%%sql warehouse").first
        text = lab.wait_for_cell(cell)
        assert "carrier" in text, text
    with steps.step("The same by hand, as a DataFrame"):
        lab.run_cell("%connect")
        lab.run_cell(
            "%%sql warehouse -o flights\nSELECT month, day, carrier, dep_delay, arr_delay, distance, dest\n"
            "FROM flights WHERE carrier = 'UA' AND arr_delay IS NOT NULL"
        )
        text = lab.run_cell("type(flights).__name__, len(flights)")
        assert "DataFrame" in text, text
        assert int(re.findall(r"\d+", text.replace(",", " ").split("DataFrame")[1])[0]) > 50_000, text
    with steps.step("No credential in the kernel"):
        text = lab.run_cell(
            "import os; [name for name, value in os.environ.items()"
            " if 'postgres' in value.lower() or 'PGPASS' in name or 'scram' in value.lower()]"
        )
        assert "[]" in text, text


def run_clusters(steps: Walk, lab: Lab) -> None:
    with steps.step("Start Dask from the panel"):
        panel = lab.open_panel("Clusters")
        panel.get_by_role("button", name="New cluster").click()
        form = panel.get_by_role("form", name="Start a cluster")
        expect(form).to_contain_text("€/h")
        form.get_by_role("button", name="Start Dask").click()
        dask = panel.locator("li.lw-card").filter(has_text=re.compile("dask", re.IGNORECASE)).first
        dask.wait_for()
        expect(dask).to_contain_text(re.compile(r"2\s*/\s*2"), timeout=120_000)
    with steps.step("Compute on Dask"):
        text = lab.run_cell(
            "import dask.dataframe as dd\n"
            "late = client.submit(lambda frame: float((frame['arr_delay'] > 15).mean()), flights)\n"
            "round(late.result(), 3), len(client.scheduler_info()['workers'])",
            seconds=120,
        )
        assert re.search(r"0\.\d+, 2\)", text), text
    with steps.step("Start Spark with the magic"):
        lab.run_cell("%cluster start spark", seconds=180)
        spark = panel.locator("li.lw-card").filter(has_text=re.compile("spark", re.IGNORECASE)).first
        expect(spark).to_contain_text(re.compile("running", re.IGNORECASE), timeout=60_000)
    with steps.step("Compute on Spark"):
        text = lab.run_cell(
            "spark.createDataFrame(flights[['carrier', 'dest', 'arr_delay']].head(5000))"
            ".groupBy('dest').count().count()",
            seconds=180,
        )
        assert int(text.split()[-1]) > 10, text
    with steps.step("Both show in the panel; stop them"):
        for engine in ("spark", "dask"):
            card = panel.locator("li.lw-card").filter(has_text=re.compile(engine, re.IGNORECASE)).first
            card.get_by_role("button", name="Stop").click()
            steps.page.locator(".jp-Dialog").get_by_role("button", name="Stop").click()
            expect(card).not_to_contain_text(re.compile("running", re.IGNORECASE), timeout=60_000)


def track_and_register(steps: Walk, lab: Lab) -> None:
    page = steps.page
    with steps.step("Open the example notebook"):
        lab.upload(EXAMPLE)
        lab.open_file(EXAMPLE.name)
    with steps.step("Track, fit and register a model"):
        lab.run_all(seconds=240)
        text = lab.notebook.locator(".jp-CodeCell").last.inner_text()
        assert re.search(r"version\s+\d+", text), text
    with steps.step("A second run to compare with"):
        lab.run_all(seconds=240)
    with steps.step("Experiments panel: runs and the registered model"):
        panel = lab.open_panel("Experiments")
        expect(panel.get_by_role("region", name="Registered models")).to_contain_text("late-flights", timeout=60_000)
        panel.get_by_role("region", name="Experiments").get_by_text("late-flights").first.click()
        runs = panel.get_by_role("region", name="Runs").locator("tbody tr")
        expect(runs.nth(1)).to_be_visible()
    with steps.step("Compare two runs with a plot"):
        for row in range(2):
            runs.nth(row).get_by_role("checkbox").check()
        panel.get_by_role("button", name=re.compile("^Compare")).click()
        expect(page.get_by_role("region", name="Metric plot")).to_be_visible()
        expect(page.get_by_role("region", name="Notebooks")).to_contain_text("Both had the same source")


def schedule(steps: Walk, lab: Lab) -> None:
    page = steps.page
    with steps.step("Schedule form from the typed parameters"):
        page.locator(".lm-TabBar-tab").filter(has_text=EXAMPLE.name).first.click()
        lab.notebook.get_by_role("button", name="Schedule").click()
        form = page.locator("form.lw-form:visible")
        expect(form.get_by_label("carrier")).to_have_value("UA")
        expect(form.get_by_label("month")).to_have_value("7")
    with steps.step("Run now and every day at 06:00"):
        form.get_by_label("carrier").fill("AA")
        for box in (
            form.get_by_label("Run now"),
            form.get_by_label(re.compile("repeat|on a schedule|schedule", re.I)).first,
        ):
            box.set_checked(True)
        expect(form.locator(".lw-next li")).to_have_count(3)
        form.get_by_role("button", name=re.compile("^(Schedule|Change schedule)$")).click()  # walked before
    with steps.step("The run goes to succeeded"):
        view = page.locator(".lw-view:visible").first
        expect(view).to_contain_text(re.compile("succeeded", re.IGNORECASE), timeout=240_000)
    with steps.step("Its output notebook"):
        expect(view.locator(".lw-notebook-host")).to_contain_text("Tracking is on")
    with steps.step("Its resources and source"):
        view.get_by_role("tab", name="Resources").click()
        expect(view.get_by_role("region", name="Time by cell")).to_be_visible()
        view.get_by_role("tab", name="Source & diff").click()
        expect(view).to_contain_text("The notebook is as it was when this run began.")
    with steps.step("Jobs panel"):
        panel = lab.open_panel("Jobs")
        expect(panel.get_by_text("late_flights").first).to_be_visible()


def outlive_the_server(steps: Walk, lab: Lab, url: str, person: Person) -> None:
    """A schedule fires while nobody's server runs. The nearest minute is the clock here."""
    page = steps.page
    with steps.step("Schedule a run for the next minute"):
        lab.upload(CHECKOUT / "examples" / "quick.ipynb")
        lab.open_file("quick.ipynb")
        text = lab.run_cell('%schedule quick.ipynb --name every-minute --cron "* * * * *" --zone Europe/Berlin')
        assert "every-minute" in text, text
    with steps.step("Stop the server"):
        stop_server(page, url)
    with steps.step("The schedule still fires and succeeds"):
        env = shell(url, person)
        wait_until(lambda: "succeeded" in labwright(env, "jobs", "runs", "every-minute").stdout, "a run", seconds=150)
        assert labwright(env, "jobs", "delete", "every-minute", "--yes").returncode == 0


def from_a_shell(steps: Walk, url: str, person: Person) -> None:
    env = shell(url, person)
    with steps.step("labwright run succeeds with 0"):
        done = labwright(env, "run", str(EXAMPLE), "-p", "carrier=UA", "--wait")
        assert done.returncode == 0, done.stdout + done.stderr
    with steps.step("A misspelt parameter ends with 2 and is named"):
        done = labwright(env, "run", str(EXAMPLE), "-p", "carier=UA", "--wait")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "carier" in done.stderr, done.stderr
    with steps.step("A notebook that raises ends with 1 and names the cell"):
        done = labwright(env, "run", str(FAILING), "--wait")
        assert done.returncode == 1, done.stdout + done.stderr
        assert re.search(r"cell \d+", done.stdout + done.stderr), done.stdout + done.stderr


def as_admin(steps: Walk, url: str) -> None:
    page = steps.page
    with steps.step("Admin: usage, cost and audit"):
        page.goto(f"{url}/services/core/admin")
        for text in ("late-flights", "job.create", "query", "cluster."):
            expect(page.get_by_text(text, exact=False).first).to_be_attached(timeout=60_000)
    with steps.step("Usage as CSV"), page.expect_download() as download:
        page.get_by_role("link", name=re.compile("CSV")).first.click()
    text = Path(download.value.path()).read_text()
    assert "user" in text.splitlines()[0].split(","), text[:200]
    assert len(text.splitlines()) > 1, text[:200]


_shells: dict[str, dict[str, str]] = {}


def shell(url: str, person: Person) -> dict[str, str]:
    """The environment of a shell that has logged in, with a home of its own."""
    if person.name not in _shells:
        home = CHECKOUT / "var" / "demo" / "home"
        home.mkdir(parents=True, exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("LABWRIGHT", "JUPYTER"))}
        env = {**kept, "HOME": str(home), "LABWRIGHT_PASSWORD": person.password}
        done = labwright(env, "login", "--url", url, "--user", person.name)
        assert done.returncode == 0, done.stderr
        env.pop("LABWRIGHT_PASSWORD")
        _shells[person.name] = env
    return _shells[person.name]


def labwright(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LABWRIGHT), *arguments], env=env, capture_output=True, text=True, check=False, timeout=300
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Walk the golden path against a running workbench.")
    parser.add_argument("--url", default=settings_for(None, None).public_url, help="default: where it was started last")
    parser.add_argument("--user", default="demo")
    parser.add_argument("--password", default=os.environ.get("LABWRIGHT_PASSWORD"))
    parser.add_argument("--pictures", type=Path, default=CHECKOUT / "var" / "demo")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="of the path, after the login")
    options = parser.parse_args()
    person = Person(options.user, options.password) if options.password else admit(options.user)
    started = time.perf_counter()
    try:
        seconds = walk(options.url.rstrip("/"), person, options.pictures, dark=options.dark, parts=options.parts)
    except NoBrowser as missing:
        sys.exit(str(missing))
    except StepFailed as failure:
        sys.exit(f"{failure}\nPictures are in {options.pictures}")
    print(f"{len(seconds)} steps in {time.perf_counter() - started:.0f} s; pictures in {options.pictures}")


if __name__ == "__main__":
    sys.exit(main())
