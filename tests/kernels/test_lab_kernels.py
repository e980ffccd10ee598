"""A kernel of the fork server as Lab and other Jupyter clients use it: over ZeroMQ, with every channel."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from labwright.kernels import client as fork_client
from labwright.kernels import provisioner
from labwright.kernels.folder import default_directory
from tests.kernels.running import make_notebook


@pytest.fixture(scope="module")
def ipython_directory(tmp_path_factory):
    """One for all: another one would mean another warm parent."""
    return tmp_path_factory.mktemp("ipython")


@pytest.fixture
def manager(fork_server, tmp_path, ipython_directory, monkeypatch):
    monkeypatch.setitem(fork_client.shared, "", fork_server)
    monkeypatch.setenv("IPYTHONDIR", str(ipython_directory))
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", "labwright-provisioner")
    manager = KernelManager(kernel_name="python3", connection_file=str(tmp_path / "kernel.json"))
    manager.start_kernel(cwd=str(tmp_path))
    yield manager
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


@pytest.fixture
def client(manager):
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()


def run(client, code, seconds=60, **settings):
    """What a cell printed and showed, and its reply."""
    shown = []

    def note(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            shown.append(content["text"])
        elif message["msg_type"] in ("execute_result", "display_data"):
            shown.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            shown.append(content["ename"])

    reply = client.execute_interactive(code, timeout=seconds, output_hook=note, **settings)
    return "".join(shown), reply["content"]


def test_it_is_a_fork_on_unix_sockets_and_runs_cells(manager, client):
    assert manager.provisioner.handle is not None
    assert manager.transport == "ipc"
    assert run(client, "print('hi')\n6 * 7")[0] == "hi\n42"
    assert run(client, "import asyncio; await asyncio.sleep(0.01); 'awaited'")[0] == "'awaited'"
    assert "kernel-" in run(client, "%connect_info")[0] or "kernel.json" in run(client, "%connect_info")[0]


def test_what_its_notebook_imports_chooses_what_a_kernel_starts_with(manager, fork_server, tmp_path, monkeypatch):
    asked, spawn = [], fork_server.spawn
    monkeypatch.setattr(fork_server, "spawn", lambda *given, **named: asked.append(given[4]) or spawn(*given, **named))
    nbformat.write(make_notebook("import torch"), tmp_path / "a.ipynb")
    manager.restart_kernel(now=True, env={**os.environ, "JPY_SESSION_NAME": str(tmp_path / "a.ipynb")})
    assert asked == [{"torch", "pandas", "sklearn", "matplotlib"}]


def test_completion_inspection_history_and_completeness(client):
    run(client, "labwright_variable = [1]")
    reply = client.complete("labwright_va", reply=True, timeout=30)
    assert "labwright_variable" in reply["content"]["matches"]
    assert client.inspect("labwright_variable", reply=True, timeout=30)["content"]["found"]
    client.is_complete("if x:")
    assert client.get_shell_msg(timeout=30)["content"]["status"] == "incomplete"
    history = client.history(hist_access_type="tail", n=5, reply=True, timeout=30)
    assert "labwright_variable = [1]" in [entry[2] for entry in history["content"]["history"]]


def test_input_is_asked_for(client):
    text, _ = run(
        client,
        "print('you are', input('name? '))",
        allow_stdin=True,
        stdin_hook=lambda m: client.input("Ada"),
    )
    assert "you are Ada" in text


def test_an_interrupt_ends_the_cell_and_not_the_kernel(manager, client):
    # Otherwise ipykernel aborts what comes right after the error.
    client.execute("import time\nprint('sleeping')\ntime.sleep(60)", stop_on_error=False)
    while client.get_iopub_msg(timeout=30)["msg_type"] != "stream":
        pass
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=30)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert run(client, "'alive'")[0] == "'alive'"


def test_a_restart_gives_a_fresh_kernel_on_the_same_sockets(manager, client):
    run(client, "kept = 1")
    before = manager.provisioner.pid
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)
    assert manager.provisioner.pid != before
    assert run(client, "kept")[1]["ename"] == "NameError"


@pytest.mark.parametrize("attempt", range(6))
def test_a_cell_that_is_sent_at_once_after_a_restart_is_seen(attempt, manager, client):
    """The sockets of a client connect again each by its own clock: the one for output may be the last."""
    manager.restart_kernel(now=True)
    assert run(client, "'seen'", seconds=10)[0] == "'seen'"


def test_a_kernel_listens_before_its_start_is_told(manager):
    """A client that connects to a Unix socket too early waits 0.1 s, and Jupyter Server then 0.5 s more."""
    assert all(Path(f"{manager.ip}-{port}").exists() for port in manager.ports)


@pytest.mark.parametrize("attempt", range(4))
def test_a_polite_shutdown_needs_no_killing(attempt, manager, client):
    """ipykernel may stop the thread that sends output while the shutdown request waits for it, for 10 s."""
    run(client, "1 + 1")
    handle = manager.provisioner.handle
    client.shutdown()
    assert handle.ended.wait(2)
    assert handle.exit.status == 0


def test_a_polite_shutdown_runs_what_is_registered_at_exit(manager, client, tmp_path):
    run(client, "import atexit; atexit.register(lambda: open('at-exit', 'w').write('ran'))")
    manager.shutdown_kernel()
    assert (tmp_path / "at-exit").read_text() == "ran"


def test_widgets_and_comms_work(client):
    assert "IntSlider" in run(client, "import ipywidgets; ipywidgets.IntSlider(3)")[0]
    reply = client.comm_info(target_name="jupyter.widget", reply=True, timeout=30)
    assert reply["content"]["comms"]


def test_output_of_subprocesses_is_shown(client):
    assert "from a child" in run(client, "import os, time; os.system('echo from a child'); time.sleep(0.3)")[0]


def test_the_debugger_answers(client):
    message = client.session.msg(
        "debug_request",
        {
            "type": "request",
            "seq": 1,
            "command": "initialize",
            "arguments": {"clientID": "t", "adapterID": ""},
        },
    )
    client.control_channel.send(message)
    reply = client.get_control_msg(timeout=60)
    assert reply["content"]["success"]


def test_its_debugger_hides_what_that_of_an_ordinary_kernel_hides(manager, client, monkeypatch):
    """Its own frames below a cell, and none of a library that a notebook may step into."""
    listed = "print(*get_ipython().kernel._kernel_modules, sep='\\n')"
    ours = set(run(client, listed)[0].splitlines())
    monkeypatch.setattr(provisioner, "forkable", lambda cmd: None)
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)
    ordinary = set(run(client, listed)[0].splitlines())
    assert [file for file in ordinary - ours if not file.endswith("ipykernel_launcher.py")] == []
    packages = {file.partition("site-packages/")[2].partition("/")[0] for file in ours - ordinary}
    assert packages <= {"", "IPython", "labwright", "psutil"}  # psutil comes with ports


def test_a_line_of_tornados_log_is_written_once(client):
    assert run(client, "import logging; len(logging.getLogger('tornado').handlers)")[0] == "1"


def wait_until_dead(manager):
    deadline = time.monotonic() + 10
    while manager.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_kernel_is_noticed_and_explained(manager, client):
    os.kill(manager.provisioner.pid, signal.SIGSEGV)
    wait_until_dead(manager)
    assert "SIGSEGV" in manager.provisioner.death


def test_the_death_of_an_ordinary_kernel_is_explained_too(manager, client, monkeypatch):
    monkeypatch.setattr(provisioner, "forkable", lambda cmd: None)
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=60)
    assert manager.provisioner.handle is None
    os.kill(manager.provisioner.pid, signal.SIGABRT)
    wait_until_dead(manager)
    assert "SIGABRT" in manager.provisioner.death


def test_why_a_kernel_died_is_told_until_it_is_started_once_more(manager, client):
    os.kill(manager.provisioner.pid, signal.SIGSEGV)
    wait_until_dead(manager)
    manager.restart_kernel(now=True)  # as Jupyter Server does by itself, before anybody has asked
    assert "SIGSEGV" in manager.provisioner.death
    manager.restart_kernel(now=True)
    assert manager.provisioner.death is None


def test_a_kernel_that_has_no_processor_time_left_is_explained(manager, client):
    client.execute("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass")
    wait_until_dead(manager)
    assert "of the 1 s of processor time that it was allowed" in manager.provisioner.death


def test_a_kernel_that_was_stopped_has_no_reason(manager, client):
    manager.shutdown_kernel(now=True)
    assert manager.provisioner is None or manager.provisioner.death is None


@pytest.fixture
def unstarted(tmp_path, monkeypatch):
    """A manager whose fork server is the user's own, which is not there yet."""
    monkeypatch.setattr(fork_client, "shared", {})
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", "labwright-provisioner")
    manager = KernelManager(kernel_name="python3", connection_file=str(tmp_path / "kernel.json"))
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def test_without_a_folder_for_a_fork_server_kernels_are_ordinary_ones(unstarted, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "not" / "there"))
    unstarted.start_kernel(cwd=str(tmp_path))
    assert unstarted.is_alive()
    assert unstarted.transport == "tcp"
    assert unstarted.provisioner.handle is None


