"""One address space: its stub process, what that has mapped, and the orders that change it.

In a nutshell: `miss` turns a page fault into a mapping to order, `flush` unmaps. A stopped thread of the process performs
operations; where the process has several threads, a *fence* follows them (see notify.py), because only a further
call by the same thread proves that the earlier one is done.

Invariants:
- `flush` never trusts what slots say: a thread that says "stopped" may be running. So nothing is unmapped later, lazily;
- `tlb` covers all that the process may have mapped, and has at most `MAX_EXTENTS` extents, far below the host's limit (an unmap
  that splits a mapping can then not fail).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trapline.machine.host import _ring
from trapline.machine.host.contexts import Slot
from trapline.machine.host.errors import StubDied
from trapline.machine.host.fill import Mapping, fill, present_runs
from trapline.machine.host.layout import (
    CLONE_THREAD,
    FD_RAM,
    FENCE,
    MAP_FIXED,
    MAP_POPULATE,
    MAP_SHARED,
    NR_CLONE,
    NR_MMAP,
    NR_MPROTECT,
    NR_MUNMAP,
    PROT_WRITE,
    STUB,
    Op,
)
from trapline.machine.host.process import Process
from trapline.machine.host.tlb import Extents

if TYPE_CHECKING:
    from trapline.machine.host.context import HostContext
    from trapline.machine.host.machine import HostMachine

MAX_EXTENTS = 8192
MAX_PROTECTS = 8  #: a downgrade of more extents than this unmaps instead
MAX_POPULATED = 1 << 20  #: bytes: a mapping up to this size is made with its host page-table entries
MAX_HINTED = 16  #: mappings that one resume loads ahead
KICK_NS = 1_000_000_000  #: a thread that has not trapped so long after a kick blocks it


class HostSpace:
    """An address space on a host machine. Its process starts with the first `resume`."""

    def __init__(self, machine: HostMachine, root: int) -> None:
        self.root = root
        self.machine = machine
        self.process: Process | None = None
        self.tlb = Extents()
        self.hints: list[tuple[int, int]] = []
        self.failures = 0
        self.closed = False

    # ---- misses

    def miss(self, va: int, access: int) -> Mapping | None:
        """Walk the tables for an access; what to map, or None if they do not permit it."""
        machine = self.machine
        return fill(machine.ram.words, self.root, va, access, machine.around)

    def map_ops(self, mappings: list[Mapping]) -> list[Op]:
        """The operations that map these; the caller orders them at once."""
        if len(self.tlb) + len(mappings) > MAX_EXTENTS:
            self.flush(0, STUB)
        ops: list[Op] = []
        for start, end, pa, prot in mappings:
            self.tlb.add(start, end, pa, prot)
            flags = MAP_SHARED | MAP_FIXED | (MAP_POPULATE if end - start <= MAX_POPULATED else 0)
            ops.append((NR_MMAP, start, end - start, prot, flags, FD_RAM, pa))
        return ops

    def hint(self, start: int, end: int) -> None:
        self.hints.append((start, end))

    def hinted(self) -> list[Mapping]:
        """What is present in the hinted ranges and not mapped yet."""
        hints, self.hints = self.hints, []
        found: list[Mapping] = []
        for start, end in hints:
            for mapping in present_runs(self.machine.ram.words, self.root, start, end):
                have = self.tlb.covering(mapping[0])
                if have is None or have[1] < mapping[1] or mapping[3] & ~have[3]:
                    found.append(mapping)
        return found[:MAX_HINTED]

    # ---- shoot-downs

    def flush(self, start: int, end: int, *, downgrade: bool = False) -> None:
        tlb = self.tlb
        if not tlb.items or start >= end:
            return
        ops: list[Op] = []
        writable = tlb.writable(start, end) if downgrade else []
        if downgrade and len(writable) <= MAX_PROTECTS:
            for lo, hi, pa, prot in writable:
                ops.append((NR_MPROTECT, lo, hi - lo, prot & ~PROT_WRITE, 0, 0, 0))
                tlb.add(lo, hi, pa, prot & ~PROT_WRITE)
        else:
            hull = tlb.remove(start, min(end, STUB))
            if hull is not None:
                ops.append((NR_MUNMAP, hull[0], hull[1] - hull[0], 0, 0, 0, 0))
        if ops and self.process is not None and not self.process.dead:
            try:
                self.perform(self.stopped_slot(), ops)
            except StubDied as died:
                self.machine.crew.destroy(self.process, str(died))

    # ---- orders

    def perform(self, slot: Slot, ops: list[Op]) -> None:
        """Have a stopped thread perform operations; on return no other thread sees the state before them. Raises StubDied."""
        process = slot.process
        if len(process.slots) > 1:
            ops = [*ops, FENCE]
        for index, op in enumerate(ops):
            slot.set_op(index, op)
        _ring.perform(slot.address, len(ops))
        self.grant(slot, ops)

    def grant(self, slot: Slot, ops: list[Op]) -> None:
        """Let a thread's ordered operations go on, one by one. Raises StubDied."""
        expect, tid, alive = self.machine.listener.expect, slot.tid, slot.process.alive
        for op in ops:
            expect(tid, op, alive)

    def stopped_slot(self) -> Slot:
        """A thread that can take orders now; if all run, one is kicked out of user mode. Raises StubDied."""
        process = self.process
        assert process is not None
        for slot in process.slots:
            if not slot.running or slot.stopped:
                return slot
        slot = process.slots[0]
        deadline_ns = time.monotonic_ns() + KICK_NS
        self.machine.interrupt(slot)
        while _ring.spin([slot.address], 2000) < 0:
            if time.monotonic_ns() > deadline_ns or not process.alive():
                raise StubDied("it blocked the kick")
            time.sleep(0.00002)
        return slot

    # ---- threads

    def take_seat(self, ctx: HostContext) -> Slot:
        """A stopped thread for `ctx`, with its FP state loaded. Raises StubDied."""
        process = self.process
        if process is None:
            process = self.process = self.machine.crew.new_process()
            process.space = self
        idle = [slot for slot in process.slots if not slot.running]
        if not idle:
            slot = self._new_thread(process)
        else:
            slot = next((slot for slot in idle if slot.ctx is None), idle[0])
        if slot.ctx is not None:
            slot.ctx.unseat()
        ctx.seat(slot)
        return slot

    def _new_thread(self, process: Process) -> Slot:
        if len(process.slots) >= self.machine.cpus:
            raise StubDied("more contexts are running than there are CPUs")
        performer = self.stopped_slot()
        before = process.tids()
        slot = process.add_slot(self.machine.template)
        op: Op = (NR_CLONE, CLONE_THREAD, slot.user_address + self.machine.template.frame_at, 0, 0, 0, 0)
        self.perform(performer, [op])  # two slots: the fence says that the thread exists
        born = process.tids() - before
        if len(born) != 1:
            raise StubDied("the host refused it another thread")
        slot.tid = born.pop()
        return slot

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.machine.forget(self)
