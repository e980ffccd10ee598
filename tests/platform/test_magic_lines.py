"""Every magic reads its line alike."""

from __future__ import annotations

import importlib

import pytest

from labwright.api.errors import InvalidRequest
from labwright.magics.line_parser import LineParser
from labwright.magics.registry import MAGICS


@pytest.mark.parametrize("name", MAGICS)
def test_help_is_all_that_help_does_and_a_wrong_line_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = importlib.import_module(MAGICS[name][0]).run
    assert run("--no-such-option --help", None, None) is None
    assert capsys.readouterr().out.startswith(f"usage: %{name} [-h]")
    for line in ("'", "\\", "--no-such-option"):
        with pytest.raises(InvalidRequest, match=f"^%{name}: "):
            run(line, None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("late-flights  # begins a run", ["late-flights"]),
        ("late\t#", ["late"]),
        ("# nothing else", []),
        ("late # it isn't a quote, nor \\", ["late"]),
        ("show JOB#3", ["show", "JOB#3"]),
        ("show JOB#3 # its third run", ["show", "JOB#3"]),
        ("'late flights'#2", ["late flights#2"]),
        ('title="# 1"', ["title=# 1"]),
        ('\'title= # 1\' "say \\" # 2"  # 3', ["title= # 1", 'say " # 2']),
        (r"\#1 a\ #b", ["#1", "a #b"]),
        ("", []),
    ],
)
def test_a_comment_begins_where_python_and_a_shell_begin_one(line: str, words: list[str]) -> None:
    parser = LineParser(prog="%some")
    parser.add_argument("words", nargs="*")
    found = parser.parse_line(line)
    assert found is not None
    assert found.words == words


def test_quotes_that_do_not_end_are_refused_whatever_stands_behind_them() -> None:
    with pytest.raises(InvalidRequest, match="No closing quotation"):
        LineParser(prog="%some").parse_line("'late # flights")
