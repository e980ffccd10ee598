"""Notebooks as they come from outside: checked before they are stored, and put together while they run (pure)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import nbformat
from nbformat.validator import NotebookValidationError, validate

from labwright.api.errors import BadNotebook, InvalidRequest

MAX_CELLS = 10_000
MAX_DEPTH = 100
REMEDY = "Open it in Lab, save it, and try again."


def canonical(content: Mapping[str, Any]) -> bytes:
    """The notebook as the bytes that are stored and hashed; `BadNotebook` for what JSON does not have."""
    try:
        return json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError, UnicodeEncodeError) as error:
        what = {RecursionError: "is nested too deeply", UnicodeEncodeError: "holds text that is not Unicode"}.get(
            type(error), "holds a number that JSON does not have (NaN or infinity)"
        )
        raise BadNotebook(f"The notebook {what}.", remedy=REMEDY) from None


def scrubbed(value: Any) -> Any:
    """Outputs as JSON can carry them: NaN and infinities (plots are full of them) become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {key: scrubbed(item) for key, item in value.items()}
    return value


def output_bytes(content: Any) -> bytes:
    """What a run shows, as bytes: never refused for what a kernel printed, lone surrogates included."""
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(scrubbed(content), separators=(",", ":")).encode()


def check(content: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a valid notebook of nbformat 4, or `BadNotebook` with what is wrong."""
    data = canonical(content)
    if content.get("nbformat") != 4:
        raise BadNotebook("This is not a notebook of format 4.", remedy="Give the JSON of an .ipynb file (nbformat 4).")
    if depth(content, MAX_DEPTH) > MAX_DEPTH:
        raise BadNotebook("The notebook is nested too deeply.", remedy=REMEDY)
    cells = content.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise BadNotebook("The notebook has no list of cells.", remedy=REMEDY)
    if len(cells) > MAX_CELLS:
        raise BadNotebook(f"The notebook has more than {MAX_CELLS} cells.", remedy="Split it.")
    try:
        validate(nbformat.from_dict(content), relax_add_props=True)  # type: ignore[no-untyped-call]
    except NotebookValidationError as error:
        what = str(error).splitlines()[0][:200] if str(error) else "it does not follow the format"
        raise BadNotebook(f"The notebook is not valid: {what}", remedy=REMEDY) from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise BadNotebook("The notebook does not follow the format.", remedy=REMEDY) from None
    return data


def depth(value: Any, limit: int) -> int:
    """How deeply lists and mappings nest, counted to just over `limit`."""
    level, row = 0, [value]
    while row and level <= limit:
        level += 1
        row = [
            inner
            for item in row
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return level


def safe_path(path: str) -> str:
    """A notebook's path relative to its owner's home, normalised; refuses whatever points out of it."""
    parts = PurePosixPath(path).parts
    bad = (
        not path
        or len(path) > 1024
        or path.startswith(("/", "~"))
        or "\\" in path
        or ".." in parts
        or any(ord(character) < 32 or ord(character) == 127 for character in path)
    )
    if bad or not parts or not path.isprintable():
        raise InvalidRequest(
            "The notebook's path must stay inside your home.",
            remedy="Give it relative to your home, without '..', for example reports/late.ipynb.",
        )
    if not path.endswith(".ipynb"):
        raise InvalidRequest(f"'{path[:100]}' is not a notebook.", remedy="Give a file that ends in .ipynb.")
    return str(PurePosixPath(*parts))


def kernel_name(content: Mapping[str, Any]) -> str:
    return str(content.get("metadata", {}).get("kernelspec", {}).get("name") or "python3")


def code_cells(content: Mapping[str, Any]) -> int:
    return sum(cell.get("cell_type") == "code" for cell in content["cells"])


def assemble(base: Mapping[str, Any], cells: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The notebook as far as it has run: `base` with the cells that have come so far in their places."""
    merged = [cells.get(index, cell) for index, cell in enumerate(base["cells"])]
    return {**base, "cells": merged}
