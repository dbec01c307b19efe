"""Sockets that only messages refer to: finding and emptying them, as the garbage collector of unix(7) does.

A socket whose every reference is in flight is alive only if a message that somebody can still receive carries it.
"""

from __future__ import annotations

from trapline.typed import Any

from trapline.kernel.net.message import Flights
from trapline.kernel.net.unix import UnixSocket


def collect_garbage(flights: Flights) -> int:
    """Drop the messages of sockets nobody can reach any more; how many sockets that were."""
    suspects = {each for each, count in flights.counts.items() if isinstance(each, UnixSocket) and each.refs == count}
    inside: dict[Any, int] = {}
    for socket in suspects:
        for file in _carried(socket):
            inside[file] = inside.get(file, 0) + 1
    alive = [each for each in suspects if inside.get(each, 0) < flights.counts[each]]
    while alive:
        socket = alive.pop()
        if socket in suspects:
            suspects.discard(socket)
            alive += [each for each in _carried(socket) if each in suspects]
    for socket in suspects:
        socket.empty()
    flights.collect_at = max(1000, 2 * flights.total)
    return len(suspects)


def _carried(socket: Any) -> list[Any]:
    """The files in the messages that wait in a socket, or in connections nobody accepted."""
    inboxes = [socket.inbox, *(each.inbox for each in socket.pending)]
    return [file for inbox in inboxes for message in inbox if message.cargo is not None for file in message.cargo.files]
