"""Messages between client, fork server, warm parent and kernel: JSON objects, with file descriptors.

The sockets are Unix SOCK_SEQPACKET: the kernel keeps message boundaries, so that threads and forked
processes of a notebook may write at the same time, and a writer that is killed leaves no half message.
Whatever does not fit into a packet travels as a sealed memory file.

Nothing here is ever unpickled or evaluated: the other end may be a notebook.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any

from labwright.kernels.errors import ChannelBroken

Message = dict[str, Any]

# Well below the kernel's default send buffer of 208 KiB, so that two packets fit at once.
PACKET_BYTES = 64 * 1024
MAX_FDS = 8
# A message in a memory file may be as large as the largest display; more is refused unread.
MESSAGE_BYTES = 512 * 1024 * 1024
IN_MEMORY_FILE = b"\0"
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
TRUNCATED = int(socket.MSG_TRUNC) | int(socket.MSG_CTRUNC)

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode
decode = json.JSONDecoder().decode


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def peer_identity(sock: socket.socket) -> tuple[int, int]:
    """Process and user id of the process that connected, as the kernel vouches for them."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


# The one argument of a kernel that a fork obeys as well.
IN_MEMORY_HISTORY = "--HistoryManager.hist_file=:memory:"


class Channel:
    """One end of a conversation. Sending is safe from several threads and after a fork."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.poller = select.poll()
        self.poller.register(sock, select.POLLIN)

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        self.send_packed(encode(message).encode("utf-8", "surrogatepass"), fds)

    def send_packed(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message that is JSON already."""
        if len(data) > PACKET_BYTES:
            self.send_in_memory_file(data, fds)
        else:
            socket.send_fds(self.sock, [data], list(fds)) if fds else self.sock.send(data)

    def send_in_memory_file(self, data: bytes, fds: Sequence[int]) -> None:
        file = write_memory_file(data)
        try:
            socket.send_fds(self.sock, [IN_MEMORY_FILE], [*fds, file])
        finally:
            os.close(file)

    def wait(self, seconds: float | None) -> bool:
        """Whether there is something to receive (or the other end is gone) within `seconds`."""
        return bool(self.poller.poll(None if seconds is None else max(0, seconds) * 1000))

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next message and its file descriptors, or None when the other end has closed."""
        received = self.receive_data()
        return None if received is None else (received[0], received[2])

    def receive_sized(self) -> tuple[Message, int] | None:
        """The next message and how many bytes it took; file descriptors are not accepted."""
        received = self.receive_data()
        if received is None:
            return None
        for fd in received[2]:
            os.close(fd)
        return received[0], received[1]

    def receive_packet(self) -> tuple[bytes, list[int], int, Any]:
        return socket.recv_fds(self.sock, PACKET_BYTES + 1, MAX_FDS)

    def receive_data(self) -> tuple[Message, int, list[int]] | None:
        try:
            data, fds, flags, _ = self.receive_packet()
        except ConnectionResetError:
            # Told once, when the other end left something unread, and before what it had said itself.
            data, fds, flags, _ = self.receive_packet()
        if not data:
            return None
        try:
            if flags & TRUNCATED:
                raise ChannelBroken("A message was larger than the protocol allows.")
            if data == IN_MEMORY_FILE:
                data = read_memory_file(fds.pop())
            message = decode(data.decode("utf-8", "surrogatepass"))
            if not isinstance(message, dict):
                raise ChannelBroken("A message was not an object.")
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, ValueError | IndexError | RecursionError):
                raise ChannelBroken("A message could not be read.") from error
            raise
        return message, len(data), fds


def write_memory_file(data: bytes) -> int:
    """A memory file with `data`, sealed so that the sender cannot pull the rug while the receiver reads."""
    file = os.memfd_create("labwright-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(file)
        raise
    return file


def read_memory_file(fd: int) -> bytes:
    try:
        size = os.fstat(fd).st_size
        # One call reads it all: the limit is below what that can be.
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS and size <= MESSAGE_BYTES:
            return os.pread(fd, size, 0)
    except OSError:
        pass  # not a memory file
    finally:
        os.close(fd)
    raise ChannelBroken("A large message did not come in a sealed memory file.")
