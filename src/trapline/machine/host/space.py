"""One address space: its stub process, what that has mapped, and the orders that change it.

In a nutshell: `miss` turns a page fault into a mapping to order, `flush` unmaps. A stopped thread of the process performs
operations; where the process has several threads, a *fence* follows them (see notify.py), because only a further
call by the same thread proves that the earlier one is done.

Invariants:
- `flush` never trusts what slots say: a thread that says "stopped" may be running. So nothing is unmapped later, lazily;
- `tlb` covers all that the process may have mapped, and has at most `MAX_EXTENTS` extents, far below the host's limit (an unmap
  that splits a mapping, or a mapping in place of another, can then not fail).
"""

from __future__ import annotations

import time
from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import READ, NoRoom
from trapline.machine.host import _ring
from trapline.machine.host.contexts import Slot
from trapline.machine.host.errors import HostRefuses, StubDied
from trapline.machine.host.fill import Mapping, fill, pa_of, permitted, present_runs, prot_of, same_leaves
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
    OPS_MAX,
    PROT_WRITE,
    STUB,
    Op,
)
from trapline.machine.host.process import Process
from trapline.machine.host.tlb import Extent, Extents
from trapline.machine.paging.entry import PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.machine.host.context import HostContext
    from trapline.machine.host.machine import HostMachine
    from trapline.machine.host.suspicion import Suspicion

MAX_EXTENTS = 8192
MAX_PROTECTS = 8  #: a downgrade of more extents than this unmaps instead
MAX_POPULATED = 1 << 20  #: bytes: a writable mapping up to this size is made with its host page-table entries
MAX_READ_POPULATED = 1 << 16  #: others: the host loads the neighbours of what is read by itself
MAX_HINTED = 16  #: mappings that one resume loads ahead
KICK_NS = 1_000_000_000  #: a thread that has not trapped so long after a kick, and could have, blocks it
LOOK_NS = 20_000_000  #: how often to look what it does meanwhile, while the kernel can do nothing else


