"""The command line in a person's environment: Lab's terminals have it on the path."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from workbench import CHECKOUT


def in_a_persons_environment(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(CHECKOUT / ".envs" / "user" / "bin" / "labwright"), *arguments]
    nowhere = {**os.environ, "LABWRIGHT_HOME": "/nonexistent"}
    return subprocess.run(command, env=nowhere, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("call", ["people list", "config check --file x", "doctor", "down", "up --port 9000 --wait"])
def test_a_verb_for_who_runs_the_workbench_says_so_elsewhere(call: str) -> None:
    verb = call.split()[0]
    done = in_a_persons_environment(*call.split())
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"labwright: 'labwright {verb}' is for who runs the workbench, on its machine.")
    assert f".envs/hub/bin/labwright {verb}" in done.stderr


def test_the_list_of_verbs_has_those_that_work_here() -> None:
    listed = in_a_persons_environment("--help").stdout.partition("Commands:")[2]
    verbs = {line.split()[0] for line in listed.splitlines() if line.strip()}
    assert {"jobs", "run", "login", "usage"} <= verbs
    assert verbs & {"people", "config", "doctor", "down", "up"} == set()
    assert "is for who runs the workbench" in " ".join(in_a_persons_environment("people", "--help").stdout.split())


def test_login_names_the_hubs_page_as_its_menu_does() -> None:
    menu = (CHECKOUT / "hub" / "labwright" / "hub" / "templates" / "page.html").read_text()
    link = re.search(r'href="{{ base_url }}token"[^>]*>(\w+)</a>', menu)
    assert link
    assert f"the hub's page '{link[1]}'" in " ".join(in_a_persons_environment("login", "--help").stdout.split())
