"""A first run for practice, in a fork: finds the modules that every kernel ends up importing.

IPython and ipykernel import much on first use (traceback formatting, the event loop, input transformation).
A parent that has imported it already saves each of its kernels 30 to 100 ms. What the practice run imports
is imported by the parent; the practice run itself, its namespace and its threads are thrown away.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labwright.kernels import channel as channels
from labwright.kernels.channel import IN_MEMORY_HISTORY, Channel, Message
from labwright.kernels.firstuses import first_uses, perform
from labwright.kernels.preload import dangers
from labwright.kernels.warm import WarmKernelApp

CELLS = (
    "x = 1\nprint(x)\nx",
    "import sys; print('to stderr', file=sys.stderr)",
    "from IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'), display_id='d')",
    "import asyncio\nawait asyncio.sleep(0)",
    "%who_ls\n!true",
    "def f():\n    return 1 / 0\nf()",
)
PATIENCE_SECONDS = 30.0


Practice = Callable[[WarmKernelApp], None]


@dataclass(frozen=True)
class Lesson:
    """What a practice run has shown: the modules it imported, and why it must not be done in the parent, if so."""

    names: list[str]
    danger: str | None


def rehearse(app: WarmKernelApp, modules: Sequence[str], scratch: Path) -> None:
    """Import what practice runs needed. A practice run that fails costs nothing but the saving.

    `scratch` is for files of practice runs; whoever gave it removes it, for a parent may be killed at any time.
    """
    learn(app, practise_in_notebook)
    learn(app, lambda app: practise_over_zmq(app, scratch))
    lessons = {use: learn(app, lambda app, use=use: perform(use)) for use in first_uses(modules)}  # type: ignore[misc]
    # When all is imported: a module that registers with an abstract base class empties what each of those remembers.
    for use, lesson in lessons.items():
        if use.only_computes and lesson.danger is None:
            with contextlib.suppress(Exception):
                perform(use)


def learn(app: WarmKernelApp, practise: Practice) -> Lesson:
    lesson = lesson_of(app, practise)
    for name in lesson.names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return lesson


def lesson_of(app: WarmKernelApp, practise: Practice) -> Lesson:
    """Which modules a fork imports that does `practise`, and whether it is fit for forking afterwards."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            known = set(sys.modules)
            practise(app)
            names = [name for name in sys.modules if name not in known and not name.startswith("labwright")]
            with os.fdopen(writer, "w") as file:
                json.dump([names, dangers()], file)
        finally:
            os._exit(0)
    os.close(writer)
    lesson = read_lesson(reader)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    return lesson


def practise_in_notebook(app: WarmKernelApp) -> None:
    from labwright.kernels.alive import NotebookKernel

    ours, theirs = channels.pair()
    app.come_alive_in_notebook(Channel(theirs), echo=False)
    engine = Channel(ours)
    for number, code in enumerate(CELLS):
        engine.send(request(number, code))
    engine.send({"op": "finish"})
    NotebookKernel(app, Channel(theirs)).serve()


def practise_over_zmq(app: WarmKernelApp, scratch: Path) -> None:
    os.environ["JPY_PARENT_PID"] = "1"  # Keeps ipykernel from printing how to connect.
    app.transport, app.ip = "ipc", f"{scratch}/k"
    app.come_alive_over_zmq(["-f", f"{scratch}/kernel.json", IN_MEMORY_HISTORY])
    app.kernel.start()
    app.kernel.do_complete("import o", 8)


def request(number: int, code: str) -> Message:
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    return {"op": "execute_request", "id": f"rehearsal-{number}", "session": "rehearsal", "content": content}


def read_lesson(reader: int) -> Lesson:
    text = b""
    with os.fdopen(reader, "rb") as file:
        while select.select([file], [], [], PATIENCE_SECONDS)[0]:
            piece = os.read(file.fileno(), 65536)
            if not piece:
                break
            text += piece
    with contextlib.suppress(ValueError):
        return Lesson(*json.loads(text))
    return Lesson([], "it did not get to its end")
