"""sys.stdout and sys.stderr of a forked kernel.

The stream objects exist before the fork, since preloaded modules (logging handlers above all) keep what
they found in `sys.stderr` when they were imported. After the fork they are plugged in one of two ways:

- as ordinary ipykernel streams (`plug_into_zmq`), for a kernel that Lab talks to, or
- without sockets (`plug_into_channel`), for a notebook run: text from Python and bytes that C code or
  subprocesses write to file descriptor 1 or 2 meet in one buffer, in the order in which they were written.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import os
import select
import sys
import termios
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

from ipykernel.iostream import BackgroundSocket, IOPubThread, OutStream

READ_BYTES = 64 * 1024
PIPE_BYTES = 256 * 1024
# ipykernel sends what was printed at least this often; so does a notebook run.
FLUSH_SECONDS = 0.2
Decoder = codecs.getincrementaldecoder("utf-8")
# Called with the GIL held: threads must not write between the pieces of a `print` because we let go of it there.
ioctl = ctypes.PyDLL(None).ioctl


class ThreadThatNeverRan:
    """What `IOPubThread.thread` looks like to a stream that has to send in the calling thread."""

    ident = None

    def is_alive(self) -> bool:
        return False


class CallingThread(IOPubThread):
    """An IOPub 'thread' that does everything at once in the calling thread: there is no socket to protect."""

    def __init__(self) -> None:
        self.thread: Any = ThreadThatNeverRan()
        self.background_socket = BackgroundSocket(self)
        self.io_loop: Any = self
        self.socket = None

    def schedule(self, f: Callable[[], None]) -> None:
        f()

    def call_later(self, delay: float, f: Callable[[], None]) -> None:
        """Not needed: `OutputPump` looks for unsent text by itself."""


class PreforkStream(OutStream):
    """A kernel's stdout or stderr, made before the fork and plugged in after it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.plugged = False
        self.raw: RawOutput | None = None
        self.echo = None
        self.pub_thread = None

    def plug_into_zmq(self, session: Any, pub_thread: Any, echo: Any, watchfd: bool) -> None:
        super().__init__(session, pub_thread, self.name, echo=echo, watchfd=watchfd)
        self.plugged = True

    def prepare(self, session: Any) -> None:
        """Before the fork, what `plug_into_channel` would do after it."""
        super().__init__(session, CallingThread(), self.name, watchfd=False)

    def plug_into_channel(self, lock: threading.RLock, echo: bool) -> None:
        fd = {"stdout": 1, "stderr": 2}[self.name]
        self._master_pid = os.getpid()
        self._original_stdstream_fd = fd
        self._original_stdstream_copy = os.dup(fd)
        self.raw = RawOutput(fd, lock, self._original_stdstream_copy if echo else None)
        self.plugged = True

    def write(self, string: str) -> int | None:  # type: ignore[override]
        if not self.plugged:
            return os.write(2, string.encode("utf-8", "backslashreplace"))
        if self.raw is None:
            return super().write(string)
        if not self._is_master_process():
            return self.write_in_fork(string)
        if self.raw.in_transit or self.raw.waiting_bytes():
            self.absorb()
        return super().write(string)

    def write_in_fork(self, string: str) -> int:
        """A forked process of the notebook has no buffer of ours: its text takes the file descriptor."""
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        rest = memoryview(string.encode("utf-8", "replace"))
        while rest:
            rest = rest[os.write(self._original_stdstream_fd, rest) :]
        return len(string)

    def absorb(self) -> None:
        """Move what was written to the file descriptor so far into the buffer; once closed, there is none."""
        assert self.raw is not None
        with self.raw.lock:
            self.raw.in_transit = True
            try:
                for text in self.raw.read():
                    if not self.closed:
                        super().write(text)
            finally:
                self.raw.in_transit = False

    def flush(self) -> None:
        if not self.plugged:
            return
        if self.raw is None:
            super().flush()
        elif self._is_master_process():
            with self.raw.lock:
                self.absorb()
                self._flush()

    def _rotate_buffers(self) -> Any:
        if self.raw is None or self._buffers:
            return super()._rotate_buffers()
        return defaultdict(StringIO)


class RawOutput:
    """The reading end of a pipe that has taken the place of a file descriptor."""

    def __init__(self, fd: int, lock: threading.RLock, echo_fd: int | None) -> None:
        self.lock = lock
        self.echo_fd = echo_fd
        # Whether a thread is about to move text to the buffer, and may have taken it from the pipe already.
        self.in_transit = False
        self.size = ctypes.c_int()
        self.reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        # C code that prints while it holds the GIL keeps the pump from draining: give it some room.
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.dup2(writer, fd)
        os.close(writer)
        self.decoder = Decoder("replace")

    def waiting_bytes(self) -> int:
        failed = ioctl(self.reader, termios.FIONREAD, ctypes.byref(self.size))
        return 0 if failed else self.size.value

    def read(self) -> Iterator[str]:
        while self.waiting_bytes():
            data = os.read(self.reader, READ_BYTES)
            if self.echo_fd is not None:
                self.echo(data)
            text = self.decoder.decode(data)
            if text:
                yield text

    def echo(self, data: bytes) -> None:
        """Pass on where the descriptor led before, be it a terminal or the log of a build; once that is gone, stop."""
        assert self.echo_fd is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.echo_fd, rest) :]
        except BlockingIOError:
            pass  # a terminal that takes no more now: the notebook has all of it
        except OSError:
            self.echo_fd = None


class OutputPump:
    """A thread that keeps the pipes from filling up and sends what was printed a while ago."""

    def __init__(self, streams: list[PreforkStream], lock: threading.RLock) -> None:
        self.streams = streams
        self.lock = lock
        # Named as the thread of an ordinary kernel that does this; people see it in a debugger.
        self.thread = threading.Thread(target=self.run, name="IOPub", daemon=True)
        # A fork must not happen while the lock is held elsewhere: the child could never take it.
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=self.forget_lock)

    def forget_lock(self) -> None:
        fresh = threading.RLock()
        for stream in self.streams:
            assert stream.raw is not None
            stream.raw.lock = fresh
            stream.session.take_lock(fresh, in_fork=True)

    def start(self) -> None:
        self.thread.start()

    def run(self) -> None:
        poller = select.poll()
        for stream in self.streams:
            assert stream.raw is not None
            poller.register(stream.raw.reader, select.POLLIN)
        flushed = time.monotonic()
        while True:
            for fd, events in poller.poll(FLUSH_SECONDS * 1000):
                # The notebook has put something else in the place of the descriptor, and nobody can write any more.
                if not events & select.POLLIN:
                    poller.unregister(fd)
            late = time.monotonic() > flushed + FLUSH_SECONDS
            with self.lock, contextlib.suppress(OSError):
                for stream in self.streams:
                    stream.absorb()
                    if late and not stream.closed:
                        stream._flush()
            if late:
                flushed = time.monotonic()


def make_prefork_streams() -> tuple[PreforkStream, PreforkStream]:
    """Put the streams in place of sys.stdout and sys.stderr, where preloaded modules will find them."""
    sys.stdout, sys.stderr = streams = PreforkStream("stdout"), PreforkStream("stderr")
    return streams
