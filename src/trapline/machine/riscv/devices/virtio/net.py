"""Net: an Ethernet card (Virtual I/O Device Specification, "Network Device"), and a hub between cards of one process.

Every frame has a header of twelve bytes in the rings, which says what one side leaves to the other: checksums, and cutting up
what is too long for a frame (offload.py). A card hands headers over with the frames (`headed`), or ignores the driver's: who
may get such frames then needs neither.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from trapline.machine.riscv.devices.saved import BadState, State, entry, flag, pack, text_of, unpack, whole
from trapline.machine.riscv.devices.virtio import offload
from trapline.machine.riscv.devices.virtio.offload import PLAIN
from trapline.machine.riscv.devices.virtio.queue import Broken, Chain, Queue, scatter
from trapline.machine.riscv.devices.virtio.transport import Transport

F_CSUM, F_GUEST_CSUM, F_MAC, F_GUEST_TSO4, F_HOST_TSO4, F_MRG_RXBUF, F_STATUS = (1 << n for n in (0, 1, 5, 7, 11, 15, 16))
LINK_UP = 1
HEADER = 12
MIN_FRAME, FRAME, MAX_FRAME = 14, 1514, 65_550  #: bytes: the shortest, the longest on a wire, the longest
TAGGED = FRAME + 4  #: the longest of a virtual LAN: what a driver's buffer has room for
SEGMENT = 1460  #: bytes of data in the TCP segments that a longer frame stands for
#: needs a checksum from byte 34 on, at 16 behind that; is TCP over IPv4 (1), with 54 bytes of headers
_LARGE = struct.pack("<BBHHHH", 1, 1, 54, SEGMENT, 34, 16)
BACKLOG = 256  #: frames that wait for the driver's buffers; more are lost, as on a wire
_RECEIVE, _TRANSMIT = 0, 1
_SAVED = {"lost": whole(1 << 80), "up": flag}
REQUESTS = 256  #: before the harts run again
GATHERING = 100  #: ticks, 10 us, in which frames gather before they are sent
PATIENCE = 10_000  #: ticks, 1 ms: an answer, with which the driver hears that its frame is sent, mostly comes before


class Net:
    """`mac`: six bytes. `whole`: who gets the frames needs no checksums, and takes TCP segments of any size; and sends such,
    if `large`. `headed`: who gets the frames gets packets, as offload.py has them, and sends such.
    `send(frame)`, nothing at first, gets what the driver sends; `receive` brings frames."""

    device_id = 1
    features = F_MAC | F_STATUS
    queues = 2
    delays = {_TRANSMIT: GATHERING}
    patience = {_TRANSMIT: PATIENCE}

    def __init__(self, mac: bytes, *, whole: bool = False, headed: bool = False) -> None:
        if whole or headed:
            self.features |= F_CSUM | F_HOST_TSO4 | F_GUEST_CSUM | F_GUEST_TSO4 | F_MRG_RXBUF
        if len(mac) != 6:
            raise ValueError(f"an Ethernet address of {len(mac)} bytes")
        self._mac = mac
        self._headed = headed
        self.send: Callable[[bytes], object] = bool
        self.sent: Callable[[], object] = bool  #: called when no more frames follow for now
        self.lost = 0  #: frames that came and found no room
        self.up = True
        self._frames: deque[bytes] = deque()  # with their headers, but for its last two bytes

    @property
    def large(self) -> bool:
        """Whether the driver takes frames that are longer than a wire's: TCP over IPv4 without options, whose checksum is that
        of the pseudo-header alone."""
        wanted = F_GUEST_CSUM | F_GUEST_TSO4 | F_MRG_RXBUF
        return self._transport.accepted & wanted == wanted

    def attach(self, transport: Transport) -> None:
        self._transport = transport

    def config(self) -> bytes:
        return struct.pack("<6sHHH", self._mac, LINK_UP if self.up else 0, 1, 1500)

    def link(self, up: bool) -> None:
        """The cable is plugged in or out."""
        if up != self.up:
            self.up = up
            self._transport.config_changed()

    def reset(self) -> None:
        """Frames that the driver has not seen are lost."""
        self._frames.clear()

    def state(self) -> State:
        return {**pack(self, _SAVED), "frames": [frame.hex() for frame in self._frames]}

    def load(self, state: State) -> None:
        frames = entry(state, "frames")
        if type(frames) is not list or len(frames) > BACKLOG:
            raise BadState(f"frames: not a list of at most {BACKLOG}")
        found = [text_of(each, len(PLAIN) + MAX_FRAME) for each in frames]
        if any(len(each) < len(PLAIN) + MIN_FRAME for each in found):
            raise BadState(f"frames: one of less than {MIN_FRAME} bytes")
        unpack(self, _SAVED, state)
        self._frames = deque(found)

    def work(self, number: int) -> bool:
        queue = self._transport.queues[number]
        if number == _RECEIVE:
            self._deliver()
            return False
        try:
            return self._transmit(queue)
        finally:
            self.sent()

    def _transmit(self, queue: Queue) -> bool:
        """Send frames; True if there are more. Raises Broken."""
        for _ in range(REQUESTS):
            chain = queue.take()
            if chain is None:
                return False
            if MIN_FRAME <= chain.length - HEADER <= MAX_FRAME and self.up:
                self._send(b"".join(chain.readable))
            queue.put(chain, 0)
        return True

    def _send(self, data: bytes) -> None:
        """What the driver sends, with its header. A packet that contradicts itself is lost."""
        if not self._headed:
            self.send(data[HEADER:])
            return
        packet = offload.checked(data[: len(PLAIN)] + data[HEADER:])
        if packet is not None:
            self.send(packet)

    def receive(self, *frames: bytes) -> None:
        """Frames arrive. They wait for buffers of the driver's, if not too many do already."""
        live, accepted, large = self._transport.live, self._transport.accepted, self.large
        for frame in frames:
            if not live:
                self.lost += 1
            elif self._headed:
                self._receive_packet(frame, large=large, sums=bool(accepted & F_GUEST_CSUM))
            else:
                self._keep((_LARGE if large and len(frame) > FRAME else PLAIN) + frame)
        self._transport.serve(_RECEIVE)

    def _receive_packet(self, packet: bytes, *, large: bool, sums: bool) -> None:
        """Leave to the driver what it takes: packets that stand for several, or checksums (`sums`)."""
        found = offload.checked(packet)
        if found is None:
            self.lost += 1
            return
        summing, cutting = offload.needs(found)
        if (cutting and not large) or (summing and not sums):
            for frame in offload.frames(found):
                self._keep(PLAIN + frame)
        else:
            self._keep(found)

    def _keep(self, packet: bytes) -> None:
        """For the driver, if it can be: it may have no room for what is longer than a wire's frames."""
        most = MAX_FRAME if self._transport.accepted & F_MRG_RXBUF else TAGGED
        if len(self._frames) < BACKLOG and MIN_FRAME <= len(packet) - len(PLAIN) <= most:
            self._frames.append(packet)
        else:
            self.lost += 1

    def _deliver(self) -> None:
        """Put frames that wait into buffers. Raises Broken."""
        queue = self._transport.queues[_RECEIVE]
        while self._frames:
            frame = self._frames[0]
            chains = self._room(queue, len(frame) + 2)
            if not chains:
                return
            self._frames.popleft()
            data, at = frame[: len(PLAIN)] + len(chains).to_bytes(2, "little") + frame[len(PLAIN) :], 0
            for chain in chains:
                done = scatter(chain.writable, data[at:] if at else data)
                queue.put(chain, done)
                at += done

    def _room(self, queue: Queue, size: int) -> list[Chain]:
        """Buffers for so many bytes; none if there are not enough yet. Raises Broken."""
        chains: list[Chain] = []
        while size > 0:
            chain = queue.take()
            if chain is None:
                queue.give_back(len(chains))
                return []
            chains.append(chain)
            size -= sum(map(len, chain.writable))
            if size > 0 and not self._transport.accepted & F_MRG_RXBUF:
                queue.put(chain, 0)
                raise Broken("a buffer that is too small for the frame")
        return chains


class Hub:
    """Cards of one process on one wire: what one sends, all others receive."""

    def __init__(self) -> None:
        self._cards: list[Net] = []

    def card(self, mac: bytes) -> Net:
        """A new card on the wire."""

        def send(frame: bytes) -> None:
            for each in self._cards:
                if each is not card:
                    each.receive(frame)

        card = Net(mac)
        card.send = send
        self._cards.append(card)
        return card
