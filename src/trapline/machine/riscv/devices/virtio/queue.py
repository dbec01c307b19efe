"""Queue: a split virtqueue in guest memory (Virtual I/O Device Specification, "Split Virtqueues").

    descriptors  16 bytes each: address (64), length (32), flags (16), next (16)
    available    flags (16), idx (16), heads (16 each), used_event (16)          written by the driver
    used         flags (16), idx (16), {head (32), length (32)}, avail_event (16)          written by the device

Invariants:
- `take` hands out only chains whose buffers are all in RAM, the readable before the writable ones, of at most MAX_SIZE buffers;
- a chain that breaks a rule raises Broken, and what was taken before it stays valid.
"""

from __future__ import annotations

import struct

from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.devices.saved import BadState, State, flag, pack, unpack, whole

NEXT, WRITE, INDIRECT = 1, 2, 4  #: descriptor flags
NO_INTERRUPT = 1  #: available ring's flags
F_INDIRECT_DESC, F_EVENT_IDX = 1 << 28, 1 << 29
MAX_SIZE = 256  #: descriptors of a queue
MAX_BYTES = 64 << 20  #: of one chain


_SAVED = {
    "size": whole((1 << 32) - 1), "ready": flag, "descriptors": whole(), "available": whole(), "used": whole(),
    "features": whole(), "_taken": whole(0xFFFF), "_put": whole(0xFFFF), "_told": whole(0xFFFF),
}  # fmt: skip
_DESCRIPTOR = struct.Struct("<QIHH")


class Broken(Exception):
    """The driver broke the rules of the ring; the text says which."""


class Chain:
    """One request: buffers that the device reads, and buffers that it writes."""

    __slots__ = ("head", "length", "readable", "writable")

    def __init__(self, head: int) -> None:
        self.head = head
        self.length = 0  #: bytes of all buffers
        self.readable: list[memoryview] = []
        self.writable: list[memoryview] = []


