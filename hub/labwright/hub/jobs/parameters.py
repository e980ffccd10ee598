"""The typed parameters of a notebook, read from its cell tagged `parameters` without running it (pure).

    carrier: str = "UA"   # two letters, as the airline writes itself
    month: Literal[6, 7, 8] = 7
    since: date = date(2013, 1, 1)

Papermill's own `inspect` is a regular expression per line that gives type names as text and loses Literal, nested
types and defaults over several lines; this reads the syntax tree.
"""

from __future__ import annotations

import ast
import io
import math
import tokenize
from collections.abc import Mapping
from typing import Any

from labwright.api.errors import BadNotebook
from labwright.api.source import parse

TAG = "parameters"
_SIMPLE: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "List": {"type": "array"},
    "dict": {"type": "object"},
    "Dict": {"type": "object"},
    "None": {"type": "null"},
    "Any": {},
    "date": {"type": "string", "format": "date"},
}
_EMPTY = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def parameters_schema(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema (an object, nothing else allowed) of the notebook's parameters, in the order they are declared."""
    cell = next((cell for cell in notebook["cells"] if _tagged(cell)), None)
    language = notebook.get("metadata", {}).get("language_info", {}).get("name", "python")
    if cell is None or language != "python":
        return dict(_EMPTY)
    source = plain_python(text_of(cell))
    try:
        tree = parse(source)
        comments = comments_by_line(source)
    except (SyntaxError, tokenize.TokenError) as error:
        line = getattr(error, "lineno", None)
        where = f" (line {line})" if line else ""
        raise BadNotebook(
            f"The cell tagged 'parameters' is not valid Python{where}.",
            remedy="Correct the cell, and keep it to assignments.",
        ) from None
    properties: dict[str, Any] = {}
    required: list[str] = []
    for statement in tree.body:
        name, annotation, value = _declaration(statement)
        if name is None or name.startswith("_"):
            continue
        described = _property(annotation, value)
        if text := _described(statement, comments):
            described["description"] = text
        properties[name] = described
        if value is None and name not in required:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def dates(schema: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """The names among `values` that stand for a datetime.date."""
    return [
        name
        for name, value in values.items()
        if value is not None
        and any(
            option.get("format") == "date"
            for option in schema["properties"][name].get("anyOf", [schema["properties"][name]])
        )
    ]


def _tagged(cell: Mapping[str, Any]) -> bool:
    return cell.get("cell_type") == "code" and TAG in (cell.get("metadata", {}).get("tags") or ())


def text_of(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, list) else str(source)


def plain_python(source: str) -> str:
    """The source with IPython's own lines (%magic, !command) blanked, so that line numbers stay."""
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())


def comments_by_line(source: str) -> dict[int, tuple[str, bool]]:
    """Line number -> (comment, whether it stands alone on its line)."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[token.start[0]] = (token.string.lstrip("#").strip(), alone)
    return found


def _described(statement: ast.stmt, comments: Mapping[int, tuple[str, bool]]) -> str:
    """The comment behind the declaration, else the comment lines right above it."""
    last = statement.end_lineno or statement.lineno
    if last in comments and not comments[last][1]:
        return comments[last][0]
    above: list[str] = []
    line = statement.lineno - 1
    while line in comments and comments[line][1]:
        above.insert(0, comments[line][0])
        line -= 1
    return " ".join(above)


def _declaration(statement: ast.stmt) -> tuple[str | None, ast.expr | None, ast.expr | None]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.annotation, statement.value
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, None, statement.value
    return None, None, None


def _property(annotation: ast.expr | None, value: ast.expr | None) -> dict[str, Any]:
    known, default = _literal(value)
    described = _of_annotation(annotation) if annotation is not None else _of_value(default) if known else {}
    if known:
        described["default"] = default
    return described


def _literal(value: ast.expr | None) -> tuple[bool, Any]:
    """Whether the default can be known without running it, and what it is as JSON."""
    if value is None:
        return False, None
    if isinstance(value, ast.Call) and _name(value.func) == "date" and not value.keywords:
        try:
            year, month, day = (int(ast.literal_eval(argument)) for argument in value.args)
        except (ValueError, TypeError):
            return False, None
        return True, f"{year:04d}-{month:02d}-{day:02d}"
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None
    if isinstance(found, tuple):
        found = list(found)
    return (True, found) if _is_json(found) else (False, None)


def _is_json(value: Any) -> bool:
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return math.isfinite(value)
        case list():
            return all(_is_json(item) for item in value)
        case dict():
            return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return False


def _of_value(default: Any) -> dict[str, Any]:
    """The type of an unannotated default; None says nothing about it."""
    match default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
        case dict():
            return {"type": "object"}
    return {}


def _name(expression: ast.expr) -> str:
    if isinstance(expression, ast.Name):
        return expression.id
    if isinstance(expression, ast.Attribute):
        return expression.attr
    if isinstance(expression, ast.Constant) and expression.value is None:
        return "None"
    return ""


def _of_annotation(annotation: ast.expr) -> dict[str, Any]:
    """The schema of an annotation; one that is not understood allows any JSON value."""
    match annotation:
        case ast.Constant(value=str(text)):
            try:
                return _of_annotation(parse(text, "eval").body)
            except SyntaxError:
                return {}
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _any_of([_of_annotation(left), _of_annotation(right)])
        case ast.Subscript(value=outer, slice=inner):
            return _of_generic(_name(outer), inner.elts if isinstance(inner, ast.Tuple) else [inner])
    return dict(_SIMPLE.get(_name(annotation), {}))


def _of_generic(outer: str, inner: list[ast.expr]) -> dict[str, Any]:
    match outer:
        case "Optional":
            return _any_of([_of_annotation(inner[0]), {"type": "null"}])
        case "Union":
            return _any_of([_of_annotation(option) for option in inner])
        case "Literal":
            values = [value for known, value in map(_literal, inner) if known]
            return {"enum": values} if len(values) == len(inner) else {}
        case "list" | "List":
            return {"type": "array", "items": _of_annotation(inner[0])}
        case "dict" | "Dict" if len(inner) == 2:
            return {"type": "object", "additionalProperties": _of_annotation(inner[1])}
        case "Annotated":
            return _of_annotation(inner[0])
    return {}


def _any_of(options: list[dict[str, Any]]) -> dict[str, Any]:
    flat = [inner for option in options for inner in option.get("anyOf", [option])]
    return {} if {} in flat else {"anyOf": flat}
