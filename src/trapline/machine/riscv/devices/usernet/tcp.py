"""One TCP connection of the guest's (RFC 9293), of which we are the other end, and a stream outside that it leads to.

    outside.send(bytes) <- arriving <- segments of the guest's     segments to the guest <- leaving <- outside.receive()

Sequence numbers are kept as they are on the wire, modulo 2**32. Segments that come out of order are asked for again. What is
sent is limited by the guest's window and by a congestion window (RFC 5681: slow start, avoidance, fast retransmission); what
is not acknowledged is sent again after 1 s, then after twice as long each time (RFC 6298, without measuring).

Invariants:
- `leaving` starts with the byte of sequence number `_una` (behind SYN, before FIN), and holds at most BUFFER bytes;
- `arriving` holds at most BUFFER bytes: the window that we offer is what is left;
- a connection that is CLOSED has let its stream go, and never sends again.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import Protocol

from trapline.machine.riscv.devices.usernet.packets import ACK, FIN, PSH, RST, SYN, Segment

CONNECTING, ASKED, ANSWERED, OPEN, LINGERS, CLOSED = range(6)  #: outside; SYN sent; SYN-ACK sent; data; time-wait; over
BUFFER = 1 << 17  #: bytes under way, in each direction
MSS, LEAST_MSS, DEFAULT_MSS = 1460, 88, 536
MOST = 64_000  #: bytes of segments that are sent as one
SHIFT = 2  #: of the window that we offer, if the guest scales
FIRST_S, LONGEST_S, TRIES = 1.0, 30.0, 8  #: until something is sent again; how often
LINGER_S = 2.0
ACK_S = 0.001  #: until less than a segment is acknowledged, unless something is sent before (RFC 9293: at most 0.5 s)
CONNECT_S = 60.0
_MASK = 0xFFFF_FFFF


class StreamError(Exception):
    """The stream outside has broken."""


class Stream(Protocol):
    """A connection outside. Whoever makes it calls the connection's `outside_*` methods."""

    def send(self, data: memoryview) -> int:
        """How many bytes were taken, perhaps none. Raises StreamError."""

    def receive(self, most: int) -> bytes | None:
        """What has come; nothing: it has ended; None: nothing has come yet. Raises StreamError."""

    def end(self) -> None:
        """No more will be sent."""

    def wait(self, *, to_receive: bool, to_send: bool) -> None:
        """Tell the connection when this can be done."""

    def close(self, *, abort: bool) -> None: ...


def _since(now: int, then: int) -> int:
    """How far `now` is behind `then`, from -2**31 on."""
    return (now - then + 0x8000_0000 & _MASK) - 0x8000_0000


