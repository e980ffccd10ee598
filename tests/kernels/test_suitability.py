"""Which kernels a fork of the warm parent is, and which are started as they say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from jupyter_client.provisioning import KernelProvisionerFactory

from labwright.kernels import suitability
from labwright.kernels.execution import Execution
from labwright.kernels.suitability import forkable, unsuitable
from tests.kernels.conftest import plain_environment
from tests.kernels.running import Run, make_notebook

REST = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
OWN = sys.executable


@pytest.mark.parametrize("python", ["python", "python3", f"python3.{sys.version_info.minor}", OWN])
def test_this_environments_python_as_ipykernel_writes_it_is_a_fork(python):
    assert forkable([python, *REST]) == REST[2:]


@pytest.mark.parametrize(
    "argv",
    [
        ["pypy3", *REST],
        ["python3.9", *REST],
        ["/usr/bin/env", "python", *REST],
        ["uv", "run", "--with", "pandas", "python", *REST],
        ["bash", "-c", "exec python -m ipykernel_launcher -f {connection_file}"],
        [OWN, "-O", *REST],
        [OWN, *REST, "--InteractiveShellApp.exec_lines=x=1"],
        [OWN, *REST[:3]],
        [OWN],
    ],
)
def test_what_is_started_in_another_way_is_no_fork(argv):
    assert forkable(argv) is None


def test_a_wrapper_beside_this_environments_python_is_no_fork(tmp_path, monkeypatch):
    for name in ("wrapper", "python3-gpu"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "wrapper"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert forkable([str(tmp_path / "wrapper"), *REST]) is not None
    assert forkable(["wrapper", *REST]) is not None
    assert forkable(["python3-gpu", *REST]) is None


@pytest.fixture
def write_kernelspec(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    suitability.kernel_folders.cache_clear()

    def write(name, **content):
        folder = tmp_path / "jupyter" / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        spec = {"display_name": name, "language": "python", "argv": ["python", *REST], **content}
        (folder / "kernel.json").write_text(json.dumps(spec))

    yield write
    suitability.kernel_folders.cache_clear()


def test_a_kernel_that_a_wrapper_starts_gets_what_the_wrapper_sets(fork_server_engine, write_kernelspec, tmp_path):
    wrapper = tmp_path / "with-licence"
    wrapper.write_text(f'#!/bin/sh\nexport LICENCE=there\nexec {OWN} "$@"\n')
    wrapper.chmod(0o755)
    write_kernelspec("licensed", argv=[str(wrapper), *REST])
    notebook = make_notebook("import os\nprint(os.environ['LICENCE'])", kernel_name="licensed")
    run = Run(fork_server_engine, Execution(notebook, tmp_path / "out.ipynb", tmp_path, plain_environment()))
    assert run().state == "succeeded"
    assert run.text(0) == "there\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"argv": ["pypy3", *REST]}, "runs in another environment"),
        ({"env": {"A": "1"}}, "runs in another environment"),
        ({"argv": ["python", *REST, "--debug"]}, "is started with arguments of its own"),
        ({"metadata": {"kernel_provisioner": {"provisioner_name": "remote"}}}, "a provisioner of its own"),
        ({"language": "R"}, "is not an IPython kernel"),
    ],
)
def test_the_reason_says_what_is_different(write_kernelspec, content, reason, monkeypatch):
    known = KernelProvisionerFactory.instance().provisioners
    monkeypatch.setitem(known, "remote", known["local-provisioner"])
    write_kernelspec("other", **content)
    assert reason in unsuitable(make_notebook("1", kernel_name="other"), None)


def test_a_kernelspec_that_is_written_anew_is_judged_anew(write_kernelspec, tmp_path):
    write_kernelspec("mine")
    assert unsuitable(make_notebook("1", kernel_name="mine"), None) is None
    write_kernelspec("mine", argv=["pypy3", *REST])
    os.utime(tmp_path / "jupyter" / "kernels" / "mine" / "kernel.json", ns=(1, 1))
    assert "another environment" in unsuitable(make_notebook("1", kernel_name="mine"), None)


def test_a_parent_holds_no_package_that_an_ordinary_kernel_does_not(fork_server_engine, make_run):
    source = "import sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    held = make_run(fork_server_engine, source)
    assert held().state == "succeeded"
    extra = {"nbformat", "jsonschema", "attr", "arrow", "six", "idna", "httpx", "pydantic", "pandas"}
    assert extra.isdisjoint(held.text(0).split())


def test_a_relative_pythonpath_is_found_from_the_notebooks_folder(fork_server_engine, make_run, tmp_path):
    (tmp_path / "src").mkdir()
    Path(tmp_path / "src" / "mine.py").write_text("number = 42")
    run = make_run(
        fork_server_engine,
        "import mine, os\nprint(mine.number, os.environ['PYTHONPATH'])",
        env={**plain_environment(), "PYTHONPATH": "src"},
    )
    assert run().state == "succeeded"
    assert run.text(0) == "42 src\n"
