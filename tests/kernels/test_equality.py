"""Papermill's default engine and ours, on the same notebooks: the outputs must be equal.

Equal but for time stamps, durations, process ids, random ids, addresses, and how a stream is cut into pieces.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import re
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from tests.kernels.equality_notebooks import NOTEBOOKS, Cell
from tests.kernels.running import make_notebook

RANDOM = [
    (re.compile(r"0x[0-9a-f]{6,}"), "ADDRESS"),
    (re.compile(r"ipykernel_\d+/\d+"), "ipykernel_PID/HASH"),
    (re.compile(r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"ident=\d+|Thread-\d+|pid[= ]\d+"), "NUMBER"),
    (re.compile(r"/[^\s'\"]*/(?:ours|theirs)\b"), "FOLDER"),
]
CELL_SECONDS = 60  # none takes more than some two
TIMES = {"start_time", "end_time", "duration", "output_path", "input_path"}


def execute(engine: str | None, source: str, target: str, folder: str) -> str:
    """Run in a process of its own, since papermill changes the working directory. The answer is the error."""
    import papermill

    os.environ["LABWRIGHT_KERNELS_DIRECTORY"] = str(Path(folder).parent / "server")
    Path(folder).mkdir(exist_ok=True)
    # A shell's background job ignores some signals, and what it starts inherits that: both sides begin as in front.
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Seen once: papermill's client waited for ever for a cell of `widgets`, its kernel idle. It may try again.
    more_tries = 2 if engine is None else 0
    while True:
        try:
            papermill.execute_notebook(
                source, target, engine_name=engine, cwd=folder, progress_bar=False, execution_timeout=CELL_SECONDS
            )
        except Exception as error:  # noqa: BLE001 - which one is what is compared
            if more_tries and type(error).__name__ == "CellTimeoutError":
                more_tries -= 1
                continue
            lines = str(error).splitlines() or [""]
            return type(error).__name__ + (": " + lines[-1] if "Execution" in type(error).__name__ else "")
        return ""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """Every notebook that was asked for through both engines, two at a time."""
    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if hasattr(item, "callspec") and "name" in item.callspec.params
    } | {"atexit_and_files", "files_left_open"}
    root = tmp_path_factory.mktemp("equality")
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    futures: dict[tuple[str, str], Future[str]] = {}
    for name, cells in NOTEBOOKS.items():
        if name not in asked:
            continue
        source = root / f"{name}.ipynb"
        nbformat.write(build(cells), source)
        for side, engine in (("ours", "labwright"), ("theirs", None)):
            folder = root / side
            target = root / f"{name}-{side}.ipynb"
            futures[name, side] = pool.submit(execute, engine, str(source), str(target), str(folder))
    yield root, futures
    pool.shutdown(cancel_futures=True)


def build(cells: list[Cell]) -> nbformat.NotebookNode:
    notebook = make_notebook()
    for number, cell in enumerate(cells):
        source, tags = (cell, []) if isinstance(cell, str) else cell
        new = nbformat.v4.new_markdown_cell(source) if source.startswith("# T") else new_code_cell(source)
        new.id = f"cell-{number}"
        new.metadata["tags"] = tags
        notebook.cells.append(new)
    return notebook


def normalise(notebook: dict[str, Any]) -> Any:
    notebook = copy.deepcopy(notebook)
    for cell in notebook["cells"]:
        if "papermill" not in cell["metadata"]:
            cell["id"] = "papermill's own"
        if cell["cell_type"] == "code":
            cell["metadata"]["execution"] = sorted(cell["metadata"].get("execution", {}))
            cell["outputs"] = join_streams(cell["outputs"])
    rename_models(notebook)
    return scrub(notebook)


def join_streams(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring pieces of the same stream become one; stdout and stderr are compared apart."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        text = "".join(output.get("text", []))
        group = []
        for earlier in reversed(joined):
            if earlier["output_type"] != "stream":
                break
            group.append(earlier)
        same = [e for e in group if e["name"] == output.get("name")]
        if output["output_type"] == "stream" and same:
            same[0]["text"] += text
        else:
            joined.append({**output, "text": text} if output["output_type"] == "stream" else output)
    return joined


def rename_models(notebook: dict[str, Any]) -> None:
    """Widget models have random ids, and are stored in their order: compare the models without."""
    widgets = notebook["metadata"].get("widgets", {})
    for kind in widgets.values():
        texts = (json.dumps(state, sort_keys=True) for state in kind["state"].values())
        kind["state"] = sorted(re.sub(r"[0-9a-f]{32}", "MODEL", text) for text in texts)


def scrub(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: scrub(v) for k, v in value.items() if k not in TIMES}
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if isinstance(value, str):
        for pattern, name in RANDOM:
            value = pattern.sub(name, value)
    return value


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_comes_out_equal(name, runs):
    root, futures = runs
    errors = {side: futures[name, side].result(timeout=240) for side in ("ours", "theirs")}
    ours, theirs = (normalise(json.loads((root / f"{name}-{side}.ipynb").read_text())) for side in ("ours", "theirs"))
    assert errors["ours"] == errors["theirs"]
    assert not difference(ours, theirs)


def difference(ours: Any, theirs: Any) -> str:
    """The lines that only one side has."""
    texts = [json.dumps(side, indent=1, sort_keys=True, ensure_ascii=False) for side in (theirs, ours)]
    lines = difflib.unified_diff(*(text.splitlines() for text in texts), "papermill", "labwright", n=0, lineterm="")
    return "\n".join(lines)


def test_what_runs_at_exit_has_run_on_both_sides(runs):
    root, futures = runs
    for side in ("ours", "theirs"):
        futures["atexit_and_files", side].result(timeout=180)
        assert (root / side / "eq-left-open.txt").read_text() == "flushed at exit"
        assert (root / side / "eq-atexit.txt").read_text() == "ran"


def test_what_was_written_to_files_left_open_is_in_them_on_both_sides(runs):
    root, futures = runs
    for side in ("ours", "theirs"):
        futures["files_left_open", side].result(timeout=180)
        found = {path.name.removeprefix("eq-open-"): path.read_text() for path in (root / side).glob("eq-open-*")}
        assert found == {name: name for name in ("builtins", "class", "cycle", "handler", "last", "module", "stdio")}


def test_the_suite_is_as_large_as_promised():
    assert len(NOTEBOOKS) >= 40