class Connection:
    """`transmit(flags, seq, ack, window, payload, syn options)` sends a segment; `now()` is a clock in seconds. `first`: our
    first sequence number. `large()`: whether many segments may be sent as one."""

    def __init__(
        self, transmit: Callable[[int, int, int, int, bytes, tuple[int, int]], object], now: Callable[[], float], first: int,
        large: Callable[[], object] = bool,
    ) -> None:  # fmt: skip
        self._transmit, self._now, self._large = transmit, now, large
        self.stream: Stream | None = None
        self.state = CONNECTING
        self.deadline: float | None = now() + CONNECT_S  #: of what must happen by then; when to call `expire`, `due` tells
        self._una = self._next = self._most = first  # what the guest has acknowledged, what comes next, what was sent at all
        self._first = first
        self._expected = 0  # the guest's next sequence number
        self._window, self._shift, self._ours = 0, 0, 0  # what it has room for; scales
        self._mss = DEFAULT_MSS
        self._leaving, self._arriving = bytearray(), bytearray()
        self._more = False  # the stream had more than there was room for
        self._ends = self._ended = False  # the stream outside has ended; and FIN was sent
        self._guest_ended = self._passed_on = False  # the guest has sent FIN; and `stream` was told
        self._owes = False  # an acknowledgement
        self._owes_at: float | None = None  # one that can wait until then
        self._acknowledges = 0  # what the guest knows to have arrived
        self._offered = 0  # the window that the guest knows of
        self._congestion, self._threshold, self._repeated = 10 * MSS, BUFFER, 0
        self._tries = 0

    # ---- beginning

    def accept(self, segment: Segment, stream: Stream) -> None:
        """The guest asks for a connection, and `stream` is on its way."""
        self.stream = stream
        self._learn(segment)

    def ask(self, stream: Stream) -> None:
        """Somebody outside has connected: ask the guest."""
        self.stream, self.state, self._ours = stream, ASKED, SHIFT
        self._send_syn()

    def _learn(self, segment: Segment) -> None:
        self._expected = segment.seq + 1 & _MASK
        self._window = segment.window
        self._mss = max(LEAST_MSS, min(MSS, segment.mss or DEFAULT_MSS))
        self._shift, self._ours = (segment.shift, SHIFT) if segment.shift >= 0 else (0, 0)

    def _send_syn(self) -> None:
        flags = SYN if self.state == ASKED else SYN | ACK
        scale = self._ours if self.state == ASKED or self._ours else -1
        self._next = self._most = self._first + 1 & _MASK
        self._offered = min(0xFFFF, BUFFER)
        ack = self._acknowledges = self._expected if flags & ACK else 0
        self._transmit(flags, self._first, ack, self._offered, b"", (MSS, scale))
        self._set_timer()

    # ---- the stream outside

    def outside_connected(self) -> None:
        if self.state == CONNECTING:
            self.state = ANSWERED
            self._send_syn()
            self._watch()

    def outside_ready(self, *, to_receive: bool, to_send: bool) -> None:
        """The stream can be read or written."""
        if self.state not in (ANSWERED, OPEN):
            return
        try:
            if to_send:
                self._pass_on()
            if to_receive:
                self._fetch()
        except StreamError:
            self.abort()
            return
        self.output()

    def outside_failed(self) -> None:
        """It could not be made, or has broken."""
        self.abort()

    def _fetch(self) -> None:
        """Raises StreamError."""
        self._more = True
        while self.stream is not None and not self._ends and (room := BUFFER - len(self._leaving)) > 0:
            data = self.stream.receive(room)
            if data is None:
                self._more = False
                break
            self._leaving += data
            self._ends = not data

    def _pass_on(self) -> None:
        """Give the stream what has arrived. Raises StreamError."""
        if self.stream is None:
            return
        if self._arriving:
            with memoryview(self._arriving) as view:
                done = self.stream.send(view)
            del self._arriving[:done]
        if self._guest_ended and not self._arriving and not self._passed_on:
            self._passed_on = True
            self.stream.end()
            if self._ended and self._una == self._most:
                self._finish()

    def _watch(self) -> None:
        if self.stream is not None:
            receives = not self._ends and len(self._leaving) < BUFFER
            self.stream.wait(to_receive=receives, to_send=bool(self._arriving))

    # ---- segments of the guest's

    def segment(self, segment: Segment) -> None:
        """`output` must follow."""
        if self.state == CONNECTING:
            if segment.flags & RST and segment.seq == self._expected:
                self._close(abort=True)
            return
        if self.state == ASKED:
            self._answered(segment)
            return
        ahead = _since(segment.seq, self._expected)
        if segment.flags & RST:
            if ahead == 0:
                self._close(abort=True)
            elif 0 < ahead < BUFFER:
                self._owes = True  # RFC 5961: ask whether it is meant
            return
        if segment.flags & SYN:
            if self.state == ANSWERED and ahead == -1:
                self._send_syn()
            else:
                self._owes = True
            return
        if segment.flags & ACK and self._acknowledged(segment):
            self._take(segment, ahead)

    def _answered(self, segment: Segment) -> None:
        """Something comes after our SYN."""
        good = segment.ack == self._next
        if segment.flags & ACK and not good:
            if not segment.flags & RST:
                self._transmit(RST, segment.ack, 0, 0, b"", (0, -1))
        elif segment.flags & RST:
            if good and segment.flags & ACK:
                self._close(abort=True)
        elif segment.flags & SYN and segment.flags & ACK:
            self._learn(segment)
            self._una = segment.ack
            self._opened()

    def _opened(self) -> None:
        self.state, self._tries, self.deadline = OPEN, 0, None
        self._owes = True
        self._watch()

    def _acknowledged(self, segment: Segment) -> bool:
        """Whether what it acknowledges may be."""
        if self.state == ANSWERED:
            if segment.ack != self._next:
                self._transmit(RST, segment.ack, 0, 0, b"", (0, -1))
                return False
            self._una = segment.ack
            self._opened()
            self._owes = False
        new = _since(segment.ack, self._una)
        if new > _since(self._most, self._una):
            self._owes = True
            return False
        if new > 0:
            self._advance(segment.ack, new)
        elif new == 0 and self._una != self._most and not segment.payload and segment.window << self._shift == self._window:
            self._again()
        if new >= 0:
            self._probed(segment.window)
            self._window = segment.window << self._shift
        return True

    def _probed(self, window: int) -> None:
        """The guest has said what its window is, perhaps because it was asked."""
        if not window:
            self._tries = min(self._tries, TRIES // 2)  # somebody is there
        elif not self._window:
            self._next = self._una  # what was sent to a closed window is sent again

    def _advance(self, ack: int, new: int) -> None:
        """`new` sequence numbers have been acknowledged."""
        del self._leaving[:new]
        self._una = ack
        if _since(self._next, ack) < 0:
            self._next = ack
        self._repeated = self._tries = 0
        step = new if self._congestion < self._threshold else self._mss * self._mss // self._congestion + 1
        self._congestion = min(BUFFER, self._congestion + step)
        self.deadline = None
        self._set_timer()
        if self._ended and ack == self._most:
            self._finish()

    def _again(self) -> None:
        """The guest has acknowledged the same again: after three times, what follows was lost."""
        self._repeated += 1
        if self._repeated == 3:
            self._halve()
            self._resend()

    def _halve(self) -> None:
        self._threshold = max(2 * self._mss, _since(self._most, self._una) // 2)
        self._congestion = self._threshold

    def _resend(self) -> None:
        """The first segment that is not acknowledged; all behind it follow if it is alone."""
        data = bytes(self._leaving[: self._mss])
        ends = self._ended and len(self._leaving) <= self._mss
        self._send(self._una, data, FIN if ends else 0)

    def _take(self, segment: Segment, ahead: int) -> None:
        """Its data, and its end."""
        if self.state == LINGERS or self._guest_ended:
            self._owes |= bool(segment.payload or segment.flags & FIN)
            return
        if ahead > 0 or (ahead < 0 and -ahead > len(segment.payload)):
            self._owes = True  # something is missing, or it has come before
            return
        data = segment.payload[-ahead:]
        room = BUFFER - len(self._arriving)
        self._owes |= len(data) < len(segment.payload) or len(data) > room
        if data:
            self._arriving += data[:room]
            self._expected = self._expected + min(len(data), room) & _MASK
            self._owe()
        if segment.flags & FIN and len(data) <= room:
            self._owes = self._guest_ended = True
            self._expected = self._expected + 1 & _MASK
        if data or self._guest_ended:
            try:
                self._pass_on()
            except StreamError:
                self.abort()

    def _owe(self) -> None:
        """Acknowledge a whole segment at once, and less in a while: an answer may come before."""
        if _since(self._expected, self._acknowledges) >= self._mss:
            self._owes = True
        elif self._owes_at is None:
            self._owes_at = self._now() + ACK_S

    # ---- segments to the guest

    def output(self) -> None:
        """Send what may be sent, and what is owed."""
        if self.state == OPEN and self._more and len(self._leaving) <= BUFFER // 2:
            try:
                self._fetch()
            except StreamError:
                self.abort()
        if self.state == OPEN:
            self._send_data()
            self._watch()
        if self.state in (OPEN, LINGERS) and (self._owes or self._opens()):
            self._send(self._next, b"", 0)

    def _send_data(self) -> None:
        limit = min(self._window, self._congestion)
        size = MOST // self._mss * self._mss if self._large() else self._mss
        while True:
            sent = _since(self._next, self._una)
            data = bytes(self._leaving[sent : min(sent + size, max(limit, sent))])
            rest = len(self._leaving) - sent - len(data)
            if data and rest and len(data) < self._mss and sent:
                return  # a whole segment, when the window opens
            ends = self._ends and rest <= 0 and not (self._ended and sent > len(self._leaving))
            if not data and not ends:
                if rest > 0 and self._una == self._most:
                    self._set_timer()  # to ask whether the window has opened
                return
            self._send(self._next, data, FIN if ends else 0)
            self._next = self._next + len(data) + ends & _MASK
            if _since(self._next, self._most) > 0:
                self._most = self._next
            self._ended |= ends
            self._set_timer()

    def _send(self, seq: int, data: bytes, more: int) -> None:
        self._owes, self._owes_at, self._acknowledges = False, None, self._expected
        window = min(0xFFFF, BUFFER - len(self._arriving) >> self._ours)
        self._offered = window << self._ours
        self._transmit(ACK | more | (PSH if data else 0), seq, self._expected, window, data, (0, -1))

    def _opens(self) -> bool:
        """Whether the guest should know that there is room again."""
        return self._offered < 2 * MSS and BUFFER - len(self._arriving) >= BUFFER // 2

    def _set_timer(self) -> None:
        if self.deadline is None or self.state in (ASKED, ANSWERED):
            waits = self._una != self._most or self._leaving
            self.deadline = self._now() + min(LONGEST_S, FIRST_S * (1 << self._tries)) if waits else None

    @property
    def due(self) -> float | None:
        """When `expire` is to be called; None: never."""
        if self._owes_at is None or self.deadline is None:
            return self.deadline if self._owes_at is None else self._owes_at
        return min(self.deadline, self._owes_at)

    def expire(self) -> None:
        """Something is due."""
        if self._owes_at is not None and self._owes_at <= self._now():
            self._owes, self._owes_at = True, None
            self.output()
            if self.deadline is None or self.deadline > self._now():
                return
        self.deadline = None
        if self.state in (LINGERS, CONNECTING) or self._tries >= TRIES:
            self._close(abort=True) if self.state == LINGERS else self.abort()
            return
        self._tries += 1
        if self.state in (ASKED, ANSWERED):
            self._send_syn()
        elif self._leaving and not self._window:  # ask with one byte whether it has opened
            self._send(self._una, bytes(self._leaving[:1]), 0)
            self._next = self._una + 1 & _MASK
            if _since(self._next, self._most) > 0:
                self._most = self._next
        elif self._una != self._most:
            self._halve()
            self._congestion = self._mss
            self._next, self._repeated = self._una, 0
            self._send_data()
        self._set_timer()

    # ---- the end

    def _finish(self) -> None:
        """The guest has all that we had."""
        if not self._guest_ended:
            return
        if self._arriving:
            return  # the stream outside does not have all that the guest sent
        self._let_go(abort=False)
        self.state, self.deadline = LINGERS, self._now() + LINGER_S

    def abort(self) -> None:
        """Reset both sides."""
        if self.state in (CONNECTING, ANSWERED, OPEN, ASKED):
            self._transmit(RST | ACK, self._next, self._expected, 0, b"", (0, -1))
        self._close(abort=True)

    def _close(self, *, abort: bool) -> None:
        self.state, self.deadline, self._owes_at = CLOSED, None, None
        self._let_go(abort=abort)

    def _let_go(self, *, abort: bool) -> None:
        stream, self.stream = self.stream, None
        self._leaving.clear()
        if stream is not None:
            stream.close(abort=abort)
