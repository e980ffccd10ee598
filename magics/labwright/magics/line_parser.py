"""How a magic reads its line: argparse with our errors, without an exit, and with the same help on each Python."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any, NoReturn

from labwright.api.errors import InvalidRequest

# Whole words as shlex takes them, up to a '#' that begins one. shlex's own comments begin inside of words too: JOB#3.
WORDS = re.compile(r"""(?:\s+|(?!\#)(?:[^\s\\'"]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+)*""", re.DOTALL)


class HelpFormatter(argparse.HelpFormatter):
    """`-n, --workers WORKERS`, where argparse before Python 3.13 repeats the value after each name."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, action.dest.upper())}"


class LineParser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=HelpFormatter, add_help=False, **options)
        self.color = False  # else Python 3.14 colours help in kernels, as ipykernel sets FORCE_COLOR
        self.add_argument("-h", "--help", action="help", help="show this")

    def error(self, message: str) -> NoReturn:
        raise InvalidRequest(f"{self.prog}: {message}.", remedy=f"Type {self.prog} --help.")

    def parse_line(self, line: str) -> argparse.Namespace | None:
        """The arguments, or None when help was asked for, which is printed."""
        try:
            return self.parse_args(shlex.split(without_comment(line)))
        except ValueError as error:
            raise InvalidRequest(f"{self.prog}: {error}.", remedy="Check the quotes and backslashes.") from None
        except SystemExit:  # the end of argparse's --help, and of nothing else
            return None


def without_comment(line: str) -> str:
    """The line up to a '#' outside of quotes with white space, or nothing, before it."""
    words = WORDS.match(line)
    end = words.end() if words else 0
    return line[:end] if line.startswith("#", end) else line
