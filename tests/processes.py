"""Processes that tests start must not outlive the tests, however these end."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_us() -> None:
    """For `preexec_fn`: the kernel interrupts this process when the thread that started it, the main one, is gone."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


# Reads until every writer of the pipe is gone, which no death can prevent, and then cleans up.
_GUARD = "import subprocess, sys; sys.stdin.read(1) or subprocess.run(sys.argv[1:], stdout=-3, stderr=-3)"


@contextmanager
def cleaned_up_by(argv: Sequence[str], environ: dict[str, str]) -> Iterator[None]:
    """Run `argv` should this process be killed before the end of the block."""
    guard = subprocess.Popen(
        [sys.executable, "-S", "-c", _GUARD, *argv], stdin=subprocess.PIPE, env=environ, start_new_session=True
    )
    assert guard.stdin
    try:
        yield
        guard.stdin.write(b"x")
    finally:
        guard.stdin.close()
        guard.wait(60)
