"""HostMachine: put contexts into user mode on this computer's CPU, and get them back, trapped.

Hot path, measured: a trap costs 1.5 µs of Python here (`resume`, then `wait`), and 3 µs of signal delivery and return.

    resume: registers -> slot, order RUN           wait: spin on the running slots, then sleep in epoll
            (a miss: order the mapping as well)          (doorbell, deaths, held calls, watched descriptors)

Invariants:
- `_running[i]` is the slot at address `_addresses[i]`; a slot is there exactly while `slot.running`;
- a context whose process is dead is never run: it comes back as DEAD, once, after the process's memory is gone;
- whoever made the machine must be a thread that outlives it: the host kills the stubs when that thread ends.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import ref

from trapline.abi.x86_64 import CSGSFS, FS_BASE, GP, GS_BASE
from trapline.machine.contract import DEAD, EXCEPTION, FAULT, INTERRUPT, SYSCALL, Context, Space, Stay
from trapline.machine.host import _ring
from trapline.machine.host.arch import X86_64, hwcaps
from trapline.machine.host.context import SELECTORS, SELECTORS_MASK, HostContext
from trapline.machine.host.contexts import Slot
from trapline.machine.host.crew import Crew
from trapline.machine.host.errors import MachineUnavailable, StubDied, stale
from trapline.machine.host.fill import Mapping
from trapline.machine.host.layout import FENCE, MAX_SLOTS, SIG_KICK, STUB, Op
from trapline.machine.host.process import Process
from trapline.machine.host.space import KICK_NS, LOOK_NS, HostSpace
from trapline.machine.host.trap import CAUSE_FAILED, CAUSE_SYSCALL, decode, fault_code
from trapline.machine.ram import Atomics, Ram
from trapline.machine.watch import watch

SPIN_NS = 120_000  #: how long `wait` spins before it sleeps
STUB_SPIN_NS = 100_000  #: and a stub before it does
MAX_FAILURES = 4  #: mappings refused by the host before a space is given up
SHORT_NS = 300_000  #: a sleep after a spin in vain that ends so soon hints that the host's CPUs are busy
VAIN = 3  #: so many of them in a row show it
TURNS = 64  #: traps between two looks at everything else
MAX_LOST = 0.4  #: the share of the time that others may have our CPU before we stop spinning
CALM_NS = 100_000_000  #: after so long without that, the host is no longer busy
MAX_PAUSE = 8  #: TURNS without spinning, at most, before it is tried again
AROUND_PAGES = 511
_spin, _run, _arm = _ring.spin, _ring.run, _ring.arm


class HostMachine:
    """The machine. `ram` must be shared; `cpus` contexts may run at once."""

    prefers_runs = False

    def __init__(self, ram: Ram, cpus: int) -> None:
        if ram.fd < 0:
            raise MachineUnavailable("the host machine needs RAM that other processes can map: Ram(..., shared=True)")
        self.cpus = max(1, min(cpus, MAX_SLOTS))
        self.ram = ram
        self.ready: list[tuple[int, int]] = []
        self.on_lost: Callable[[Space, str], None] | None = None
        if not hasattr(_ring, "modify"):
            raise MachineUnavailable(stale("the extension _ring"))
        ram.atomics = Atomics(_ring.exchange, _ring.modify)
        self.rdtsc = _ring.rdtsc  #: this CPU's time-stamp counter, which user code can read too
        self.around = AROUND_PAGES  #: pages looked at on either side of a miss
        self.host_cpus = len(os.sched_getaffinity(0))
        self.roomy = min(self.cpus, max(1, self.host_cpus - 1))
        self._pending: deque[HostContext] = deque()
        self._running: list[Slot] = []
        self._addresses: list[int] = []
        self._turns = TURNS
        self._vain = 0
        self._schedstat = _open_schedstat()
        self._since_ns, self._waited_ns = time.monotonic_ns(), self._run_delay_ns()  #: when it was last weighed whether to spin
        self._busy_ns = 0  #: when the host was found busy last
        self._pause = 1  #: for how many times TURNS nobody spins when the host is busy
        self._paused = 0  #: and for how many it still does not
        self._last: Slot | None = None  #: whose trap `wait` returned last
        self._coming: Callable[[], HostSpace | None] = _nobody  #: the newest space, until it has a process
        self._rate = 0.0  #: ticks of the time-stamp counter in a nanosecond; 0: nobody has measured yet
        self._rung = False
        self._closed = False
        self._doorbell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        try:
            self.crew = Crew(self.cpus, ram, self._doorbell, self._epoll, self._lost)
        except BaseException:
            self._epoll.close()
            os.close(self._doorbell)
            if self._schedstat >= 0:
                os.close(self._schedstat)
            raise
        self.listener = self.crew.zygote.listener
        self.template = self.crew.zygote.template
        self.arch = X86_64._replace(fp_size=self.template.fp_size)
        self.hwcaps = hwcaps()
        self._epoll.register(self._doorbell, select.EPOLLIN)
        self._epoll.register(self.listener.fd, select.EPOLLIN)
        self._loops = self._all_loops = _loops_in(SPIN_NS, self.crew.contexts.base + self.crew.contexts.region_size)
        self._stub_loops = self._loops * STUB_SPIN_NS // SPIN_NS

    # ---- the contract

    def new_space(self, root: int) -> HostSpace:
        self._rest()
        self.crew.prepare()
        space = HostSpace(self, root)
        self._coming = ref(space)
        return space

    def new_context(self, space: Space) -> HostContext:
        assert isinstance(space, HostSpace)
        if self._loops and len(self._running) + 1 < self.host_cpus:
            space.begin(self._stub_loops)
        return HostContext(space, self.template.fp)

    def resume(self, context: Context) -> None:
        ctx: HostContext = context  # type: ignore[assignment]  # one check less on the hot path
        slot, regs = ctx.slot, ctx.regs
        if slot is None or ctx.kind != SYSCALL or ctx._space.due or (regs[FS_BASE] | regs[GS_BASE]) >> 47:
            self._resume_slowly(ctx)
            return
        if regs[CSGSFS] & SELECTORS_MASK != SELECTORS:
            ctx.sanitize()
        if self._last is not slot:
            self._rest()
        slot.regs[:] = ctx.view
        slot.running = True
        running = self._running
        running.append(slot)
        self._addresses.append(slot.address)
        _run(slot.address, 0, self._stub_loops if self._loops and len(running) < self.host_cpus else 0)

    def wait(self, deadline_ns: int | None) -> HostContext | None:
        addresses, running, pending = self._addresses, self._running, self._pending
        if self._last is not None:
            self._rest()
        slept = False
        while True:
            if pending:
                return pending.popleft()
            if self.crew.chores:
                self._do_chores()
            loops = self._loops if len(addresses) < self.host_cpus else 0
            if deadline_ns is not None and loops:
                loops = loops * min(max(deadline_ns - time.monotonic_ns(), 0), SPIN_NS) // SPIN_NS
            i = _spin(addresses, loops)
            if i < 0:
                if self._sleep(deadline_ns):
                    return None
                slept = True
                continue
            slot = running.pop(i)
            del addresses[i]
            slot.running = False
            slot.kicked_ns = 0
            self._last = slot
            if not slept:
                self._vain = 0
            ctx = slot.ctx
            assert ctx is not None
            ctx.view[:] = slot.regs
            self._turns -= 1
            if self._turns < 0:
                self._turns = TURNS
                self._weigh_spinning()
                self._look(0)
                self._end_blockers()
            cause = slot.cause[0]
            if cause == CAUSE_SYSCALL:
                ctx.kind = SYSCALL
                ctx.entry = 0
                return ctx
            if self._trapped(slot, ctx, cause):
                return ctx

    def kick(self, context: Context) -> None:
        assert isinstance(context, HostContext)
        slot = context.slot
        if slot is not None and slot.running:
            self.interrupt(slot)

    def watch(self, fd: int, mask: int) -> None:
        watch(self._epoll, fd, mask)

    def ring(self) -> None:
        self._rung = True
        with suppress(OSError):  # full: then it rings already
            os.eventfd_write(self._doorbell, 1)

    def measure(self, on: bool) -> None:
        from trapline.machine.host.meter import ticks_per_ns

        self._rate = self._rate or ticks_per_ns()
        self.crew.stamp(on)

    def stay(self, context: Context) -> Stay | None:
        from trapline.machine.host.meter import stay

        assert isinstance(context, HostContext)
        return stay(context.slot, self._rate) if context.slot is not None and self._rate else None

    def describe(self) -> Sequence[tuple[str, str]]:
        processes, threads = self.crew.count()
        return (
            ("machine", "host: this computer's own CPU, in stub processes"),
            ("user mode", f"seccomp traps (SIGSYS), user addresses up to {STUB:#x}"),
            ("CPUs", f"{self.cpus} of the guest's on {self.host_cpus} of the host's"),
            ("TLB", "the host's own mappings of guest RAM, one process per address space"),
            ("processes", f"{processes} stub processes with {threads} threads, and the zygote"),
            ("XSAVE", f"{self.template.fp_size} bytes, features {self.template.fp.features:#x}"),
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.crew.close()
        self._epoll.close()
        os.close(self._doorbell)
        if self._schedstat >= 0:
            os.close(self._schedstat)

    # ---- into user mode, the long way

    def _resume_slowly(self, ctx: HostContext) -> None:
        """With a miss to serve, a seat to find, a process to start, or registers that cannot be loaded."""
        space = ctx._space
        if space.process is not None and space.process.dead:
            self._report_dead(ctx, space.process)
            return
        if not ctx.sanitize():
            ctx.kind, ctx.vector, ctx.code = EXCEPTION, GP, 0
            self._pending.append(ctx)
            return
        try:
            slot = ctx.slot or space.take_seat(ctx)
            mappings = space.hinted() if space.due else []
            if ctx.kind == FAULT:
                mapping = space.miss(ctx.addr, ctx.access)
                if mapping is not None and not space.tlb.holds(*mapping) and not _among(mapping, mappings):
                    mappings.append(mapping)
            self._enter(slot, ctx, space.map_ops(mappings))
        except StubDied as died:
            process = space.process
            if process is not None:
                self.crew.destroy(process, str(died))
            if (not ctx.slot or not ctx.slot.running) and ctx not in self._pending:
                ctx.kind, ctx.reason = DEAD, str(died)
                self._pending.append(ctx)

    def _do_chores(self) -> None:
        """Before `wait`, if nobody has trapped yet: what will have to be done soon."""
        crew, addresses = self.crew, self._addresses
        crew.end_doomed()
        if _spin(addresses, 0) >= 0:
            return
        crew.welcome()
        space = self._coming()
        if space is not None and crew.zygote.delivered:
            self._coming = _nobody
            if space.process is None and space.due:
                with suppress(StubDied):  # `resume` tries again
                    space.get_ready()
        while crew.dying and _spin(addresses, 0) < 0 and crew.bury():
            pass

    def _rest(self) -> None:
        """Whoever trapped last waits: its thread leaves its CPU before others look for one."""
        last, self._last = self._last, None
        if last is not None and not last.running:
            last.rest()

    def _enter(self, slot: Slot, ctx: HostContext, ops: list[Op]) -> None:
        """Order the operations, then user mode. Raises StubDied."""
        if self._last is not slot:
            self._rest()
        if slot.process.dead:  # a flush on the way here ended it
            raise StubDied(slot.process.reason)
        if ops and len(slot.process.slots) > 1:
            ops.append(FENCE)
        early = slot.process.early
        slot.set_ops(ops, early)
        slot.regs[:] = ctx.view
        slot.running = True
        self._running.append(slot)
        self._addresses.append(slot.address)
        _run(slot.address, early + len(ops), self._stub_loops if self._loops and len(self._running) < self.host_cpus else 0)
        if ops or slot.process.fresh:
            ctx._space.grant(slot, ops)

    # ---- out of user mode

    def _trapped(self, slot: Slot, ctx: HostContext, cause: int) -> bool:
        """Anything but a plain system call. False if the machine dealt with it: the context runs on."""
        space = ctx._space
        if cause == CAUSE_FAILED:
            return self._map_failed(slot, ctx)
        decode(ctx, cause)
        if ctx.kind != FAULT:
            if ctx.kind == DEAD:
                self.crew.destroy(slot.process, ctx.reason)
            return True
        mapping = space.miss(ctx.addr, ctx.access)
        if mapping is None:
            ctx.code = fault_code(self.ram.words, ctx, space.root)
            return True
        try:
            self._enter(slot, ctx, space.map_ops([mapping]))
        except StubDied as died:
            self.crew.destroy(slot.process, str(died))
            if not slot.running and ctx not in self._pending:
                self._report_dead(ctx, slot.process)
        return False

    def _map_failed(self, slot: Slot, ctx: HostContext) -> bool:
        """The host refused a mapping that the stub was ordered to make. Forget all and try again, then give up."""
        space = ctx._space
        space.failures += 1
        if space.failures <= MAX_FAILURES:
            space.flush(0, STUB)
            ctx.kind = INTERRUPT
            return True
        error = -slot.result(0)
        why = os.strerror(error) if 0 < error < 200 else "it says"
        hint = "; sysctl vm.mmap_min_addr forbids low addresses" if error in (errno.EPERM, errno.EACCES) else ""
        self.crew.destroy(slot.process, f"the host refuses to map {ctx.addr:#x}: {why}{hint}")
        self._report_dead(ctx, slot.process)
        return False

    def _sleep(self, deadline_ns: int | None) -> bool:
        """Nobody has trapped: wait for anything at all. True if `wait` is to return None."""
        if self._rung:
            self._rung = False
            self._look(0)
            return True
        addresses = self._addresses
        if _arm(addresses, 1) >= 0:
            return False
        timeout_s, timed_out = self._patience(deadline_ns)
        start_ns = time.monotonic_ns()
        self._look(timeout_s)
        slept_ns = time.monotonic_ns() - start_ns
        _arm(addresses, 0)
        if self._pending:
            return False
        if _spin(addresses, 0) >= 0:
            if self._loops and slept_ns < SHORT_NS:
                self._vain += 1
                if self._vain > VAIN:
                    self._loops = self._vain = 0  # until it is weighed again
            return False
        rung, self._rung = self._rung, False
        return bool(rung or self.ready or timed_out or (deadline_ns is not None and time.monotonic_ns() >= deadline_ns))

    def _weigh_spinning(self) -> None:
        """Stop spinning if others had our CPU for much of the time while we wanted it; spin again after a while."""
        now_ns, waited_ns = time.monotonic_ns(), self._run_delay_ns()
        if self._loops and waited_ns - self._waited_ns > (now_ns - self._since_ns) * MAX_LOST:
            self._loops, self._busy_ns = 0, now_ns
            self._paused = self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE)
        elif self._loops:
            if now_ns - self._busy_ns > CALM_NS:
                self._pause = 1
        elif self._paused:
            self._paused -= 1
        else:
            self._loops = self._all_loops
        self._since_ns, self._waited_ns = now_ns, waited_ns

    def _run_delay_ns(self) -> int:
        """How long this thread has wanted a CPU and had none, so far: the second number of proc(5)'s schedstat."""
        return int(os.pread(self._schedstat, 100, 0).split()[1]) if self._schedstat >= 0 else 0

    def _patience(self, deadline_ns: int | None) -> tuple[float | None, bool]:
        """How long to sleep, s, and whether the deadline has passed."""
        if deadline_ns == 0:
            return 0, True
        soonest = self._end_blockers()
        if deadline_ns is None and not soonest:
            return None, False
        now_ns = time.monotonic_ns()
        if deadline_ns is not None and (not soonest or deadline_ns < soonest):
            soonest = deadline_ns
        return max(0, soonest - now_ns) / 1e9, deadline_ns is not None and deadline_ns <= now_ns

    def _end_blockers(self) -> int:
        """End those who have blocked a kick for too long; when to look again, ns, or 0 if nobody is being kicked."""
        kicked = [slot for slot in self._running if slot.kicked_ns]
        if not kicked:
            return 0
        now_ns = time.monotonic_ns()
        for slot in kicked:
            if slot.running and now_ns > slot.kicked_ns + KICK_NS and not slot.stopped:
                self._suspect(slot, now_ns)
        soonest = min(slot.kicked_ns for slot in kicked) + KICK_NS + 1_000_000
        return max(soonest, now_ns + LOOK_NS)

    def _suspect(self, slot: Slot, now_ns: int) -> None:
        """`slot` has not answered a kick for long: end it, unless it is the host that has not let it."""
        if slot.suspicion is None:
            from trapline.machine.host.suspicion import Suspicion

            slot.suspicion = Suspicion(slot.process.pid, slot.tid)
        elif slot.suspicion.why() or not slot.suspicion.starved(LOOK_NS):
            self.crew.destroy(slot.process, "it blocked the kick")

    def _look(self, timeout_s: float | None) -> None:
        """Take in what the epoll has: doorbell, held calls, deaths, watched descriptors."""
        for fd, mask in self._epoll.poll(timeout_s):
            if fd == self._doorbell:
                with suppress(BlockingIOError):
                    os.eventfd_read(fd)
            elif fd == self.listener.fd:
                self.listener.drain()
                if mask & select.EPOLLHUP:  # every stub is gone, and the zygote
                    self._epoll.unregister(fd)
            elif not self.crew.died(fd):
                self.ready.append((fd, mask))

    # ---- orders from spaces, and deaths

    def interrupt(self, slot: Slot) -> None:
        """Send the kick to a running thread; once is enough."""
        if not slot.kicked_ns:
            slot.kicked_ns, slot.suspicion = time.monotonic_ns(), None
            if _ring.tgkill(slot.process.pid, slot.tid, SIG_KICK):
                slot.process.kill("one of its threads is gone")

    def forget(self, process: Process) -> None:
        """The space of a process is closed."""
        for slot in process.slots:
            if slot.ctx is not None:
                slot.ctx.unseat()
        self.crew.retire(process)

    def _lost(self, process: Process) -> None:
        """A process died that was wanted: its running contexts come back dead, and the kernel is told."""
        for slot in process.slots:
            if slot.running:
                i = self._running.index(slot)
                del self._running[i], self._addresses[i]
                slot.running = False
                if slot.ctx is not None:
                    self._report_dead(slot.ctx, process)
            if slot.ctx is not None:
                slot.ctx.unseat()  # so that `resume` takes the long way
        if self.on_lost is not None and process.space is not None:
            self.on_lost(process.space, process.obituary())
            self.ring()

    def _report_dead(self, ctx: HostContext, process: Process) -> None:
        ctx.kind = DEAD
        ctx.reason = process.obituary()
        self._pending.append(ctx)


def _nobody() -> None:
    return None


def _among(mapping: Mapping, mappings: list[Mapping]) -> bool:
    """One of these maps all of it, in the same way."""
    start, end, pa, prot = mapping
    return any(a <= start and end <= b and at + start - a == pa and prot == has for a, b, at, has in mappings)


def _open_schedstat() -> int:
    """This thread's schedstat; -1 where the host kernel keeps none."""
    try:
        return os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _loops_in(ns: int, address: int) -> int:
    """How many looks at a slot that never changes fit into `ns`."""
    best = ns
    for _ in range(3):
        start = time.perf_counter_ns()
        _spin([address], 500)
        best = min(best, time.perf_counter_ns() - start)
    return max(100, ns * 500 // best)
