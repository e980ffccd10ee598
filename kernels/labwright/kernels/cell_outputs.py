"""What a kernel sends becomes the outputs of a cell, by nbclient's own rules, within limits.

nbclient's message handling (display ids, clear_output, comms, output widgets) is used as it is; only the
transport around it is ours.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from nbclient.client import timestamp
from nbclient.exceptions import CellExecutionComplete
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient

from labwright.kernels.channel import Message
from labwright.kernels.record import Record

# 100 MB of text or 10^6 messages must not cost the runner half a gigabyte: measured at about 1.2 KB a display.
MOST_OUTPUT_BYTES = 64 * 1024 * 1024
MOST_OUTPUTS = 100_000
# Neighbouring pieces of one stream become one output up to this length; papermill leaves them in pieces.
JOINED_TEXT = 1024 * 1024

# Added without nbclient where they are plain.
BY_HAND = frozenset({"stream", "execute_result"})
SHOWN = frozenset({"stream", "display_data", "execute_result", "update_display_data"})


class ChannelClient:
    """As much of a kernel client as nbclient's output widgets need to talk back to the kernel."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self.session = self
        self.shell_channel = self
        self.forward = send

    def msg(self, msg_type: str, content: Message, parent: Message, metadata: Message) -> Message:
        return {"msg_type": msg_type, "content": content, "parent": parent}

    def send(self, message: Message) -> None:
        self.forward(message)


class Outputs:
    """Turns the messages of one run into outputs of its cells."""

    def __init__(self, record: Record, send: Callable[[Message], None], options: dict[str, Any]) -> None:
        self.record = record
        self.client = PapermillNotebookClient(record, **options)
        self.client.kc = ChannelClient(send)
        self.bytes_left = MOST_OUTPUT_BYTES
        self.outputs_left = MOST_OUTPUTS
        self.cut = False
        self.reply: Message | None = None
        # Whoever logs output wants it message by message.
        self.join = not (self.client.log_output or self.client.stdout_file or self.client.stderr_file)

    def begin(self, cell: NotebookNode) -> None:
        """As nbclient does before it sends a cell."""
        if self.client.record_timing:
            cell["metadata"]["execution"] = {}
        cell.outputs = []
        self.client.code_cells_executed += 1
        self.client.clear_before_next_output = False
        self.reply = None

    def take(self, frame: Message, size: int, cell: NotebookNode, index: int) -> bool:
        """Apply a message to the cell that runs; the answer is whether that cell is done."""
        message = as_iopub(frame)
        if frame["type"] == "execute_reply":
            self.reply = frame["content"]
            if self.client.record_timing:
                cell["metadata"]["execution"]["shell.execute_reply"] = timestamp(message)
            return False
        if frame["type"] in SHOWN and not self.afford(size, cell):
            return False
        if self.join and frame["type"] in BY_HAND and not self.is_diverted(message) and self.added(message, cell):
            return False
        self.touch_displays(message)
        try:
            self.client.process_message(message, cell, index)
        except CellExecutionComplete:
            return True
        return False

    def afford(self, size: int, cell: NotebookNode) -> bool:
        self.bytes_left -= size
        self.outputs_left -= 1
        if self.bytes_left >= 0 and self.outputs_left >= 0:
            return True
        if not self.cut:
            self.cut = True
            cell.outputs.append(NotebookNode(output_type="stream", name="stderr", text=self.mark()))
        return False

    def mark(self) -> str:
        limit = f"{MOST_OUTPUT_BYTES // 2**20} MB" if self.bytes_left < 0 else f"{MOST_OUTPUTS} outputs"
        return (
            f"\n[labwright: the output of this run is cut here: it is more than {limit}. "
            "Write large results to a file.]\n"
        )

    def is_diverted(self, message: Message) -> bool:
        """Whether it takes the place of an output, or goes to a widget."""
        return self.client.clear_before_next_output or bool(
            self.client.output_hook_stack[message["parent_header"]["msg_id"]]
        )

    def added(self, message: Message, cell: NotebookNode) -> bool:
        """Whether it could be added to the cell without nbclient, which validates each piece for 1 ms."""
        content = message["content"]
        if message["msg_type"] == "stream":
            return self.added_text(content["name"], content["text"], cell)
        data, metadata = content["data"], content["metadata"]
        if content.get("transient") or metadata or not all(is_text(kind, value) for kind, value in data.items()):
            return False
        cell.execution_count = content["execution_count"]
        cell.outputs.append(
            NotebookNode(
                output_type="execute_result",
                execution_count=content["execution_count"],
                data=NotebookNode(data),
                metadata=NotebookNode(),
            )
        )
        return True

    def added_text(self, name: str, text: str, cell: NotebookNode) -> bool:
        if name not in ("stdout", "stderr") or not isinstance(text, str):
            return False
        last = cell.outputs[-1] if cell.outputs else NotebookNode(output_type=None)
        if last.output_type == "stream" and last.name == name and len(last.text) + len(text) <= JOINED_TEXT:
            last.text += text
        else:
            cell.outputs.append(NotebookNode(output_type="stream", name=name, text=text))
        return True

    def touch_displays(self, message: Message) -> None:
        """Showing a display id again changes cells that were written before."""
        display_id = (message["content"].get("transient") or {}).get("display_id")
        for index in self.client._display_id_map.get(display_id, ()):
            self.record.touch(index)

    def finish(self, language_info: Message) -> None:
        self.record.nb.metadata["language_info"] = language_info
        self.client.set_widgets_metadata()


def is_text(kind: str, value: object) -> bool:
    """Whether a part of a display is what the notebook format wants it to be: all but JSON is text."""
    return isinstance(value, str) and kind.startswith(("text/", "image/"))


def as_iopub(frame: Message) -> Message:
    """The message as a kernel client would have received it."""
    return {
        "msg_type": frame["type"],
        "header": {"msg_type": frame["type"], "date": datetime.datetime.fromisoformat(frame["date"])},
        "parent_header": {"msg_id": frame["parent"]},
        "metadata": {},
        "content": frame["content"],
        "buffers": [bytes.fromhex(buffer) for buffer in frame.get("buffers", ())],
    }
