"""What every engine promises the job runner, tried on each of them."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from labwright.kernels.ordinary import OrdinaryEngine


@pytest.fixture(params=["ordinary", "fork server"], scope="module")
def engine(request):
    return OrdinaryEngine() if request.param == "ordinary" else request.getfixturevalue("fork_server_engine")


def test_a_run_succeeds_and_tells_each_cell(engine, make_run):
    run = make_run(engine, "# Title", "x = 20 + 1\nx", "print(x * 2)")
    outcome = run()
    assert outcome.state == "succeeded"
    assert outcome.error is None
    assert run.progress == [(i, phase) for i in range(3) for phase in ("started", "finished")]
    assert run.text(1) == "21"
    assert run.text(2) == "42\n"


def test_parameters_reach_the_notebook(engine, make_run):
    run = make_run(engine, "print(who, amount)", parameters={"who": "Ada", "amount": 3})
    assert run().state == "succeeded"
    assert run.text(1) == "Ada 3\n"
    assert run.output.metadata.papermill.parameters == {"who": "Ada", "amount": 3}


def test_an_error_is_mapped_to_its_cell(engine, make_run):
    run = make_run(engine, "a = 1", "1 / 0", "print('never')")
    outcome = run()
    assert outcome.state == "failed"
    assert outcome.error is not None
    assert (outcome.error.cell_index, outcome.error.ename) == (1, "ZeroDivisionError")
    assert outcome.error.cell_id == run.execution.notebook.cells[1].id
    assert "division by zero" in outcome.error.traceback
    assert run.output.cells[0].metadata.tags == ["papermill-error-cell-tag"]


def test_the_kernel_gets_exactly_the_environment_and_folder_it_was_given(engine, make_run, tmp_path):
    run = make_run(engine, "import os; print(os.getcwd(), os.environ['COLOUR'], 'SECRET' in os.environ)")
    run.execution.env["COLOUR"] = "teal"
    assert run().state == "succeeded"
    assert run.text(0) == f"{tmp_path} teal False\n"


def test_every_state_of_the_output_is_a_whole_notebook(engine, make_run):
    run = make_run(engine, *(f"print({n})" for n in range(5)))
    seen = []
    run.on_cell = lambda progress: seen.append(json.loads(run.execution.output_path.read_text()))
    run()
    assert len(seen) == 10
    for notebook in seen:
        nbformat.validate(notebook)
    statuses = [cell["metadata"]["papermill"]["status"] for cell in seen[5]["cells"]]
    assert statuses == ["completed"] * 3 + ["pending"] * 2


def test_a_late_run_is_interrupted_and_says_so(engine, make_run):
    run = make_run(engine, "import time\nwhile True: time.sleep(0.05)", timeout_seconds=3)
    outcome = run()
    assert outcome.state == "timed-out"
    assert outcome.error is not None
    assert outcome.error.ename == "KeyboardInterrupt"
    assert "timeout" in (outcome.reason or "")


def test_a_cancelled_run_stops_even_if_it_swallows_the_interrupt(engine, make_run):
    run = make_run(engine, "import time\nwhile True:\n  try: time.sleep(60)\n  except KeyboardInterrupt: print('no')")
    run.on_cell = lambda progress: threading.Timer(0.5, run.cancelled.set).start()
    started = time.monotonic()
    outcome = run()
    assert outcome.state == "cancelled"
    assert time.monotonic() - started < 10


def test_a_killed_kernel_gives_a_reason(engine, make_run):
    run = make_run(engine, "import os\nos.kill(os.getpid(), 9)")
    outcome = run()
    assert outcome.state == "died"
    assert outcome.reason


def test_what_a_kernel_showed_before_it_was_killed_stands_in_its_cell(fork_server_engine, make_run):
    """An ordinary kernel sends from a thread: whether what it showed last is still sent is a race there."""
    show = "from IPython.display import display\ndisplay('seen')\n"
    run = make_run(fork_server_engine, "1", show + "import os\nos.kill(os.getpid(), 9)")
    assert run().state == "died"
    (output,) = run.output.cells[1].outputs
    assert output.data["text/plain"] == "'seen'"
    assert run.output.cells[1].execution_count == 2


def test_a_process_that_a_notebook_forks_shows_what_it_has_to_show(fork_server_engine, make_run):
    run = make_run(
        fork_server_engine,
        # Since 3.12 Python warns of forks beside threads, which every kernel has.
        "import os, warnings\nfrom IPython.display import display\nwarnings.simplefilter('ignore')\npid = os.fork()\n"
        "if pid == 0:\n    display('from the fork')\n    os._exit(0)\n"
        "_ = os.waitpid(pid, 0)\ndisplay('from the kernel')",
        "'after'",
    )
    assert run().state == "succeeded"
    shown = [output.data["text/plain"] for output in run.output.cells[0].outputs]
    assert shown == ["'from the fork'", "'from the kernel'"]
    assert run.text(1) == "'after'"


def start_with(run, code, folder):
    """Have the run's kernel execute `code` before its first cell."""
    (folder / "startup.py").write_text(code)
    env = {**run.execution.env, "PYTHONSTARTUP": str(folder / "startup.py")}
    run.execution = replace(run.execution, env=env)


