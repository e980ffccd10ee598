"""Who listens on a port of the loopback, and how a port stays its service's while the service is away.

Every account of the machine may bind a free port above 1023. Whoever took core's in the second of its restart would be
given everybody's tokens. So the launcher holds each service's port: a socket that belongs to the service's account, is
bound and never listens. Linux lets a second socket bind there only with SO_REUSEPORT and of the same account.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct

LOOPBACK = "127.0.0.1"
_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR, _TCP_LISTEN = 20, 1, 2, 10
_NETLINK_SOCK_DIAG = 4
_HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence, sender
_UID_OFFSET = _HEADER.size + 4 + 48 + 12  # in struct inet_diag_msg, after its family, its addresses and its queues


def hold(port: int, user: str) -> socket.socket:
    """Keep `port` for processes of `user` that bind it with SO_REUSEPORT; for as long as the socket is open.

    Needs root. No SO_REUSEADDR here: with it anybody's socket that also has it could bind.
    """
    os.seteuid(pwd.getpwnam(user).pw_uid)  # a socket belongs to whoever it is made by
    try:
        held = socket.socket()
    finally:
        os.seteuid(0)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind((LOOPBACK, port))
    except OSError:
        held.close()
        raise
    return held


def bind(port: int, *, held: bool) -> socket.socket:
    """A socket bound to `port` of the loopback, to listen on; `held`: the launcher keeps the port for this account."""
    # asyncio sets TCP_NODELAY on the connections of a listener that says it is TCP's, and on no others.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if held:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((LOOPBACK, port))
    made.setblocking(False)
    return made


def owner(port: int) -> int | None:
    """The number of the account whose process listens on `port` of the loopback; None where nobody does.

    One question to the kernel, 0.1 ms; /proc/net/tcp takes 30.
    """
    address = socket.inet_aton(LOOPBACK).ljust(16, b"\0")
    ask = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 1 << _TCP_LISTEN)
    ask += struct.pack("!HH", port, 0) + address + address + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(1.0)
            length = _HEADER.size + len(ask)
            kernel.sendto(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + ask, (0, 0))
            answer = kernel.recv(4096)
    except OSError:
        return None
    if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
        return None
    uid: int = struct.unpack_from("=I", answer, _UID_OFFSET)[0]
    return uid
