"""The acceptance test: a newcomer's whole way, in a real browser against a real workbench."""

from __future__ import annotations

from pathlib import Path

import pytest
from workbench import reachable_folder, running_workbench

from tests.golden.golden_path import Person, walk

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.browser
@pytest.mark.uid
@pytest.mark.slow
def test_the_golden_path_holds_from_login_to_the_audit_trail() -> None:
    with reachable_folder() as folder, running_workbench(folder / "home") as workbench:
        workbench.add_person("demo", "research", "admins")
        person = Person("demo", workbench.passwords["demo"])
        seconds = walk(workbench.settings.public_url, person, CHECKOUT / "var" / "golden")
    assert len(seconds) >= 25
