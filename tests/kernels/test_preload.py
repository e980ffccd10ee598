"""A fork of a warm parent stands where a fresh process would, and what cannot be preloaded is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from labwright.kernels.client import ForkServer
from labwright.kernels.deaths import count_oom_kills, memory_cgroup
from labwright.kernels.engine import ForkServerEngine
from labwright.kernels.folder import default_directory
from labwright.kernels.preload import shadowed


def printed(make_run, engine, source: str, **settings) -> str:
    run = make_run(engine, source, **settings)
    outcome = run()
    assert outcome.state == "succeeded", outcome
    return run.text(0).strip()


def test_a_module_next_to_the_notebook_wins_over_a_preloaded_one(make_run, fork_server_engine, tmp_path):
    (tmp_path / "pandas.py").write_text("mine = True")
    assert printed(make_run, fork_server_engine, "import pandas; print(pandas.mine)") == "True"
    assert shadowed(str(tmp_path), frozenset({"pandas"}))


# -- refusing -----------------------------------------------------------------------------------------

HARMFUL = {
    "starts_a_thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "opens_a_socket": "import socket\nkept = socket.socket()",
    "raises": "raise OSError('no such device')",
}


@pytest.mark.parametrize("module", HARMFUL)
def test_what_is_unsafe_is_refused_with_its_name_and_reason(module, tmp_path):
    (tmp_path / f"{module}.py").write_text(HARMFUL[module])
    code = (
        "from labwright.kernels.preload import preload\n"
        f"refusal = preload(['json', '{module}'])\nprint(refusal.module, '|', refusal.reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    name, _, reason = done.stdout.partition("|")
    assert name.strip() == module, done.stderr
    assert reason.strip()


def test_known_offenders_are_refused_without_being_imported():
    from labwright.kernels.preload import preload

    refusal = preload(["pyspark"])
    assert refusal is not None
    assert "Java" in refusal.reason


def test_native_threads_are_seen_that_threading_does_not_know():
    code = "import pyarrow, threading; from labwright.kernels.preload import thread_names; print(thread_names())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "jemalloc_bg_thd" in done.stdout


# -- first uses ----------------------------------------------------------------------------------------

FIRST_USES_SEEN = (
    "import sys\nbefore = set(sys.modules)\nimport pandas as pd\nfrom sklearn.linear_model import Ridge\n"
    "frame = pd.DataFrame({'a': [1.0, 2.0], 'b': [2.0, 3.0]})\nRidge().fit(frame[['a']], frame.b)\n"
    "import mlflow\nfrom mlflow.tracking.context.registry import resolve_tags\nresolve_tags()\n"
    "print(sorted(set(sys.modules) - before))"
)


def test_a_first_fit_and_a_first_tracked_run_import_nothing_more(make_run, fork_server_engine):
    assert printed(make_run, fork_server_engine, FIRST_USES_SEEN, timeout_seconds=120) == "[]"


def test_what_first_uses_set_in_the_environment_does_not_reach_a_kernel(make_run, fork_server_engine):
    source = "import mlflow, os, sklearn\nprint('MLFLOW_HTTP_REQUEST_MAX_RETRIES' in os.environ)"
    assert printed(make_run, fork_server_engine, source) == "False"


def test_what_is_known_to_be_absent_is_so_for_a_kernel_and_found_where_it_is(make_run, fork_server_engine, tmp_path):
    source = """
import mlflow, importlib.util
try:
    import dbruntime
    print(dbruntime.here)
except ModuleNotFoundError as error:
    print(error.name, importlib.util.find_spec("dbruntime"))
"""
    assert printed(make_run, fork_server_engine, source) == "dbruntime None"
    (tmp_path / "dbruntime.py").write_text("here = 'it is'\n")
    assert printed(make_run, fork_server_engine, source) == "it is"


def test_mlflow_starts_no_process_to_find_that_a_kernel_is_in_no_repository(make_run, fork_server_engine):
    source = """
import git, mlflow
from mlflow.tracking.context.registry import resolve_tags
asked = []
git.Git.execute = lambda self, command, *args, **options: asked.append(command)
print("mlflow.source.git.commit" in resolve_tags(), asked)
"""
    assert printed(make_run, fork_server_engine, source, timeout_seconds=120) == "False []"


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_where_the_launcher_is_in_a_repository_each_kernel_sees_the_commit_of_now(tmp_path):
    source = """
import subprocess, sys
def commit(text):
    open("launcher.py", "a").write(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "add", "launcher.py"], check=True)
    subprocess.run([*git, "commit", "-qm", text], check=True)
    return subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