@pytest.mark.parametrize("name", ["é" * 40, "full"])
def test_where_sockets_cannot_be_made_a_kernel_listens_on_ports(name, unstarted, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / name))
    (tmp_path / name).mkdir()
    if name == "full":
        monkeypatch.setattr(provisioner, "socket", SimpleNamespace(AF_UNIX=socket.AF_UNIX, socket=WithoutSpace))
    unstarted.start_kernel(cwd=str(tmp_path))
    assert unstarted.is_alive()
    assert unstarted.transport == "tcp"


class WithoutSpace(socket.socket):
    def bind(self, address):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_kernels_whose_names_begin_alike_have_sockets_of_their_own(tmp_path, monkeypatch):
    chosen = set()
    for number in range(3):
        manager = KernelManager(connection_file=str(tmp_path / "kernel.json"))
        made = provisioner.ForkServerProvisioner(kernel_id=f"analysis-kernel-{number}", directory=str(tmp_path / "d"))
        made.choose_unix_sockets(manager)
        chosen.add(manager.ip)
    assert len(chosen) == 3


def test_where_a_fork_server_cannot_write_kernels_are_ordinary_ones(unstarted, tmp_path):
    (default_directory() / "lock").mkdir(parents=True)
    unstarted.start_kernel(cwd=str(tmp_path))
    assert unstarted.is_alive()
    assert unstarted.provisioner.handle is None


def test_a_folder_that_is_not_there_is_said_as_for_an_ordinary_kernel(manager, tmp_path):
    manager.shutdown_kernel(now=True)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        manager.start_kernel(cwd=str(tmp_path / "nowhere"))


def test_a_kernel_that_is_to_print_elsewhere_is_an_ordinary_one(unstarted, tmp_path):
    with (tmp_path / "printed").open("w") as printed:
        unstarted.start_kernel(cwd=str(tmp_path), stdout=printed)
    assert unstarted.is_alive()
    assert unstarted.provisioner.handle is None
