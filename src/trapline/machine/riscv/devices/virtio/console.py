"""Console: a terminal, or any stream of bytes (Virtual I/O Device Specification, "Console Device"), one port."""

from __future__ import annotations

import struct
from collections.abc import Callable

from trapline.machine.riscv.devices.saved import BadState, State, pack, unpack, whole
from trapline.machine.riscv.devices.virtio.queue import Broken, Chain, scatter
from trapline.machine.riscv.devices.virtio.transport import Transport

F_SIZE = 1
_RECEIVE, _TRANSMIT = 0, 1
_SAVED = {"_columns": whole(0xFFFF), "_rows": whole(0xFFFF), "_head": whole(0xFFFF, -1)}
REQUESTS = 256  #: before the harts run again
PATIENCE = 10_000  #: ticks, 1 ms: drivers look themselves whether what they have printed is gone


class Console:
    """`send(bytes)` transmits. `receive` brings input, `room` says how much fits. `columns` and `rows`: 0 if there are none."""

    device_id = 3
    features = F_SIZE
    queues = 2
    delays: dict[int, int] = {}
    patience = {_TRANSMIT: PATIENCE}

    def __init__(self, send: Callable[[bytes], object], columns: int = 0, rows: int = 0) -> None:
        self._send = send
        self._columns, self._rows = columns, rows
        self.reset()

    def attach(self, transport: Transport) -> None:
        self._transport = transport

    def config(self) -> bytes:
        return struct.pack("<HHII", self._columns, self._rows, 1, 0)

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        self._columns, self._rows = columns, rows
        self._transport.config_changed()

    def reset(self) -> None:
        self._buffer: Chain | None = None  # to be filled

    @property
    def _head(self) -> int:
        """Of the buffer that waits for input; -1: none does."""
        return -1 if self._buffer is None else self._buffer.head

    @_head.setter
    def _head(self, head: int) -> None:
        try:
            self._buffer = None if head < 0 else self._transport.queues[_RECEIVE].again(head)
        except Broken as error:
            raise BadState(f"a buffer for input: {error}") from None

    def state(self) -> State:
        return pack(self, _SAVED)

    def load(self, state: State) -> None:
        unpack(self, _SAVED, state)

    def work(self, number: int) -> bool:
        if number == _RECEIVE:
            return False  # buffers wait there until something arrives
        queue = self._transport.queues[_TRANSMIT]
        for _ in range(REQUESTS):
            chain = queue.take()
            if chain is None:
                return False
            for view in chain.readable:
                self._send(bytes(view))
            queue.put(chain, 0)
        return True

    def room(self) -> int:
        """How many bytes `receive` can take without losing any."""
        queue = self._transport.queues[_RECEIVE]
        if not self._transport.live or not queue.ready:
            return 0
        if self._buffer is None:
            try:
                self._buffer = queue.take()
            except Broken:
                self._transport.broken()
        return 0 if self._buffer is None else sum(map(len, self._buffer.writable))

    def receive(self, data: bytes) -> None:
        """Input arrives; what does not fit is lost."""
        if self.room() and self._buffer is not None:
            self._transport.queues[_RECEIVE].put(self._buffer, scatter(self._buffer.writable, data))
            self._buffer = None
            self._transport.tell(_RECEIVE)
