"""What a forked kernel forgets, so that it stands where a fresh process would.

Left as they are, because Python or the libraries already see to them: `random` (reseeded by Python),
OpenSSL's generator, locks of `logging` and `threading`, OpenBLAS's threads (its fork handler stops them in
the parent and starts them anew). Impossible: a new hash seed. A run that sets PYTHONHASHSEED gets a parent of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Let the operating system kill this process when its parent ends, however it ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def close_files_except(keep: Collection[int]) -> None:
    """Close every file descriptor above 2 that is not in `keep`."""
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def enter(cwd: str, env: Mapping[str, str], added: Mapping[str, str], umask: int | None) -> None:
    """Take the folder, environment and umask of the run, and what Python derives from them.

    `added` is what modules put into the environment while they were imported (PYDEVD_…, KMP_INIT_AT_FORK).
    """
    os.chdir(cwd)
    if umask is not None:
        os.umask(umask)
    before = {name: os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP", "TZ")}
    change_environment({**added, **env})
    if any(os.environ.get(name) != value for name, value in before.items()):
        time.tzset()
        tempfile.tempdir = None


def change_environment(wanted: Mapping[str, str]) -> None:
    """Most of it stays: each change is a call of the C library."""
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def reseed() -> None:
    """Give generators that were seeded before the fork a state of their own."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if torch := sys.modules.get("torch"):
        torch.seed()


def renew_process_identity(cwd: str) -> None:
    """Forget what modules remember of the process that they were imported in."""
    # ipykernel's two watching threads have taken 1 and 2 when a notebook starts its first thread.
    threading._counter = itertools.count(3).__next__  # type: ignore[attr-defined]
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = cwd
        # Made of os.urandom at import: kernels of one parent must not be able to speak for each other.
        process.current_process()._config["authkey"] = process.AuthenticationString(os.urandom(32))


def apply_limits(limits: Mapping[str, int]) -> None:
    """Set resource limits by the names of the `resource` module, such as RLIMIT_DATA."""
    for name, value in limits.items():
        number = getattr(resource, name)
        _, hard = resource.getrlimit(number)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(number, (value, value))


def take_soft_limits(wanted: Mapping[str, int]) -> None:
    """Those of the process that asked for the kernel, as far as the fork server's hard limits go."""
    for name, soft in wanted.items():
        number = getattr(resource, name)
        own, hard = resource.getrlimit(number)
        if hard != resource.RLIM_INFINITY and not 0 <= soft <= hard:
            soft = hard
        if soft != own:
            resource.setrlimit(number, (soft, hard))


def read_local_matplotlibrc() -> None:
    """Matplotlib reads ./matplotlibrc when it is imported; the parent imported it somewhere else."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None and Path("matplotlibrc").is_file():
        try:
            matplotlib.rc_file("matplotlibrc")
        except Exception as error:  # noqa: BLE001 - it must not cost the kernel, which may not even plot
            print(f"labwright: ./matplotlibrc was not read: {error}", file=sys.__stderr__, flush=True)


def tell_plugins() -> None:
    """Labwright's own plugin of MLflow looks at the environment when MLflow is imported, which was before the fork."""
    plugin: Any = sys.modules.get("labwright.magics.mlflow_plugin")
    if plugin is not None:
        plugin.switch_on()


def start_anew(
    cwd: str,
    env: Mapping[str, str],
    added: Mapping[str, str],
    umask: int | None,
    soft_limits: Mapping[str, int],
    limits: Mapping[str, int],
    keep: Collection[int],
    parent_pid: int,
) -> None:
    """Everything above in the right order. Called first in the child, in the only thread there is."""
    os.setsid()
    die_with_parent(parent_pid)
    close_files_except(keep)
    reset_signals()
    with contextlib.suppress(OSError):
        libc.prctl(15, b"python", 0, 0, 0)  # PR_SET_NAME: what ps shows for an ordinary kernel
    enter(cwd, env, added, umask)
    renew_process_identity(cwd)
    reseed()
    take_soft_limits(soft_limits)
    apply_limits(limits)
    read_local_matplotlibrc()
    tell_plugins()
