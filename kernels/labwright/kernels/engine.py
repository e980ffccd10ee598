"""Runs notebooks in kernels of the fork server, without sockets between runner and kernel.

What it cannot do faithfully goes to papermill's ordinary engine, and the outcome's log says so.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nbformat import NotebookNode

from labwright.kernels import channel as channels
from labwright.kernels.cell_outputs import Outputs
from labwright.kernels.channel import Channel, Message
from labwright.kernels.client import Exit, ForkServer, Handle
from labwright.kernels.deaths import OomWatch, explain
from labwright.kernels.errors import ForkServerError
from labwright.kernels.execution import CellProgress, Execution, Outcome
from labwright.kernels.notebook_imports import imports_of
from labwright.kernels.ordinary import GRACE_SECONDS, OrdinaryEngine, find_error, mark_error, prepare
from labwright.kernels.record import Record
from labwright.kernels.suitability import unsuitable

TICK_SECONDS = 0.1
# A cell that runs this long is shown as running, and then saved at this interval while it shows more.
LONG_CELL_SECONDS = 0.5
AUTOSAVE_SECONDS = 5.0
# As long as jupyter_client waits for a kernel to shut down before it kills it.
SHUTDOWN_SECONDS = 5.0
NO_REPLY = (
    "The kernel did not say how a cell ended: ipykernel failed itself while it handled it, mostly while it showed an "
    "error. See what the kernel wrote to its log, and try the cell in Lab."
)


class ForkServerEngine:
    """A `NotebookEngine` on a fork server; safe to call from several threads at once."""

    def __init__(self, server: ForkServer | None = None, limits: Mapping[str, int] | None = None) -> None:
        self.server = server or ForkServer()
        self.limits = dict(limits or {})
        self.oom = OomWatch()

    def execute(
        self,
        execution: Execution,
        *,
        on_cell: Callable[[CellProgress], None],
        cancelled: threading.Event,
    ) -> Outcome:
        reason = unsuitable(execution.notebook, execution.kernel_name)
        if reason is not None:
            return fall_back(reason, execution, on_cell, cancelled)
        notebook = prepare(execution)
        record = Record(notebook, execution.output_path, on_cell)
        run = Run(self, execution, record, cancelled)
        try:
            run.execute()
        finally:
            record.notebook_complete()
            run.end()
        if run.unstarted is not None and not cancelled.is_set():
            return fall_back(f"it got no fork ({run.unstarted})", execution, on_cell, cancelled)
        error = find_error(notebook)
        if error is not None:
            mark_error(notebook, execution.output_path)
        return run.outcome(error)


def fall_back(
    reason: str, execution: Execution, on_cell: Callable[[CellProgress], None], cancelled: threading.Event
) -> Outcome:
    outcome = OrdinaryEngine().execute(execution, on_cell=on_cell, cancelled=cancelled)
    return replace(outcome, log=f"Fell back to papermill's engine because {reason}.\n{outcome.log}")


def runs(cell: NotebookNode) -> bool:
    """Whether there is anything to give to the kernel."""
    tags = cell.metadata.get("tags", [])
    return cell.cell_type == "code" and bool(cell.source.strip()) and "skip-execution" not in tags


class Run:
    """One notebook in one kernel, from the spawn to the exit status.

    The kernel gets the next cell before the last one's document is written: writing it to the disk takes as long as
    a small cell takes to run. Not so where a cell may read that document.
    """

    def __init__(
        self,
        engine: ForkServerEngine,
        execution: Execution,
        record: Record,
        cancelled: threading.Event,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.engine = engine
        self.execution = execution
        self.record = record
        self.cancelled = cancelled
        self.outputs = Outputs(record, self.talk_back, options or {})
        self.session = uuid.uuid4().hex
        timeout = execution.timeout_seconds
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.kill_at: float | None = None
        self.stopped_for: str | None = None
        # How long the kernel may take for what runs at its exit.
        self.patience = SHUTDOWN_SECONDS
        self.problem: str | None = None
        # Why it got no kernel: none of its cells has run, and it may still run elsewhere.
        self.unstarted: str | None = None
        self.died = False
        self.finished = False
        self.goodbye: Exit | None = None
        self.handle: Handle | None = None
        self.channel: Channel | None = None
        self.ready_by: float | None = None
        self.cell_timeout: float | None = None
        self.interrupt_late_cells = False
        self.cell_deadline: float | None = None
        self.late_cell: NotebookNode | None = None
        self.save_at: float | None = None
        self.next_check = 0.0
        self.unheard: deque[tuple[Message, int]] = deque()
        # The cell that the kernel has been given last, and when.
        self.asked: int | None = None
        self.asked_at = 0.0

    def limit_cells(self, seconds: float | None, interrupt: bool) -> None:
        """As papermill's execution_timeout: a late cell ends the run, or is interrupted if `interrupt`."""
        self.cell_timeout = seconds
        self.interrupt_late_cells = interrupt

    # -- from start to end ----------------------------------------------------------------------------

    def execute(self) -> None:
        try:
            language_info = self.start()
        except ForkServerError as error:
            self.problem = self.unstarted = str(error)
            return
        try:
            if language_info is not None and self.run_cells():
                self.outputs.finish(language_info)
                self.finish()
            else:
                self.died = True
        except ForkServerError as error:
            self.problem = str(error)
            self.died = True
            self.kill()
        if self.stopped_for == "interrupted":
            raise KeyboardInterrupt

    def start(self) -> Message | None:
        """Have the kernel forked; the answer is its language, or None if it did not get there."""
        ours, theirs = channels.pair()
        self.channel = Channel(ours)
        try:
            with theirs:
                self.handle = self.engine.server.spawn(
                    "notebook",
                    self.execution.cwd,
                    {**self.execution.env, "JPY_PARENT_PID": str(os.getpid())},
                    [theirs.fileno()],
                    imports_of(self.record.nb),
                    self.engine.limits,
                )
        finally:
            # While the kernel is forked.
            self.record.notebook_start()
        self.ready_by = time.monotonic() + self.execution.start_timeout_seconds
        while (frame := self.hear()) is not None and frame[0]["op"] != "ready":
            pass
        self.ready_by = None
        if frame is None:
            self.handle.wait_started(SHUTDOWN_SECONDS)
            return None
        self.handle.answered.wait(SHUTDOWN_SECONDS)
        language_info: Message = frame[0]["language_info"]
        return language_info

    def check_start(self) -> None:
        if self.ready_by is not None and time.monotonic() > self.ready_by:
            self.ready_by = None
            assert self.handle is not None
            self.handle.wait_started(0)
            self.problem = f"The kernel was not ready within {self.execution.start_timeout_seconds:g} s."
            self.kill()

    def run_cells(self) -> bool:
        """Whether the kernel lived to the end (of the notebook, or of the cell that failed)."""
        cells = self.record.nb.cells
        for index, cell in enumerate(cells):
            if self.must_stop():
                return True
            self.record.cell_start(cell, index)
            try:
                alive, failed = self.run_cell(cell, index)
                # As papermill, to which a cell that was late has not failed itself.
                if failed and self.late_cell is None:
                    self.record.cell_exception(cell, cell_index=index)
                elif alive and self.asked == index and not self.record.is_read:
                    self.ask_for_next(index)
            finally:
                self.record.cell_complete(cell, index)
            if failed or not alive:
                return alive
        return True

    def run_cell(self, cell: NotebookNode, index: int) -> tuple[bool, bool]:
        """Whether the kernel is still alive, and whether the cell failed in a way that ends the run."""
        if not runs(cell):
            return True, False
        self.outputs.begin(cell)
        if self.asked != index:
            self.ask_for(index)
        self.record.began(cell, self.asked_at)
        elapsed = time.time() - self.asked_at
        self.cell_deadline = time.monotonic() + self.cell_timeout - elapsed if self.cell_timeout else None
        self.save_at = time.monotonic() + LONG_CELL_SECONDS - elapsed
        try:
            return self.listen_for(cell, index)
        except KeyboardInterrupt:
            self.stop("interrupted", SHUTDOWN_SECONDS)
            return self.listen_for(cell, index)
        finally:
            self.cell_deadline = self.save_at = None

    def ask_for(self, index: int) -> None:
        """Give the kernel this cell."""
        cell = self.record.nb.cells[index]
        self.talk(self.request(cell, stop_on_error=not self.may_fail(cell)))
        self.asked, self.asked_at = index, time.time()

    def ask_for_next(self, index: int) -> None:
        """Give the kernel the cell that it is to run after this one, unless the run is to stop."""
        cells = self.record.nb.cells
        following = next((later for later in range(index + 1, len(cells)) if runs(cells[later])), None)
        if following is not None and not self.must_stop():
            self.ask_for(following)

    def may_fail(self, cell: NotebookNode) -> bool:
        return self.outputs.client.allow_errors or "raises-exception" in cell.metadata.get("tags", [])

    def listen_for(self, cell: NotebookNode, index: int) -> tuple[bool, bool]:
        while True:
            frame = self.hear()
            if frame is None:
                return False, False
            message, size = frame
            if message["op"] != "message" or message["parent"] != self.current:
                continue
            if self.outputs.take(message, size, cell, index):
                if self.outputs.reply is None:
                    self.problem = NO_REPLY
                    return True, True
                return True, self.outputs.reply.get("status") == "error" and not self.may_fail(cell)

    def request(self, cell: NotebookNode, stop_on_error: bool) -> Message:
        self.current = uuid.uuid4().hex
        return {
            "op": "execute_request",
            "id": self.current,
            "session": self.session,
            "content": {
                "code": cell.source,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": stop_on_error,
            },
        }

    # -- talking and listening ------------------------------------------------------------------------

    def talk(self, message: Message) -> None:
        assert self.channel is not None
        # If the kernel has gone, listening finds out and says why.
        with contextlib.suppress(OSError):
            self.channel.send(message)

    def talk_back(self, message: Message) -> None:
        self.talk(
            {
                "op": message["msg_type"],
                "id": uuid.uuid4().hex,
                "session": self.session,
                "parent": message["parent"],
                "content": message["content"],
            }
        )

    def hear(self) -> tuple[Message, int] | None:
        """The next message and its size; None when the kernel is gone. Stops the kernel when it must."""
        assert self.channel is not None
        assert self.handle is not None
        while True:
            ready = bool(self.unheard) or self.channel.wait(TICK_SECONDS)
            # By the clock and not only when it is quiet: a cell that prints without end can be stopped too.
            if not ready or time.monotonic() >= self.next_check:
                self.next_check = time.monotonic() + TICK_SECONDS
                self.check_start()
                self.check_cell()
                self.must_stop()
                self.save_long_cell()
            if ready and not self.unheard and not self.receive():
                return None
            if self.unheard:
                return self.unheard.popleft()
            if self.handle.ended.is_set() and not self.channel.wait(0):
                return None

    def receive(self) -> bool:
        """Whether the kernel had something to say, or is gone."""
        assert self.channel is not None
        received = self.channel.receive_sized()
        if received is None:
            return False
        packet, size = received
        messages = packet["messages"] if packet["op"] == "messages" else [packet]
        # What an output may cost is charged to the last: what goes with it is small.
        self.unheard.extend((message, 0) for message in messages[:-1])
        self.unheard.append((messages[-1], size))
        return True

    def save_long_cell(self) -> None:
        if self.save_at is not None and time.monotonic() >= self.save_at:
            self.record.save_progress()
            self.save_at = time.monotonic() + AUTOSAVE_SECONDS

    def must_stop(self) -> bool:
        """Whether the run is to stop; the first time it interrupts the kernel, later it kills it."""
        if self.stopped_for is None:
            if self.cancelled.is_set():
                self.stop("cancelled", GRACE_SECONDS)
            elif self.deadline is not None and time.monotonic() > self.deadline:
                self.stop("timed-out", GRACE_SECONDS)
            else:
                return False
        elif self.kill_at is not None and time.monotonic() > self.kill_at:
            self.kill()
        return True

    def stop(self, reason: str, patience: float) -> None:
        """Interrupt the kernel; it has so many seconds for that, and as many for what runs at its exit."""
        self.stopped_for, self.patience = reason, patience
        self.send_signal(signal.SIGINT)
        self.kill_at = time.monotonic() + patience

    def check_cell(self) -> None:
        if self.cell_deadline is None or time.monotonic() < self.cell_deadline:
            return
        self.cell_deadline = None
        if self.interrupt_late_cells:
            self.send_signal(signal.SIGINT)
        else:
            self.late_cell = self.record.nb.cells[self.record.running]
            self.stop("late-cell", SHUTDOWN_SECONDS)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        if self.handle is not None:
            self.handle.signal(number)

    # -- the end --------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Ask the kernel to end, once it has run what it was given."""
        self.talk({"op": "finish"})
        self.finished = True

    def end(self) -> None:
        """Wait for the kernel's exit status, and see to it that there is one."""
        try:
            if self.handle is not None and self.handle.answered.is_set() and self.handle.refusal is None:
                self.await_exit(self.handle)
        finally:
            if self.channel is not None:
                self.channel.close()

    def await_exit(self, handle: Handle) -> None:
        if not (self.finished or self.died or handle.ended.is_set()):
            # An error of ours, in the middle of a cell perhaps.
            self.send_signal(signal.SIGINT)
            self.finish()
        until = time.monotonic() + self.patience
        if not (self.finished and self.hear_goodbye(self.patience)) and not handle.ended.wait(until - time.monotonic()):
            self.kill()
            handle.ended.wait(SHUTDOWN_SECONDS)

    def hear_goodbye(self, seconds: float) -> bool:
        """Whether the kernel said that it has run everything that runs at exit. Nothing can fail after that."""
        assert self.channel is not None
        assert self.handle is not None
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self.channel.wait(left):
            received = self.channel.receive_sized()
            if received is None:
                return False
            message = received[0]
            if message["op"] == "left":
                self.goodbye = Exit(0, message["cpu_seconds"], message["peak_memory_bytes"])
                return True
        return False

    def outcome(self, error: Any) -> Outcome:
        exit = self.goodbye or (self.handle.exit if self.handle is not None else None) or Exit(0)
        used = (exit.cpu_seconds, exit.peak_memory_bytes)
        if self.stopped_for == "cancelled":
            return Outcome("cancelled", error, "The run was cancelled.", *used)
        if self.stopped_for == "timed-out":
            late = f"The run took longer than its timeout of {self.execution.timeout_seconds:g} s; raise the timeout."
            return Outcome("timed-out", error, late, *used)
        if self.problem is not None:
            return Outcome("died", error, self.problem, *used)
        if self.died:
            struck = exit.status == signal.SIGKILL and self.engine.oom.struck()
            return Outcome("died", error, explain(exit, struck), *used)
        return Outcome("succeeded" if error is None else "failed", error, None, *used)