subprocess.run(["git", "init", "-q"], check=True)
first = commit("1")
sys.argv = ["launcher.py"]
from labwright.kernels.firstuses import note_no_repository
from mlflow.tracking.context.registry import resolve_tags
note_no_repository()
second = commit("2")
assert first != second
print(resolve_tags()["mlflow.source.git.commit"] == second)
"""
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_first_uses_that_leave_a_thread_are_not_done_in_the_parent():
    code = (
        "from labwright.kernels import rehearsal\nfrom labwright.kernels.firstuses import FirstUse, perform\n"
        "source = 'import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()'\n"
        "use = FirstUse(source, frozenset(), True)\n"
        "print(rehearsal.lesson_of(None, lambda app: perform(use)).danger)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "thread" in done.stdout


# -- standing where a fresh process stands -----------------------------------------------------------

IDENTITY = {
    "random": "import random; print(random.random())",
    "numpy": "import numpy as np; print(np.random.rand())",
    "numpy_generator": "import numpy as np; print(np.random.default_rng().random())",
    "uuid": "import uuid; print(uuid.uuid4(), uuid.uuid1())",
    "tempfile": "import tempfile; print(tempfile.mktemp())",
    "authkey": "import multiprocessing as m; print(bytes(m.current_process().authkey).hex())",
    "openssl": "import ssl; print(ssl.RAND_bytes(8).hex())",
    "session": "print(get_ipython().kernel.session.session, get_ipython().kernel.ident)",
}


@pytest.mark.parametrize("name", IDENTITY)
def test_two_kernels_of_one_parent_share_no_state(name, make_run, fork_server_engine):
    first, second = (printed(make_run, fork_server_engine, IDENTITY[name]) for _ in range(2))
    assert first != second


STATE = {
    "import os; print(sorted(os.listdir('/proc/self/task')) and len(os.sched_getaffinity(0)) > 0)": "True",
    "import signal; print(signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGTERM))": "0 0",
    "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))": "set()",
    "import os; print(os.getsid(0) == os.getpid() == os.getpgid(0))": "True",
    "import threading; print(threading.current_thread() is threading.main_thread())": "True",
    "import mlflow\nfrom mlflow.store.tracking import sqlalchemy_store as s\nprint(mlflow.active_run())": "None",
    "import matplotlib.pyplot as plt; print(plt.get_fignums())": "[]",
    "import logging; print(logging.root.level, logging.lastResort is not None)": "30 True",
    "import tempfile, os; print(tempfile.gettempdir() == os.environ['TMPDIR'])": "True",
    "open('/dev/tty')": None,
}


@pytest.mark.parametrize("source", STATE)
def test_a_fork_is_as_a_fresh_process(source, make_run, fork_server_engine, tmp_path):
    run = make_run(fork_server_engine, source)
    run.execution = replace(run.execution, env={**run.execution.env, "TMPDIR": str(tmp_path)})
    outcome = run()
    if STATE[source] is None:
        assert outcome.error is not None
        assert outcome.error.ename == "OSError"
    else:
        assert run.text(0).strip() == STATE[source]


def test_no_file_of_the_fork_server_is_open_in_a_kernel(make_run, fork_server_engine):
    source = (
        "import os\nfor n in os.listdir('/proc/self/fd'):\n"
        "  try: print(os.readlink(f'/proc/self/fd/{n}'))\n  except OSError: pass"
    )
    targets = printed(make_run, fork_server_engine, source).splitlines()
    assert sum(target.startswith("socket:") for target in targets) <= 3, targets
    assert not [target for target in targets if "server" in target and "log" not in target], targets


def test_openmp_and_blas_work_in_a_fork(make_run, fork_server_engine):
    source = (
        "import numpy as np\nfrom sklearn.ensemble import HistGradientBoostingRegressor as H\n"
        "X = np.random.rand(2000, 5); print(H(max_iter=5).fit(X, X[:, 0]).score(X, X[:, 0]) > 0.1)"
    )
    assert printed(make_run, fork_server_engine, source, timeout_seconds=120) == "True"


def test_an_installed_package_is_seen_by_the_next_kernel(make_run, fork_server_engine):
    import sysconfig

    source = "import importlib.util\nprint(importlib.util.find_spec('labwright_probe_package') is not None)"
    module = Path(sysconfig.get_path("purelib")) / "labwright_probe_package.py"
    assert printed(make_run, fork_server_engine, source) == "False"
    module.write_text("")
    try:
        assert printed(make_run, fork_server_engine, source) == "True"
    finally:
        module.unlink()


def test_output_is_captured_in_the_order_in_which_it_was_written(make_run, fork_server_engine):
    source = (
        "import os, subprocess\nfor i in range(20):\n"
        "  print(i, end=' ')\n  os.write(1, b'raw '); subprocess.run(['printf', 'child '])"
    )
    assert printed(make_run, fork_server_engine, source) == " ".join(f"{i} raw child" for i in range(20))


def test_lone_surrogates_do_not_cost_the_run(make_run, fork_server_engine):
    assert printed(make_run, fork_server_engine, "print('a\\ud83db')") == "a?b"


def test_too_much_output_is_cut_and_marked(make_run, fork_server_engine):
    run = make_run(fork_server_engine, "for i in range(90):\n  print('x' * 1_000_000)", "print('after')")
    assert run().state == "succeeded"
    assert "is cut here" in run.execution.output_path.read_text()
    assert run.execution.output_path.stat().st_size < 80_000_000


def test_too_many_pieces_of_output_are_cut_and_marked_and_cost_no_memory(make_run, fork_server_engine):
    run = make_run(fork_server_engine, "for i in range(100_001): print(i, flush=True)", "print('after')")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run().state == "succeeded"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
    assert run.text(0).startswith("0\n1\n2\n")
    assert "is cut here: it is more than 100000 outputs" in run.execution.output_path.read_text()


def test_what_runs_at_exit_runs_though_a_subprocess_was_left(make_run, fork_server_engine, tmp_path):
    source = "import atexit, subprocess\nleft = subprocess.Popen(['sleep', '300'])\n"
    run = make_run(fork_server_engine, source + "atexit.register(open, 'at-exit', 'w')")
    assert run().state == "succeeded"
    assert (tmp_path / "at-exit").exists()


def test_the_next_cell_begins_before_the_last_ones_end_is_told(make_run, fork_server_engine, tmp_path):
    run = make_run(fork_server_engine, "1", "open('begun', 'w').close()")
    begun = []

    def wait_for_next(progress):
        deadline = time.monotonic() + 10
        while (progress.index, progress.phase) == (0, "finished") and not begun and time.monotonic() < deadline:
            begun.extend(tmp_path.glob("begun"))

    run.on_cell = wait_for_next
    assert run().state == "succeeded"
    assert begun


def test_a_cell_that_fails_is_the_last_that_begins(make_run, fork_server_engine, tmp_path):
    run = make_run(fork_server_engine, "1", "1 / 0", "open('begun', 'w').close()")
    assert run().state == "failed"
    assert not (tmp_path / "begun").exists()


def test_the_first_picture_of_a_model_has_the_first_number(make_run, fork_server, fork_server_engine):
    run = make_run(
        fork_server_engine,
        "import re, sys\nwarm = 'sklearn' in sys.modules",  # whose parent has made pictures to practise
        "from sklearn.linear_model import Ridge",
        "warm, re.findall('sk-container-id-[0-9]+', Ridge()._repr_html_())[0]",
    )
    fork_server.wait_warm(run.execution.env, frozenset({"sklearn"}))
    assert run().state == "succeeded"
    assert run.text(2) == "(True, 'sk-container-id-1')"


def test_an_aggressive_reset_takes_what_the_notebook_imported(make_run, fork_server_engine):
    reset = "import sys, wave\nget_ipython().reset(new_session=False, aggressive=True)"
    run = make_run(fork_server_engine, reset, "import sys; print('wave' in sys.modules, 'json' in sys.modules)")
    assert run().state == "succeeded"
    assert run.text(1) == "False True\n"


def test_another_language_falls_back_and_says_so(make_run, fork_server_engine):
    outcome = make_run(fork_server_engine, "1", kernel_name="no-such-kernel")()
    assert outcome.log.startswith("Fell back to papermill's engine because there is no kernel named")


def test_a_run_that_no_fork_server_takes_falls_back_and_says_so(make_run, tmp_path):
    (tmp_path / "a-file").write_text("")
    engine = ForkServerEngine(ForkServer(tmp_path / "a-file" / "server"))
    run = make_run(engine, "print(6 * 7)")
    outcome = run()
    assert outcome.state == "succeeded"
    assert run.text(0) == "42\n"
    assert outcome.log.startswith("Fell back to papermill's engine because it got no fork")


def test_a_set_that_is_still_warming_up_keeps_nobody_waiting(make_run, tmp_path):
    """The first kernel imports for itself what the next ones will find imported."""
    server = ForkServer(tmp_path / "server", idle_seconds=30)
    engine = ForkServerEngine(server)
    source = "import sys\nloaded = 'sklearn' in sys.modules\nimport sklearn\nprint(loaded)"
    run = make_run(engine, source)
    try:
        assert run().state == "succeeded"
        assert run.text(0) == "False\n"
        server.wait_warm(run.execution.env, frozenset({"sklearn"}))
        assert run().state == "succeeded"
        assert run.text(0) == "True\n"
    finally:
        server.stop()


def test_until_its_set_is_warm_a_kernel_has_the_next_best(make_run, tmp_path):
    server = ForkServer(tmp_path / "server", idle_seconds=30)
    loaded = "import sys\nprint('pandas' in sys.modules, 'sklearn' in sys.modules)\n"
    run = make_run(ForkServerEngine(server), f"{loaded}import pandas, sklearn")
    try:
        server.wait_warm(run.execution.env, frozenset({"pandas"}))
        assert run().state == "succeeded"
        assert run.text(0) == "True False\n"
    finally:
        server.stop()


def test_mlflow_finds_the_door_in_a_fork_as_in_a_fresh_process(make_run, fork_server_engine):
    run = make_run(fork_server_engine, "import mlflow, os, sklearn\nprint(os.environ['MLFLOW_TRACKING_AUTH'])")
    run.execution.env["LABWRIGHT_CORE_URL"] = "http://127.0.0.1:9/services/core"
    assert run().state == "succeeded"
    assert run.text(0) == "labwright\n"


def test_a_launch_is_found_by_its_mark_in_every_process_of_its_fork_server(tmp_path, monkeypatch, make_run):
    elsewhere = default_directory()
    monkeypatch.setenv("LABWRIGHT_LAUNCH", "launch-7")
    assert default_directory() != elsewhere
    server = ForkServer(tmp_path / "server", idle_seconds=30)
    run = make_run(ForkServerEngine(server), "import os; print(open('/proc/self/environ').read())")
    try:
        assert run().state == "succeeded"
        assert "LABWRIGHT_LAUNCH=launch-7" in run.text(0)
    finally:
        server.stop()


def test_the_memory_group_is_found_in_a_container_too(tmp_path):
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "memory.events").write_text("oom_kill 3\n")
    process = tmp_path / "cgroup"
    process.write_text("0::/kubepods/pod7/container9\n")
    group = memory_cgroup(tmp_path / "mounted", process)
    assert group == tmp_path / "mounted"
    assert count_oom_kills(group) == 3
    process.write_text("4:memory:/here\n0::/\n")
    (tmp_path / "mounted" / "memory" / "here").mkdir(parents=True)
    (tmp_path / "mounted" / "memory" / "here" / "memory.oom_control").write_text("oom_kill_disable 0\noom_kill 5\n")
    assert count_oom_kills(memory_cgroup(tmp_path / "mounted", process)) == 5


def test_practice_leaves_no_file_behind_even_if_a_parent_is_killed_in_it(tmp_path, monkeypatch, make_run):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    server = ForkServer(tmp_path / "server", idle_seconds=30)
    run = make_run(ForkServerEngine(server), "1")
    try:
        server.warm(run.execution.env, frozenset())
        (parent,) = server.status()["parents"]
        os.kill(parent["pid"], 9)
        assert run().state == "succeeded"
        assert not list(elsewhere.iterdir())
        assert not list((tmp_path / "server" / "practice").iterdir())
    finally:
        server.stop()


def test_the_server_may_be_reached_by_its_owner_only(fork_server):
    fork_server.status()
    assert fork_server.directory.stat().st_mode & 0o077 == 0
    assert (fork_server.directory / "socket").stat().st_mode & 0o077 == 0


def test_a_server_that_was_killed_is_replaced(make_run, tmp_path):
    server = ForkServer(tmp_path / "server", idle_seconds=30)
    engine = ForkServerEngine(server)
    assert make_run(engine, "1")().state == "succeeded"
    os.kill(int((tmp_path / "server" / "pid").read_text()), 9)
    outcome = make_run(engine, "1")()
    if outcome.state == "died":  # It was asked before the death was noticed, and says what to do.
        assert "run it again" in json.dumps(outcome.reason).lower()
        outcome = make_run(engine, "1")()
    assert outcome.state == "succeeded"
    server.stop()
