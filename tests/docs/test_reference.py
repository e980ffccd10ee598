"""The pages under docs/reference are what the code says now, and the links of the documentation lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def test_the_reference_is_what_the_code_says() -> None:
    # In a process of its own: the magics load themselves into an IPython shell, of which a process has one.
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "docs" / "build_reference.py"), "--check"],
        env={**os.environ, "FORCE_COLOR": "1"},  # as in kernels, where nothing may colour a magic's help
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_between_pages_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target for target, _anchor in LINK.findall(text) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing, f"{page.name} links to {missing}"


def test_every_test_that_the_list_of_checks_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", (CHECKOUT / "docs" / "checks.md").read_text())
    assert len(named) > 80
    missing = [
        (file, test)
        for file, test in named
        if not (CHECKOUT / file).is_file() or (test and f"def {test}(" not in (CHECKOUT / file).read_text())
    ]
    assert missing == []
