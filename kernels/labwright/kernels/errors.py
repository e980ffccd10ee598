"""What can go wrong between a client and the fork server.

ForkServerError
├── ForkServerGone        the server ended or never came up
├── SpawnRefused          it will not fork what was asked for, and says why
└── ChannelBroken         the other side sent what the protocol does not know
"""

from __future__ import annotations


class ForkServerError(Exception):
    """The message is a sentence that a person can act on."""

    code = "fork-server"


class ForkServerGone(ForkServerError):
    code = "fork-server-gone"


class SpawnRefused(ForkServerError):
    code = "spawn-refused"


class ChannelBroken(ForkServerError):
    code = "channel-broken"
