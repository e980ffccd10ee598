"""Keep one TLS connection's end from ending another; a Dask preload, and called where a client of Dask begins.

OpenSSL tells what went wrong in a queue that all connections of a thread share, to be emptied before each call, which
Python's `ssl` does not do (python/cpython#148594, open). Since OpenSSL 3.4 a peer that left early leaves a broken pipe
there, and the next connection that has nothing to read is closed for it: a scheduler loses workers and clients.
"""

from __future__ import annotations

import _ssl
import ctypes
from collections.abc import Callable
from functools import wraps
from typing import Any


def dask_setup(server: Any) -> None:
    """Called by Dask with the scheduler, nanny or worker that was made."""
    keep_apart()


def keep_apart() -> None:
    """Have Tornado's TLS streams in this process, now and later, empty OpenSSL's queue before they use it."""
    from tornado.iostream import SSLIOStream

    clear = find("ERR_clear_error")
    if clear is None or hasattr(SSLIOStream, "_labwright_clears"):
        return
    for name in ("_do_ssl_handshake", "read_from_fd", "write_to_fd"):
        setattr(SSLIOStream, name, after(clear, getattr(SSLIOStream, name)))
    SSLIOStream._labwright_clears = True  # type: ignore[attr-defined]


def after(clear: Callable[[], None], method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def cleared(*arguments: Any) -> Any:
        clear()
        return method(*arguments)

    return cleared


def find(name: str) -> Any:
    """A function of the very OpenSSL that `ssl` uses: what `_ssl` was linked with, or what it is part of; else None."""
    # With the GIL held, since the queue is the thread's.
    library = ctypes.PyDLL(getattr(_ssl, "__file__", None))
    return getattr(library, name, None)
