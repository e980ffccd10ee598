"""Every magic reads its line alike."""

from __future__ import annotations

import importlib

import pytest

from labwright.api.errors import InvalidRequest
from labwright.magics.registry import MAGICS


@pytest.mark.parametrize("name", MAGICS)
def test_help_is_all_that_help_does_and_a_wrong_line_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = importlib.import_module(MAGICS[name][0]).run
    assert run("--no-such-option --help", None, None) is None
    assert capsys.readouterr().out.startswith(f"usage: %{name} [-h]")
    for line in ("'", "\\", "--no-such-option"):
        with pytest.raises(InvalidRequest, match=f"^%{name}: "):
            run(line, None, None)
