"""The contexts file: the memory shared with stub processes, cut into regions, one per process, of slots, one per thread.

Region 0 is the zygote's and has one slot. A process maps only its own region, so it cannot even name another's.

Invariants: free regions read as zeros; one comes back only when the process that mapped it is gone.
"""

from __future__ import annotations

import mmap
import os
import struct
from trapline.typed import TYPE_CHECKING

from trapline.machine.host import _ring
from trapline.machine.host.errors import StubDied
from trapline.machine.host.fpstate import FpLayout, image_size
from trapline.machine.host.layout import (
    CAUSE,
    FRAME_FPSTATE,
    FRAME_PTR,
    FRAME_UC_STACK,
    LEFT,
    OP_WORDS,
    OPS,
    OPS_MAX,
    REGS,
    RESULTS,
    SLOT_SIZE,
    SLOTS,
    SPIN,
    STAMPS,
    STATE,
    Op,
)

if TYPE_CHECKING:
    from trapline.machine.host.context import HostContext
    from trapline.machine.host.process import Process
    from trapline.machine.host.suspicion import Suspicion

MAX_REGIONS = 1 << 14
_MAP_NORESERVE = 0x4000
_pack_op = struct.Struct(f"={OP_WORDS}Q").pack_into
_ZEROS = bytes(64 << 10)  #: clearing a region no larger takes less time than giving its memory back


class Contexts:
    """The file, its mapping here, and the free regions."""

    def __init__(self, cpus: int) -> None:
        self.region_size = cpus * SLOT_SIZE
        size = SLOT_SIZE + MAX_REGIONS * self.region_size
        self.fd = os.memfd_create("trapline-contexts", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self._map = mmap.mmap(self.fd, size, mmap.MAP_SHARED | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE)
        self.mem = memoryview(self._map)
        self.words = self.mem.cast("Q")
        self.halves = self.mem.cast("I")
        self.base = _ring.address(self._map)
        self.stamped = False  #: new slots are told to say when user code was left and entered
        self._next = 0
        self._free: list[int] = []

    def get(self) -> int:
        """The offset of a zeroed region."""
        if self._free:
            return self._free.pop()
        if self._next == MAX_REGIONS:
            raise StubDied(f"more than {MAX_REGIONS} address spaces at once")
        self._next += 1
        return SLOT_SIZE + (self._next - 1) * self.region_size

    def put(self, offset: int) -> None:
        if self.region_size <= len(_ZEROS):
            self.mem[offset : offset + self.region_size] = _ZEROS[: self.region_size]
        else:
            self._map.madvise(mmap.MADV_REMOVE, offset, self.region_size)
        self._free.append(offset)

    def close(self) -> None:
        os.close(self.fd)  # the mapping goes with its last view


class Template:
    """What every slot starts as: the signal frame that the zygote's own trap left, with clean registers."""

    def __init__(self, contexts: Contexts) -> None:
        mem, words = contexts.mem, contexts.words
        self.frame_at = words[FRAME_PTR // 8] - SLOTS  # in a slot
        fp_ptr = words[(self.frame_at + FRAME_FPSTATE) // 8] - SLOTS
        self.fp_at = fp_ptr
        self.fp_size = image_size(mem, fp_ptr)
        self.fp = FpLayout(bytes(mem[fp_ptr : fp_ptr + self.fp_size]))
        self._frame = bytes(mem[self.frame_at : fp_ptr])

    def stamp(self, contexts: Contexts, offset: int, address: int) -> None:
        """Make the slot at `offset`, which its process sees at `address`, ready for its first thread."""
        frame = bytearray(self._frame)
        words = memoryview(frame).cast("Q")
        words[FRAME_UC_STACK // 8] += address - SLOTS
        words[FRAME_FPSTATE // 8] += address - SLOTS
        contexts.mem[offset + self.frame_at : offset + self.fp_at] = frame
        contexts.mem[offset + self.fp_at : offset + self.fp_at + self.fp_size] = self.fp.fresh
        contexts.words[(offset + FRAME_PTR) // 8] = address + self.frame_at


class Slot:
    """One host thread of a stub process, as the kernel sees it."""

    __slots__ = (
        "_halves", "_mem", "_results", "address", "cause", "ctx", "fp", "kicked_ns", "offset", "process", "regs", "running",
        "stamps", "suspicion", "tid", "user_address",
    )  # fmt: skip

    def __init__(self, contexts: Contexts, template: Template | None, process: Process, offset: int, index: int) -> None:
        self.process = process
        self.offset = offset
        self.address = contexts.base + offset
        self.user_address = SLOTS + index * SLOT_SIZE
        self.tid = 0
        self.ctx: HostContext | None = None  #: whose FP state is in the frame
        self.running = False
        self.kicked_ns = 0
        self.suspicion: Suspicion | None = None  #: of not answering a kick
        words, self._mem = contexts.words, contexts.mem
        self._halves = contexts.halves[offset // 4 : (offset + REGS) // 4]
        self.regs = words[(offset + REGS) // 8 : (offset + REGS) // 8 + 25]
        self.cause = words[(offset + CAUSE) // 8 : (offset + CAUSE) // 8 + 1]
        self.stamps = words[(offset + LEFT) // 8 : (offset + LEFT) // 8 + 2]  #: when user code was left, and entered before
        self._results = words[(offset + RESULTS) // 8 : (offset + RESULTS) // 8 + OPS_MAX]
        if template is not None:
            template.stamp(contexts, offset, self.user_address)
            self._halves[STATE // 4] = 1  # its thread starts by waiting for a command
            self.stamp(contexts.stamped)
            self.fp = contexts.mem[offset + template.fp_at : offset + template.fp_at + template.fp_size]
        else:
            self.fp = contexts.mem[:0]

    def set_ops(self, ops: list[Op], first: int = 0) -> None:
        """What the next command is to perform, from number `first` on."""
        at, mem = self.offset + OPS + 8 * OP_WORDS * first, self._mem
        for op in ops:
            _pack_op(mem, at, *op)
            at += 8 * OP_WORDS

    def set_op(self, index: int, op: Op) -> None:
        _pack_op(self._mem, self.offset + OPS + 8 * OP_WORDS * index, *op)

    def rest(self) -> None:
        """Its context waits: let the thread sleep instead of spinning for a command on a CPU that others want."""
        self._halves[SPIN // 4] = 0

    def rouse(self, nops: int, loops: int) -> None:
        """Wake a new process: it performs operations, then looks `loops` times for the command to enter user code."""
        self._halves[SPIN // 4] = loops
        _ring.perform(self.address, nops)

    def stamp(self, on: bool) -> None:
        """Have the thread say when it leaves user code and enters it."""
        self.stamps[1] = 0
        self._halves[STAMPS // 4] = on

    @property
    def stopped(self) -> bool:
        return self._halves[STATE // 4] == 1

    def result(self, index: int) -> int:
        """What an operation returned, as the stub says; negative for an error."""
        value: int = self._results[index]
        return value - (1 << 64) if value >> 63 else value