def test_a_kernel_whose_start_up_code_hangs_is_given_up(fork_server_engine, make_run, tmp_path):
    run = make_run(fork_server_engine, "1")
    start_with(run, "", tmp_path)
    assert run().state == "succeeded"
    (tmp_path / "startup.py").write_text("import time\ntime.sleep(300)")
    run.execution = replace(run.execution, start_timeout_seconds=1)
    outcome = run()
    assert outcome.state == "died"
    assert outcome.reason == "The kernel was not ready within 1 s."


def test_start_up_code_runs_before_the_first_cell(engine, make_run, tmp_path):
    run = make_run(engine, "started")
    start_with(run, "started = 'up'", tmp_path)
    assert run().state == "succeeded"
    assert run.text(0) == "'up'"


def test_an_unknown_kernel_is_named(engine, make_run):
    outcome = make_run(engine, "1", kernel_name="no-such-kernel")()
    assert outcome.state == "died"
    assert "no-such-kernel" in (outcome.reason or "")


def test_output_of_subprocesses_and_descriptors_stands_in_its_cell(fork_server_engine, make_run):
    """Ordinary kernels read the descriptors in a thread: which cell gets the text is a race there, so no comparison."""
    run = make_run(
        fork_server_engine,
        "import os, subprocess\nprint('before', flush=True)\nos.system('echo from system')\nprint('after')",
        "print(subprocess.run(['sh', '-c', 'echo from run; echo apart >&2; exit 3']).returncode)",
        "written = os.write(1, b'raw one\\n'), os.write(2, b'raw two\\n')",
    )
    assert run().state == "succeeded"
    streams = [{each.name: each.text for each in cell.outputs if "name" in each} for cell in run.output.cells]
    assert streams == [
        {"stdout": "before\nfrom system\nafter\n"},
        {"stdout": "from run\n3\n", "stderr": "apart\n"},
        {"stdout": "raw one\n", "stderr": "raw two\n"},
    ]


def test_what_a_descriptor_gets_stands_between_the_pieces_of_a_line(fork_server_engine, make_run):
    run = make_run(fork_server_engine, "import os\nprint('a', end='')\nos.system('printf b')\nprint('c')\nprint('d')")
    assert run().state == "succeeded"
    assert run.text(0) == "abc\nd\n"


def test_threads_print_whole_lines(fork_server_engine, make_run):
    """Nothing lets go of the GIL within a `print`, and here Python takes it away only after ten seconds."""
    run = make_run(
        fork_server_engine,
        "import sys, time\nfrom concurrent.futures import ThreadPoolExecutor\nsys.setswitchinterval(10)\n"
        "def work(number):\n    time.sleep(0.001)\n    print('done', number)\n"
        "with ThreadPoolExecutor(4) as pool: list(pool.map(work, range(400)))",
    )
    assert run().state == "succeeded"
    lines = run.text(0).splitlines()
    assert sorted(lines) == sorted(f"done {number}" for number in range(400))


def test_runs_in_threads_that_end_leave_no_file_open(engine, make_run):
    def run_in_thread() -> int:
        run = make_run(engine, "1")
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert run.text(0) == "1"
        return len(list(Path("/proc/self/fd").iterdir()))

    first = run_in_thread()  # with what a process opens once
    assert [run_in_thread(), run_in_thread()] <= [first, first]
