"""`papermill --engine labwright` beside papermill's own engine: where it writes, when, and how it ends."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from tests.kernels.running import make_notebook

SOON = 4.0  # less than a kernel may take to end by itself, and more than it takes on a busy machine
AT_EXIT = "import atexit, pathlib, time\n_ = atexit.register(lambda: pathlib.Path('atexit').touch())"
SLEEPING = "try:\n    pathlib.Path('began').touch()\n    time.sleep(60)\nfinally:\n    pathlib.Path('finally').touch()"
DEAF = "pathlib.Path('began').touch()\nwhile True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: pass"


@pytest.fixture
def folder(tmp_path, monkeypatch, fork_server):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABWRIGHT_KERNELS_DIRECTORY", str(fork_server.directory))
    return tmp_path


@pytest.fixture(params=["papermill's own", "labwright"])
def engine(request):
    return None if request.param == "papermill's own" else request.param


def execute(*sources: str, output: str = "out.ipynb", engine: str | None = "labwright", **options: object) -> None:
    nbformat.write(make_notebook(*sources), "in.ipynb")
    papermill.execute_notebook("in.ipynb", output, engine_name=engine, progress_bar=False, **options)


def shown(path: str = "out.ipynb") -> list[tuple[str, list[str]]]:
    """Of each cell what papermill noted of it, and which errors it shows."""
    cells = nbformat.read(path, as_version=4).cells
    errors = [[out.ename for out in cell.outputs if out.output_type == "error"] for cell in cells]
    return [(cell.metadata.papermill.status, names) for cell, names in zip(cells, errors, strict=True)]


@contextlib.contextmanager
def ending_soon():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON


@contextlib.contextmanager
def ctrl_c_in_a_cell(output: Path):
    """Interrupt this process once it waits for a cell: it says of those that take long that they run."""
    done = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + 60
        while not done.wait(0.01) and time.monotonic() < deadline:
            if output.exists() and '"running"' in output.read_text():
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                return

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, handler)


def test_the_output_is_written_from_where_papermill_was_started(folder, engine):
    (folder / "sub").mkdir()
    (folder / "res").mkdir()
    execute("import os\nos.path.basename(os.getcwd())", output="res/out.ipynb", engine=engine, cwd="sub")
    (output,) = nbformat.read("res/out.ipynb", as_version=4).cells[0].outputs
    assert output.data["text/plain"] == "'sub'"
    assert list((folder / "sub").iterdir()) == []


def test_every_save_goes_to_where_papermill_was_started(folder):
    (folder / "sub").mkdir()
    execute("import json", "len(json.load(open('../out.ipynb'))['cells'])", "import os\nos.listdir()", cwd="sub")
    outputs = [cell.outputs for cell in nbformat.read("out.ipynb", as_version=4).cells]
    assert [output[0].data["text/plain"] for output in outputs[1:]] == ["3", "[]"]


def test_a_cell_that_reads_its_own_notebook_finds_it_as_far_as_it_has_run(folder, engine):
    read = "[(c['metadata']['papermill']['status'], len(c['outputs'])) for c in json.load(open('out.ipynb'))['cells']]"
    execute("import json\nprint('first')", "'second'", f"print({read})", "4", engine=engine)
    (output,) = nbformat.read("out.ipynb", as_version=4).cells[2].outputs
    assert output.text == "[('completed', 1), ('completed', 1), ('running', 0), ('pending', 0)]\n"


def test_a_late_cell_is_interrupted_and_the_kernel_leaves_in_order(folder, engine):
    with pytest.raises(CellTimeoutError):
        execute(AT_EXIT, SLEEPING, "3", engine=engine, execution_timeout=1)
    assert (folder / "finally").exists()
    assert (folder / "atexit").exists()
    assert shown() == [("completed", []), ("completed", ["KeyboardInterrupt"]), ("completed", [])]


def test_a_late_cell_that_ignores_the_interrupt_is_killed(folder):
    with pytest.raises(CellTimeoutError):
        execute(AT_EXIT, DEAF, execution_timeout=1)
    assert not (folder / "atexit").exists()


def test_ctrl_c_interrupts_the_cell_and_the_kernel_leaves_in_order(folder):
    with ctrl_c_in_a_cell(folder / "out.ipynb"), pytest.raises(KeyboardInterrupt):
        execute(AT_EXIT, SLEEPING, "3")
    assert (folder / "finally").exists()
    assert (folder / "atexit").exists()
    assert shown()[1] == ("failed", ["KeyboardInterrupt"])


def test_an_error_of_the_runner_ends_the_run_at_once(folder):
    show = (
        "kernel = get_ipython().kernel\n"
        "_ = kernel.session.send(kernel.iopub_socket, 'display_data', {'data': 5}, kernel.get_parent())\n"
    )
    with ending_soon(), pytest.raises(KeyError):
        execute(AT_EXIT, show + SLEEPING)
    assert (folder / "finally").exists()
    assert (folder / "atexit").exists()


def test_an_output_that_is_a_folder_is_said_at_once(folder):
    (folder / "runs").mkdir()
    with ending_soon(), pytest.raises(IsADirectoryError, match="runs"):
        execute("1", output="runs")


def test_a_cell_whose_end_is_never_told_fails_and_says_why(folder):
    with pytest.raises(DeadKernelError, match="did not say how a cell ended"):
        execute("get_ipython().user_expressions = None", "2")
    assert [status for status, _ in shown()] == ["failed", "pending"]


@pytest.mark.parametrize("before", ["", "1\n"])
def test_a_group_of_errors_fails_the_first_cell(folder, before):
    raising = "async def fail(): raise ExceptionGroup('several', [ValueError('one')])\nawait fail()"
    with pytest.raises(PapermillExecutionError):
        execute(before + raising, "2")
    cells = json.loads(Path("out.ipynb").read_text())["cells"]
    text = "".join(line for cell in cells for output in cell.get("outputs", []) for line in output.get("text", []))
    assert "ValueError: one" in text
