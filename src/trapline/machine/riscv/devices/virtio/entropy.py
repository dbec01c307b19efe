"""Entropy: a source of random numbers (Virtual I/O Device Specification, "Entropy Device")."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from trapline.machine.riscv.devices.saved import BadState, State, entry, pack, unpack, whole
from trapline.machine.riscv.devices.virtio.queue import scatter
from trapline.machine.riscv.devices.virtio.transport import Transport

MOST = 4096  #: bytes for one request
REQUESTS = 64  #: before the harts run again


class Stream:
    """Random-looking bytes that follow from a seed: SHA-256 of the seed and a counter."""

    def __init__(self, seed: bytes) -> None:
        self._seed = hashlib.sha256(b"entropy" + seed).digest()
        self._count = 0

    def state(self) -> State:
        return pack(self, {"_count": whole()})

    def load(self, state: State) -> None:
        unpack(self, {"_count": whole()}, state)

    def __call__(self, count: int) -> bytes:
        out = bytearray()
        while len(out) < count:
            out += hashlib.sha256(self._seed + self._count.to_bytes(8, "little")).digest()
            self._count += 1
        return bytes(out[:count])


class Entropy:
    """`source(n)` gives n random bytes; a `Stream`, if the device is to be saved."""

    device_id = 4
    features = 0
    queues = 1
    delays: dict[int, int] = {}
    patience: dict[int, int] = {}

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source

    def attach(self, transport: Transport) -> None:
        self._transport = transport

    def config(self) -> bytes:
        return b""

    def reset(self) -> None:
        """Nothing is kept."""

    def state(self) -> State:
        return {"stream": self._source.state() if isinstance(self._source, Stream) else None}

    def load(self, state: State) -> None:
        stream = entry(state, "stream")
        if (stream is not None) != isinstance(self._source, Stream):
            raise BadState("its numbers came from another source")
        if isinstance(self._source, Stream):
            self._source.load(stream)

    def work(self, number: int) -> bool:
        queue = self._transport.queues[number]
        for _ in range(REQUESTS):
            chain = queue.take()
            if chain is None:
                return False
            room = min(MOST, sum(map(len, chain.writable)))
            queue.put(chain, scatter(chain.writable, self._source(room)))
        return True
