"""How a kernel's messages leave it: by ZeroMQ as ipykernel sends them, or over a channel to the engine of a run."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from jupyter_client.session import Session

from labwright.kernels.channel import Channel

# Followed at once by another message: that a request has begun by its text, and its reply by its end.
ACCOMPANIED = frozenset({("status", "busy"), ("execute_reply", None)})
# What a process that a notebook forks may send: the rest (replies, errors, states) is for the kernel to say.
SHOWN = frozenset({"display_data", "update_display_data"})
TOGETHER = b'{"op":"messages","messages":[%b]}'


class SwitchingSession(Session):
    """A session that sends by ZeroMQ, or over a channel once it is given one.

    Over a channel, what another message follows at once goes together with that: each packet wakes the engine.
    """

    channel: Channel | None = None
    lock: threading.RLock
    in_fork = False

    def plug_into_channel(self, channel: Channel, lock: threading.RLock) -> None:
        self.channel = channel
        self.take_lock(lock)

    def take_lock(self, lock: threading.RLock, in_fork: bool = False) -> None:
        """Also in a fork, in which the other one may be held for good; what is held here is for its parent to send."""
        self.lock, self.in_fork = lock, in_fork
        self.held: list[bytes] = []

    def send(
        self,
        stream: Any,
        msg_or_type: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Any = None,
        metadata: Any = None,
    ) -> dict[str, Any] | None:
        if self.channel is None:
            return super().send(stream, msg_or_type, content, parent, ident, buffers, track, header, metadata)
        if isinstance(msg_or_type, dict):
            msg = msg_or_type
            buffers = buffers or msg.get("buffers", [])
        else:
            msg = self.msg(msg_or_type, content, parent, header, metadata)
        if self.in_fork and msg["msg_type"] not in SHOWN:
            return msg
        frame = {
            "op": "message",
            "type": msg["msg_type"],
            "parent": msg["parent_header"].get("msg_id"),
            "date": msg["header"]["date"],
            "content": msg["content"],
        }
        if buffers:
            frame["buffers"] = [bytes(buffer).hex() for buffer in buffers]
        packed = self.pack_safely(frame)
        accompanied = (msg["msg_type"], msg["content"].get("execution_state")) in ACCOMPANIED
        with self.lock:
            self.held.append(packed)
            if not accompanied:
                frames, self.held = self.held, []
                self.channel.send_packed(frames[0] if len(frames) == 1 else TOGETHER % b",".join(frames))
        return msg

    def pack_safely(self, frame: dict[str, Any]) -> bytes:
        """As the ordinary session packs it and a client reads it: a byte that is no UTF-8 becomes a replacement
        character. What stands for no byte at all (other lone surrogates) becomes a question mark."""
        try:
            packed: bytes = self.pack(frame)
        except UnicodeError:
            text = json.dumps(frame, default=str, ensure_ascii=False)
            return text.encode("utf-8", "replace")
        try:
            packed.decode("utf-8")
        except UnicodeDecodeError:
            return packed.decode("utf-8", "replace").encode()
        return packed

    def start_over(self) -> None:
        """Forget everything that would make this process look like the one it was forked from, which sent nothing."""
        self.session = new_id()
        self.pid = os.getpid()

    def feed_identities(self, msg_list: Any, copy: bool = True) -> Any:
        if self.channel is None:
            return super().feed_identities(msg_list, copy)
        return [], msg_list

    def deserialize(self, msg_list: Any, content: bool = True, copy: bool = True) -> dict[str, Any]:
        if self.channel is None:
            return super().deserialize(msg_list, content, copy)
        message: dict[str, Any] = msg_list[-1]
        return message


def new_id() -> str:
    """An identity as hard to guess as a UUID, whose class would cost a fork 80 pages."""
    return os.urandom(16).hex()
