"""The conversation between client, fork server, warm parent and kernel."""

from __future__ import annotations

from labwright.kernels.channel import Channel, pair


def test_what_an_end_said_before_it_left_something_unread_and_closed_is_still_received():
    ours, theirs = map(Channel, pair())
    ours.send({"op": "nobody reads this"})
    theirs.send({"op": "first"})
    theirs.send({"op": "last"})
    theirs.close()
    assert [ours.receive() for _ in range(3)] == [({"op": "first"}, []), ({"op": "last"}, []), None]
    ours.close()
