"""Kernels whose parent has imported PyTorch, on a machine with a GPU: each uses it, and the parent never does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from labwright.kernels.client import ForkServer
from labwright.kernels.engine import ForkServerEngine
from labwright.spawner.gpus import count_gpus
from tests.kernels.conftest import plain_environment
from tests.kernels.running import Run

pytestmark = pytest.mark.skipif(
    not count_gpus() or find_spec("torch") is None, reason="needs a GPU with its driver, and PyTorch"
)
WARM = "import sys\nwarm = 'torch' in sys.modules\nimport torch\nwarm"
COMPUTE = "ones = torch.ones(1000, 1000, device='cuda')\nint((ones @ ones).sum().item())"
MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def engine(fork_server: ForkServer) -> ForkServerEngine:
    fork_server.wait_warm(plain_environment(), frozenset({"torch"}), seconds=120)
    return ForkServerEngine(fork_server)


def parents(server: ForkServer) -> list[int]:
    return [parent["pid"] for parent in server.status()["parents"] if parent["preload"] == "networks"]


def devices_of(pid: int) -> list[str]:
    files = (str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
    return [file for file in files if file.startswith("/dev/nvidia")]


def memory_used() -> int:
    """Megabytes of all GPUs."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(int(line) for line in subprocess.run(query, capture_output=True, text=True, check=True).stdout.split())


def test_a_kernel_computes_on_the_gpu_and_its_parent_has_none_open(
    make_run: MakeRun, engine: ForkServerEngine, fork_server: ForkServer
) -> None:
    for _ in range(2):
        run = make_run(engine, WARM, COMPUTE, "import os\nos.getppid()")
        outcome = run()
        assert outcome.state == "succeeded", outcome
        assert [run.text(0), run.text(1)] == ["True", "1000000000"]
        (parent,) = parents(fork_server)
        assert int(run.text(2)) == parent
        assert devices_of(parent) == []


def test_numbers_drawn_on_the_gpu_differ_between_kernels(make_run: MakeRun, engine: ForkServerEngine) -> None:
    drawn = []
    for _ in range(2):
        run = make_run(engine, WARM, "torch.rand(1, device='cuda').item(), torch.rand(1).item()")
        assert run().state == "succeeded"
        drawn.append(run.text(1))
    assert drawn[0] != drawn[1]


def test_what_a_killed_kernel_held_of_the_gpu_is_free_again(make_run: MakeRun, engine: ForkServerEngine) -> None:
    before = memory_used()
    run = make_run(
        engine,
        WARM,
        "held = torch.ones(1 << 30, dtype=torch.int32, device='cuda')\ntorch.cuda.synchronize()\n"
        "free, total = torch.cuda.mem_get_info()\nprint((total - free) >> 20, flush=True)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    outcome = run()
    assert outcome.state == "died"
    assert "killed" in (outcome.reason or "")
    assert int(run.text(1)) >= before + 4096
    assert memory_used() < before + 1024
    assert make_run(engine, WARM, COMPUTE)().state == "succeeded"


def test_a_process_without_gpus_of_its_own_sees_none(make_run: MakeRun, engine: ForkServerEngine) -> None:
    env = {**plain_environment(), "CUDA_VISIBLE_DEVICES": ""}
    run = make_run(engine, "import torch\ntorch.cuda.is_available(), torch.cuda.device_count()", env=env)
    assert run().state == "succeeded"
    assert run.text(0) == "(False, 0)"


def test_what_initialises_cuda_while_it_is_imported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "uses_the_gpu.py").write_text("import torch\ntorch.zeros(1, device='cuda')\n")
    code = "from labwright.kernels.preload import preload\nprint(preload(['torch', 'uses_the_gpu']))"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "uses_the_gpu" in done.stdout, done.stderr
    assert "it has initialised CUDA" in done.stdout
