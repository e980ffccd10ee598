"""Write src/api/models.ts from the pydantic models of labwright.api, so that the panels speak the services' contract.

    python extensions/lab/scripts/models.py            # writes
    python extensions/lab/scripts/models.py --check    # exits 1 when the file is not what it would write
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

TARGET = Path(__file__).resolve().parent.parent / "src" / "api" / "models.ts"
MODULES = ("jobs", "clusters", "connections", "usage", "events")
HEAD = "// Made by scripts/models.py from labwright.api. Do not edit: run `make lab-models`.\n"


def wire_models() -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for name in MODULES:
        module = importlib.import_module(f"labwright.api.{name}")
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, BaseModel) and item.__module__ == module.__name__:
                found[item.__name__] = item
    found.pop("Wire", None)
    return [found[name] for name in sorted(found)]


def typescript(schema: dict[str, Any]) -> str:
    """The TypeScript type of one JSON Schema."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "const" in schema:
        return literal(schema["const"])
    if "enum" in schema:
        return " | ".join(literal(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(typescript(each) for each in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        inner = typescript(schema.get("items", {}))
        return f"({inner})[]" if " | " in inner else f"{inner}[]"
    if kind == "object":
        values = schema.get("additionalProperties", {})
        return f"Record<string, {typescript(values if isinstance(values, dict) else {})}>"
    simple = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
    return simple.get(str(kind), "unknown")


def literal(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


def interface(name: str, schema: dict[str, Any], asked: bool) -> str:
    """An interface; what has a default may be left out of a request and is always there in an answer."""
    lines = []
    for field, inner in schema.get("properties", {}).items():
        if text := inner.get("description"):
            lines.append(f"  /** {text} */")
        optional = "?" if asked and field not in schema.get("required", []) else ""
        lines.append(f"  {field}{optional}: {typescript(inner)};")
    return f"export interface {name} {{\n" + "\n".join(lines) + "\n}\n"


def is_request(name: str) -> bool:
    return name.endswith(("Request", "Update", "Scale")) or name in ("Policy", "NotebookInput", "Origin", "Ask")


def render() -> str:
    models = wire_models()
    _, whole = models_json_schema([(model, "validation") for model in models])
    definitions = whole["$defs"]
    return HEAD + "\n" + "\n".join(interface(name, definitions[name], is_request(name)) for name in sorted(definitions))


def main() -> None:
    text = render()
    if "--check" in sys.argv:
        if not TARGET.exists() or TARGET.read_text() != text:
            sys.exit("src/api/models.ts is not what labwright.api says; run `make lab-models`.")
        return
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
