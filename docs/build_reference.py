"""Write docs/reference/ from the code: configuration, API, magics and command line.

make docs            # writes the pages
make docs CHECK=1    # fails when a page is not what the code says
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
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
    lines = ["# Magics\n", "Loaded in every kernel; `%name --help` prints what stands here.", ""]
    for name, (_module, kinds) in sorted(MAGICS.items()):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if "line" in kinds:
                shell.run_line_magic(name, "--help")
            else:
                shell.run_cell_magic(name, "--help", "")
        lines += [f"## `{'%' if 'line' in kinds else '%%'}{name}`\n", "```text", out.getvalue().strip(), "```", ""]
    return "\n".join(lines)


def command_line_page() -> str:
    """`labwright --help` and the help of every verb."""
    from labwright.api.commands import main

    lines = ["# Command line\n"]
    visit(main, "labwright", lines)
    return "\n".join(lines)


def visit(command: click.Command, path: str, lines: list[str]) -> None:
    context = click.Context(command, info_name=path, max_content_width=100)
    lines += [f"## `{path}`\n", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                visit(child, f"{path} {name}", lines)


PAGES = {
    "configuration.md": configuration_page,
    "api.md": api_page,
    "magics.md": magics_page,
    "command-line.md": command_line_page,
}


def main() -> None:
    check = "--check" in sys.argv
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
