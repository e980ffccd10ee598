"""Write docs/reference/ from the code: configuration, API, magics and command line.

make docs                                # writes the pages
python docs/build_reference.py --check   # fails when a page is not what the code says
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
GENERATED = "<!-- Written by docs/build_reference.py from the code; edit that, not this. -->\n\n"


def configuration_page() -> str:
    """config/workbench.yaml, from its JSON Schema."""
    schema = json.loads((ROOT / "config" / "workbench.schema.json").read_text())
    lines = ["# `config/workbench.yaml`\n", schema.get("description", ""), ""]
    lines += properties_table(schema)
    for name, definition in sorted(schema.get("$defs", {}).items()):
        if "properties" in definition:
            lines += [f"\n## {name}\n", definition.get("description", ""), "", *properties_table(definition)]
    return "\n".join(lines)


def properties_table(schema: dict[str, Any]) -> list[str]:
    rows = ["| field | type | default | what |", "|---|---|---|---|"]
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else f"`{json.dumps(field.get('default'))}`"
        rows.append(f"| `{name}` | {type_of(field)} | {default} | {field.get('description', '')} |")
    return rows


def type_of(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return f"[{(name := field['$ref'].rsplit('/', 1)[-1])}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(type_of(option) for option in field["anyOf"])
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    kind = field.get("type", "any")
    if kind == "array":
        return f"list of {type_of(field.get('items', {}))}"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"map to {type_of(field['additionalProperties'])}"
    return str(kind)


def api_page() -> str:
    """Every route of core and data, from their OpenAPI documents."""
    lines = ["# HTTP API\n", "Errors are `application/problem+json` with `code`, `detail` and `remedy`.", ""]
    for title, document in openapi_documents().items():
        lines += [f"## {title}\n", "| route | what | body | answer |", "|---|---|---|---|"]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                what = (operation.get("description") or operation.get("summary") or "").split("\n")[0]
                body, answer = schema_name(operation.get("requestBody")), answer_of(operation)
                lines.append(f"| `{method.upper()} {path}` | {what} | {body} | {answer} |")
        lines.append("")
    return "\n".join(lines)


def openapi_documents() -> dict[str, dict[str, Any]]:
    return {name: importlib.import_module(f"labwright.hub.{name}.openapi").document() for name in ("core", "data")}


def schema_name(body: dict[str, Any] | None) -> str:
    for content in (body or {}).get("content", {}).values():
        if name := content.get("schema", {}).get("$ref"):
            return f"`{name.rsplit('/', 1)[-1]}`"
    return ""


def answer_of(operation: dict[str, Any]) -> str:
    for status, answer in operation.get("responses", {}).items():
        if status.startswith("2"):
            return f"{status} {schema_name(answer)}".strip()
    return ""


def magics_page() -> str:
    """Each magic's own --help."""
    from IPython.core.interactiveshell import InteractiveShell

    from labwright.magics.registry import MAGICS, load_ipython_extension

    shell = InteractiveShell.instance()
    load_ipython_extension(shell)
    lines = ["# Magics\n", "Loaded in every kernel; `%name --help` prints what stands here. In a magic's line a `#`"]
    lines += ["after a space begins a comment, as in Python; in the SQL of `%sql` it does not.", ""]
    for name, (module, kinds) in sorted(MAGICS.items()):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            for line in ("--help", *(f"{verb} --help" for verb in verbs_of(module))):
                shell.run_line_magic(name, line)
                print()
        title = " and ".join(f"`{'%' * (1 + (kind == 'cell'))}{name}`" for kind in kinds)
        lines += [f"## {title}\n", "```text", out.getvalue().strip(), "```", ""]
    return "\n".join(lines)


def verbs_of(module: str) -> Sequence[str]:
    """The words that a magic's line begins with, such as `start` of `%cluster start`."""
    verbs: Sequence[str] = getattr(importlib.import_module(module), "VERBS", ())
    return verbs


def command_line_page() -> str:
    """`labwright --help` and the help of every verb."""
    from labwright.api.commands import main

    lines = ["# Command line\n"]
    visit(main, "labwright", None, lines)
    return "\n".join(lines)


def visit(command: click.Command, name: str, parent: click.Context | None, lines: list[str]) -> None:
    """Its help and that of its verbs, as on a terminal of 100 columns."""
    settings = {"terminal_width": 100, **command.context_settings}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    lines += [f"## `{context.command_path}`\n", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                visit(child, name, context, lines)


PAGES = {
    "configuration.md": configuration_page,
    "api.md": api_page,
    "magics.md": magics_page,
    "command-line.md": command_line_page,
}


def main() -> None:
    check = "--check" in sys.argv
    os.environ["COLUMNS"] = "100"  # argparse wraps its help to the terminal, which is not the code's
    REFERENCE.mkdir(parents=True, exist_ok=True)
    stale = []
    for name, build in PAGES.items():
        text = GENERATED + build().strip() + "\n"
        page = REFERENCE / name
        if check and (not page.exists() or page.read_text() != text):
            stale.append(name)
        elif not check:
            page.write_text(text)
    if stale:
        sys.exit(f"docs/reference is not what the code says: {', '.join(stale)}. Run make docs.")


if __name__ == "__main__":
    main()