class Queue:
    """Of at most MAX_SIZE descriptors, in the RAM of `bus`."""

    def __init__(self, bus: Bus) -> None:
        self._base, self._ram, self._fence = bus.ram_base, bus.ram, bus.fence
        self._halves = bus.ram.mem.cast("H")
        self.reset()

    def reset(self) -> None:
        """Not in use."""
        self.size = MAX_SIZE
        self.ready = False
        self.descriptors = self.available = self.used = 0  #: physical addresses
        self.features = 0
        self._desc = self._avail = self._used = 0  # offsets in RAM
        self._taken = self._put = 0  # entries of the available ring taken, of the used ring filled
        self._told = 0  # what `_put` was when the driver was last told

    def state(self) -> State:
        return pack(self, _SAVED)

    def load(self, state: State) -> None:
        unpack(self, _SAVED, state)
        if self.ready:
            counts = self._taken, self._put, self._told
            try:
                self.enable(self.features)
            except Broken as error:
                self.ready = False
                raise BadState(str(error)) from None
            self._taken, self._put, self._told = counts

    def again(self, head: int) -> Chain:
        """A request that was taken before. Raises Broken."""
        if not self.ready:
            raise Broken("the queue is not in use")
        return self._chain(head)

    def enable(self, features: int) -> None:
        """The driver says that the queue is set up. Raises Broken."""
        size = self.size
        if not 0 < size <= MAX_SIZE or size & (size - 1):
            raise Broken(f"a queue of {size} descriptors: a power of two, at most {MAX_SIZE}")
        self._desc = self._place(self.descriptors, 16 * size, 16)
        self._avail = self._place(self.available, 6 + 2 * size, 2)
        self._used = self._place(self.used, 6 + 8 * size, 4)
        self.features = features
        self._taken = self._put = self._told = 0
        self.ready = True

    def _place(self, address: int, length: int, align: int) -> int:
        if address % align:
            raise Broken(f"a part of the queue at {address:#x}: not a multiple of {align}")
        return self._offset(address, length)

    def _offset(self, address: int, length: int) -> int:
        """The offset in RAM of guest memory. Raises Broken."""
        offset = address - self._base
        if offset < 0 or offset + length > self._ram.size:
            raise Broken(f"[{address:#x}, {address + length:#x}) is outside RAM")
        return offset

    # ---- requests

    def take(self) -> Chain | None:
        """The next request, if there is one. Raises Broken."""
        avail, taken = self._avail, self._taken
        ahead = self._halves[avail + 2 >> 1] - taken & 0xFFFF
        if not ahead and self.features & F_EVENT_IDX:
            self._halves[self._used + 4 + 8 * self.size >> 1] = taken
            self._fence()  # whoever adds a request behind this look will see that it must notify
            ahead = self._halves[avail + 2 >> 1] - taken & 0xFFFF
        if not ahead:
            return None
        if ahead > self.size:
            raise Broken(f"{ahead} requests in a queue of {self.size}")
        head = self._halves[avail + 4 + 2 * (taken % self.size) >> 1]
        chain = self._chain(head)
        self._taken = taken + 1 & 0xFFFF
        return chain

    def give_back(self, count: int) -> None:
        """The last `count` requests have not been taken."""
        self._taken = self._taken - count & 0xFFFF

    def _chain(self, head: int) -> Chain:
        chain = Chain(head)
        mem, table, count = self._ram.mem, self._desc, self.size
        index, left, direct = head, self.size, True
        while True:
            if index >= count:
                raise Broken(f"descriptor {index} of {count}")
            if not left:
                raise Broken("a chain of descriptors that does not end")
            left -= 1
            address, length, flags, following = _DESCRIPTOR.unpack_from(mem, table + 16 * index)
            if flags & INDIRECT:
                if not direct or flags & NEXT or not self.features & F_INDIRECT_DESC:
                    raise Broken("an indirect table where none may be")
                if not length or length % 16 or length > 16 * 65536:
                    raise Broken(f"an indirect table of {length} bytes at {address:#x}")
                table, count, direct = self._offset(address, length), length // 16, False
                index, left = 0, min(count, MAX_SIZE)
                continue
            self._buffer(chain, address, length, bool(flags & WRITE))
            if not flags & NEXT:
                return chain
            index = following

    def _buffer(self, chain: Chain, address: int, length: int, writable: bool) -> None:
        if not length:
            raise Broken("a buffer of no bytes")
        offset = self._offset(address, length)
        chain.length += length
        if chain.length > MAX_BYTES:
            raise Broken(f"a request of more than {MAX_BYTES} bytes")
        view = self._ram.mem[offset : offset + length]
        if writable:
            chain.writable.append(view)
        elif chain.writable:
            raise Broken("a readable buffer behind a writable one")
        else:
            chain.readable.append(view)

    def put(self, chain: Chain, written: int) -> None:
        """The request is done; `written` bytes are in its writable buffers."""
        at = self._used + 4 + 8 * (self._put % self.size) >> 2
        self._ram.words32[at], self._ram.words32[at + 1] = chain.head, written
        self._put = self._put + 1 & 0xFFFF
        self._halves[self._used + 2 >> 1] = self._put

    @property
    def untold(self) -> int:
        """Requests that have been put since the driver was last told."""
        return self._put - self._told & 0xFFFF

    def tell(self) -> bool:
        """Whether the driver wants an interrupt for what has been put since it was last told."""
        old, new = self._told, self._put
        if old == new:
            return False
        self._told = new
        self._fence()
        if self.features & F_EVENT_IDX:
            event = self._halves[self._avail + 4 + 2 * self.size >> 1]
            return (new - event - 1 & 0xFFFF) < (new - old & 0xFFFF)
        return not self._halves[self._avail >> 1] & NO_INTERRUPT


def gather(views: list[memoryview], count: int) -> tuple[bytes, list[memoryview]]:
    """The first `count` bytes of buffers, and the buffers without them; fewer bytes if there are not as many."""
    found = bytearray()
    rest = []
    for view in views:
        want = count - len(found)
        if want:
            found += view[:want]
            view = view[want:]
        if len(view):
            rest.append(view)
    return bytes(found), rest


def scatter(views: list[memoryview], data: bytes) -> int:
    """Fill buffers with `data`; how many bytes fitted."""
    done = 0
    for view in views:
        piece = data[done : done + len(view)]
        if not piece:
            break
        view[: len(piece)] = piece
        done += len(piece)
    return done
