"""The hub's pages and the admin's, by the rules of axe, in light and dark."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe import faults
from workbench import RunningWorkbench

from tests.golden.steps import chromium

pytestmark = pytest.mark.browser

# JupyterHub's own program, which draws the table of people.
NOT_OURS = "#react-admin-hook"
PAGES = ("/hub/spawn/admin/another", "/hub/home", "/hub/token", "/hub/admin", "/services/core/admin", "/hub/nowhere")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_on_the_pages_outside_of_lab(workbench: RunningWorkbench, dark: bool) -> None:
    url = workbench.settings.public_url
    person = workbench.log_in()
    person.start_server()
    person.wait_for_server()  # something runs, and has cost something
    found: dict[str, Any] = {}
    with chromium(dark=dark) as context:
        page = context.new_page()
        page.goto(f"{url}/hub/login")
        found["login"] = faults(page)
        page.locator("input[name=username]").fill("admin")
        page.locator("input[name=password]").fill(workbench.passwords["admin"])
        page.locator("input[name=password]").press("Enter")
        page.wait_for_url(re.compile("/hub/|/user/"))
        for path in PAGES:
            page.goto(url + path)
            page.wait_for_load_state("networkidle")
            found[path] = faults(page, leave_out=NOT_OURS)
    person.stop_server()
    assert not any(found.values()), "\n".join(f"{name}: {line}" for name, lines in found.items() for line in lines)
