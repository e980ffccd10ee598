"""The command line. `labwright --help` lists the verbs; each part registers its own by entry point.

The group `labwright.commands` in pyproject.toml maps a verb to a click command, which is a function of its module. The
list of verbs reads their first lines without importing them; a verb of the services is not listed in a person's
environment, and says where it works when it is called.
"""

from __future__ import annotations

import ast
import sys
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

import click

from labwright.api import __version__
from labwright.api.errors import InvalidRequest, LabwrightError

# Exit codes: 0 done, 1 the work failed, 2 the request was wrong (as click does for usage).
EXIT_FAILED, EXIT_USAGE = 1, 2


class Verbs(click.Group):
    """A group that imports a verb's module only when that verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({entry.name for entry in entry_points(group="labwright.commands") if has_a_place(entry)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group="labwright.commands"):
            if entry.name == cmd_name:
                command: click.Command = entry.load() if has_a_place(entry) else out_of_place(cmd_name)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        entries = sorted(entry for entry in entry_points(group="labwright.commands") if has_a_place(entry))
        width = formatter.width - 6 - max(len(entry.name) for entry in entries)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(entry.name, shorten(first_sentence(entry), width, placeholder="…")) for entry in entries]
            )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabwrightError as error:
            click.echo(f"labwright: {error.sentence()}", err=True)
            sys.exit(EXIT_USAGE if isinstance(error, InvalidRequest) else EXIT_FAILED)


def first_sentence(entry: EntryPoint) -> str:
    """What the function behind an entry point does, from its source: importing all verbs takes half a second."""
    try:
        spec = find_spec(entry.module)
    except ModuleNotFoundError:
        return ""
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    found = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == entry.attr)
    text = next((ast.get_docstring(node) or "" for node in found), "")
    return text.partition("\n\n")[0].partition(". ")[0].rstrip(".") + "."


def has_a_place(entry: EntryPoint) -> bool:
    """Whether the verb can work in this environment: those of the services need theirs."""
    return not entry.value.startswith("labwright.hub.") or find_spec("supervisor") is not None


def out_of_place(verb: str) -> click.Command:
    """Stands for a verb of the services in a person's environment, whatever follows it on the line."""
    text = f"'labwright {verb}' is for who runs the workbench, on its machine."
    remedy = f"Run '.envs/hub/bin/labwright {verb}' in its checkout there, with sudo if root started it."

    @click.command(verb, help=f"{text} {remedy}", context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def command(rest: tuple[str, ...]) -> None:
        raise LabwrightError(text, remedy=remedy)

    return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="labwright")
def main() -> None:
    """Labwright: a Jupyter workbench for teams that build models."""