class HostSpace:
    """An address space on a host machine. Its process starts with the first `resume`."""

    def __init__(self, machine: HostMachine, root: int) -> None:
        self.root = root
        self.machine = machine
        self.process: Process | None = None
        self.tlb = Extents()
        self.due = False  #: there are hints, or mappings ready
        self.hints: list[tuple[int, int]] = []
        self.ready: list[Mapping] = []  #: what was found before it was asked for
        self.failures = 0
        self._kin: tuple[list[Mapping], list[Mapping]] = ([], [])  #: for the last copy: what was mapped, and alike in both
        self._ending: Process | None = None

    # ---- misses

    def miss(self, va: int, access: int) -> Mapping | None:
        """Walk the tables for an access; what to map, or None if they do not permit it."""
        machine = self.machine
        return fill(machine.ram.words, self.root, va, access, machine.around)

    def map_ops(self, mappings: list[Mapping]) -> list[Op]:
        """The operations that map these; the caller orders them at once."""
        if len(self.tlb) + len(mappings) > MAX_EXTENTS:
            self.flush(0, STUB)
        tlb = self.tlb
        if tlb.items or not tlb.start_with(mappings):
            for each in mappings:
                tlb.add(*each)
        return [_map_op(*mapping) for mapping in mappings]

    def mapped(self) -> list[Extent]:
        """What the process may have mapped, in order."""
        return list(self.tlb.items)

    def hint(self, start: int, end: int, leaf: int = 0) -> None:
        self.due = True
        if not leaf:
            self.hints.append((start & -PAGE_SIZE, end + PAGE_MASK & -PAGE_SIZE))
        elif end <= STUB and permitted(leaf, READ):
            self.ready.append((start, end, pa_of(leaf), prot_of(leaf)))

    def hint_like(self, other: HostSpace, again: bool) -> None:
        """Take over what both tables map in the same way: pages of files, above all."""
        mapped = [each for each in other.tlb.items if not each[3] & PROT_WRITE]
        known, kin = other._kin
        if not again or mapped != known:
            kin = same_leaves(self.machine.ram.words, self.root, other.root, mapped)
            other._kin = mapped, kin
        self.ready += kin
        self.due = True

    def hinted(self) -> list[Mapping]:
        """What is present in the hinted ranges and not mapped yet."""
        found, self.ready = list(dict.fromkeys(self.ready)), []  # a range may have been hinted twice
        hints, self.hints = sorted(self.hints), []
        self.due = False
        tlb, words = self.tlb, self.machine.ram.words
        done = 0
        for start, end in hints:
            start = max(start, done)
            if start < end:
                done = end
                found += present_runs(words, self.root, start, end)
        if tlb.items:
            found = [run for run in found if not tlb.holds(*run)]
        return found[: OPS_MAX - 2 - self.process.early if self.process is not None and self.process.fresh else MAX_HINTED]

    def get_ready(self) -> None:
        """The first resume is about to come: have a process, and find what to map. Raises StubDied."""
        self._new_process()
        self.ready = self.hinted()
        self.due = True

    def begin(self, loops: int) -> None:
        """The first resume will come soon: if a process was born, have it map what is known now, and wait awake for a while."""
        if self.process is None and self.machine.crew.zygote.delivered:
            with suppress(StubDied, HostRefuses):  # `resume` tries again
                process = self._new_process()
                ops = self.map_ops(self.hinted())
                process.early = len(ops)
                process.slots[0].set_ops(ops)
                process.slots[0].rouse(len(ops), loops)

    def _start_over(self) -> None:
        """What the process has mapped before its first resume has changed: another takes its place. It has touched nothing."""
        process, self.process = self.process, None
        assert process is not None
        self.hints += [(start, end) for start, end, _, _ in self.tlb.items]
        self.due = True
        self.tlb.items.clear()
        self.machine.forget(process)

    def _unready(self) -> None:
        """What was found may have changed: look again."""
        self.hints += [(start, end) for start, end, _, _ in self.ready]
        self.ready = []

    # ---- shoot-downs

    def flush(self, start: int, end: int, *, downgrade: bool = False) -> None:
        if self.ready:
            self._unready()
        tlb = self.tlb
        if not tlb.items or start >= end:
            return
        if self.process is not None and self.process.fresh:
            self._start_over()
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
        self._order(ops)

    def reload(self, start: int, end: int) -> None:
        """`flush`, and load what the range maps now where that takes no more operations."""
        if self.ready:
            self._unready()
        hull = self.tlb.hull(start, end)
        if hull is None:
            return
        if self.process is not None and self.process.fresh:
            self._start_over()
            return
        runs = present_runs(self.machine.ram.words, self.root, *hull)
        if len(runs) == 1 and runs[0][:2] == hull and len(self.tlb) < MAX_EXTENTS:
            self._order(self.map_ops(runs))
        else:
            self.flush(start, end)

    def _order(self, ops: list[Op]) -> None:
        """Have operations performed if there is a process. If it does not obey, it dies."""
        if ops and self.process is not None and not self.process.dead:
            try:
                self.perform(self.stopped_slot(), ops)
            except StubDied as died:
                self.machine.crew.destroy(self.process, str(died))

    # ---- orders

    def perform(self, slot: Slot, ops: list[Op]) -> None:
        """Have a stopped thread perform operations; on return no other thread sees the state before them. Raises StubDied."""
        process = slot.process
        assert not process.fresh, "a first command enters user mode"
        if len(process.slots) > 1:
            ops = [*ops, FENCE]
        slot.set_ops(ops)
        _ring.perform(slot.address, len(ops))
        self.grant(slot, ops)

    def grant(self, slot: Slot, ops: list[Op]) -> None:
        """Let a thread's ordered operations go on, one by one; a process's first need no leave. Raises StubDied."""
        if slot.process.fresh:
            slot.process.fresh, slot.process.early = False, 0
            return
        expect = self.machine.listener.expect
        for op in ops:
            expect(slot, op)

    def stopped_slot(self) -> Slot:
        """A thread that can take orders now; if all run, one is kicked out of user mode. Raises StubDied."""
        process = self.process
        assert process is not None
        for slot in process.slots:
            if not slot.running or slot.stopped:
                return slot
        slot = process.slots[0]
        start_ns, looked_ns = time.monotonic_ns(), 0
        suspicion: Suspicion | None = None
        self.machine.interrupt(slot)
        while _ring.spin([slot.address], 2000) < 0:
            now_ns = time.monotonic_ns()
            late = suspicion is not None and now_ns > start_ns + KICK_NS and not suspicion.starved(LOOK_NS)
            if late or not process.alive():
                raise StubDied("it blocked the kick")
            if now_ns > max(looked_ns, start_ns) + LOOK_NS:
                looked_ns = now_ns
                if suspicion is None:
                    from trapline.machine.host.suspicion import Suspicion

                    suspicion = Suspicion(process.pid, slot.tid)
                elif suspicion.why():
                    raise StubDied("it blocked the kick")
            time.sleep(0.00002)
        return slot

    # ---- threads

    def take_seat(self, ctx: HostContext) -> Slot:
        """A stopped thread for `ctx`, with its FP state loaded. Raises StubDied."""
        process = self.process or self._new_process()
        idle = [slot for slot in process.slots if not slot.running]
        if not idle:
            slot = self._new_thread(process)
        else:
            slot = next((slot for slot in idle if slot.ctx is None), idle[0])
        if slot.ctx is not None:
            slot.ctx.unseat()
        ctx.seat(slot)
        return slot

    def _new_process(self) -> Process:
        process = self.process = self.machine.crew.new_process()
        process.space = self
        return process

    def secure(self) -> None:
        """Start the process now if the host has refused one lately; else it is born while the kernel does other things."""
        if self.process is None and self.machine.crew.tight:
            try:
                self._new_process()
            except HostRefuses as refused:
                raise NoRoom(str(refused)) from None
            except StubDied:
                return  # `resume` says so

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

    # ---- the end

    def close(self) -> None:
        """Kill the process. It dies on another CPU while the kernel goes on; what it mapped waits aside for that."""
        process, self.process = self.process, None
        if process is not None:
            self._ending = process
            self.machine.forget(process)
            if self.tlb.items:
                self.machine.ram.frames.set_aside(process.gone)

    def settle(self) -> None:
        """Wait for the process, unless it has nothing mapped."""
        if self._ending is not None and len(self.tlb) and not self._ending.reaped:
            self.machine.crew.settle(self._ending)


def _map_op(start: int, end: int, pa: int, prot: int) -> Op:
    most = MAX_POPULATED if prot & PROT_WRITE else MAX_READ_POPULATED
    flags = MAP_SHARED | MAP_FIXED | (MAP_POPULATE if end - start <= most else 0)
    return NR_MMAP, start, end - start, prot, flags, FD_RAM, pa
