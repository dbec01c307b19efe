"""Out-of-band data of UNIX streams, MSG_OOB: an urgent byte, and the mark that it leaves in the stream; send(2), sockatmark(3).

The byte is a message of its own in the inbox, `UnixSocket.oob` until it is read or passed over; read apart from the rest, it
stays as an empty message, the mark. A receive stops before the byte or the mark, and the next one goes on behind it (with
SO_OOBINLINE: with the byte). Sources: net/unix/af_unix.c, `manage_oob`, `unix_stream_recv_urg`.

Invariant: `UnixSocket.marked` while there is such a byte or such a mark, so that other streams pay for one test.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, EOPNOTSUPP
from trapline.abi.socket import SO_OOBINLINE, SOCK_STREAM

if TYPE_CHECKING:
    from trapline.kernel.net.message import Message
    from trapline.kernel.net.unix import UnixSocket


def inline(socket: UnixSocket) -> bool:
    """Urgent bytes are read like all others."""
    return any(socket.options.get(SO_OOBINLINE, b""))


def take(socket: UnixSocket, peek: bool) -> bytes:
    """Receive the urgent byte. Raises EINVAL if there is none, EOPNOTSUPP for datagrams and packets."""
    if socket.kind != SOCK_STREAM:
        raise EOPNOTSUPP
    message = socket.oob
    if message is None or inline(socket):
        raise EINVAL("no urgent byte, or it is in line")
    data = message.data[message.start :]
    if not peek:
        message.start += len(data)
        socket.oob = None
    return data


def batch(socket: UnixSocket, count: int, done: int, peek: bool) -> list[Message]:
    """As `UnixSocket.batch`, for a stream with marks: what a receive that has `done` bytes takes from; empty: it ends here."""
    inbox = socket.inbox
    if not peek:
        _pass_marks(socket, done)
    taken: list[Message] = []
    for message in inbox:
        if message is socket.oob or not len(message):
            if done:
                break
            if not len(message) or not inline(socket):
                continue
        if count <= 0 or (taken and socket.pass_creds and message.creds != taken[0].creds):
            break
        taken.append(message)
        done += len(message)
        count -= len(message)
        if message.cargo:
            break
    return taken


def _pass_marks(socket: UnixSocket, done: int) -> None:
    """A receive begins at a mark: it goes. At an urgent byte: that is passed over, or becomes one like others."""
    while not done and socket.inbox and not len(socket.inbox[0]):
        socket.remove(socket.inbox[0])
    if socket.oob is not None:  # the older mark no longer counts
        for message in [each for each in socket.inbox if not len(each)]:
            socket.remove(message)
    if not done and socket.inbox and socket.inbox[0] is socket.oob:
        message, socket.oob = socket.inbox[0], None
        if not inline(socket):
            socket.remove(message)
    socket.marked = socket.oob is not None or not all(map(len, socket.inbox))


def at_mark(socket: UnixSocket) -> bool:
    """SIOCATMARK: the next byte read is the one at, or behind, the mark."""
    if not socket.inbox:
        return False
    first = socket.inbox[0]
    if first is socket.oob:
        return True
    return not len(first) and (socket.oob is None or socket.inbox[1] is socket.oob)
