"""The trap loop: everything between two visits to user space, in order.

    wait for a trap -> serve it -> signals, stops, exits -> put somebody in user mode -> what could wait -> wait

Measured budget: 2 µs of Python per trap besides the handler.

Invariants:
- `idle` is the number of CPUs that run nobody, `free` their mask; a task is on a CPU from `enter_user` to the trap that
  `machine.wait` returns;
- `last` is who was last on each CPU: a task that finds itself there need not be told that it was away;
- the kernel is on one host thread, so nothing here needs a lock.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.kernel.entry.dispatch import Dispatcher
from trapline.kernel.mm.errors import OutOfMemory
from trapline.kernel.mm.reclaim import reclaimer
from trapline.kernel.sync.park import READY
from trapline.kernel.task import rseq
from trapline.kernel.task.task import (
    DEAD,
    RUNNABLE,
    STOPPED,
    WORK_EXIT,
    WORK_RESCHED,
)
from trapline.machine.contract import EXCEPTION, FAULT, INTERRUPT, SYSCALL

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task, ThreadGroup
    from trapline.machine.contract import Context

MAX_NS = 1 << 62
MIN_SLEEP_NS = 1_000
HOLD_NS = 1_000_000  #: how long a task that is due is held back, at most, for the CPU of one that may be about to wait
QUIET_NS = 20_000  #: whoever has not trapped for so long is computing, and not about to wait
START_NS = 200_000  #: and a new process takes so long to its first instruction
LEISURE_NS = 40_000  #: and nobody will probably trap soon who has not for so long
MAX_ENDS = 4  #: small address spaces that wait for leisure to be freed


class TrapLoop:
    """Drives one kernel on one machine."""

    def __init__(self, kernel: Kernel, hooks: Hooks) -> None:
        self.kernel = kernel
        self.machine = kernel.machine
        self.dispatcher = Dispatcher(kernel)
        self.hooks = hooks
        self.idle = self.machine.cpus
        self.free = (1 << self.idle) - 1
        self.last: list[Task | None] = [None] * self.idle
        self.running: dict[Task, int] = {}  #: task in user mode -> end of its slice, ns
        self.crowded = self.machine.cpus - self.machine.roomy  #: with no more CPUs idle, the next task takes the kernel's own
        self._ends = reclaimer(kernel.ram).ends
        self._entered_ns = 0  #: when somebody went to user mode last
        self._held_ns = 0  #: until when the next task is held back at most; 0: nobody is
        self._now = kernel.clock.monotonic_ns

    def run(self, until: Callable[[], bool]) -> None:
        """Serve traps until `until()` (asked whenever something else than a plain system call happened)."""
        machine, waiting = self.machine, self.kernel.sched.waiting
        machine_wait, hooks = machine.wait, self.hooks
        ready, now, afterwards = READY, self._now, self.kernel.afterwards
        ctx: Context | None = None
        while not until():
            while True:
                if ready:
                    while ready:
                        self._continue(ready.popleft())
                    if self.hooks.changed:  # a sleeper was the last one: nothing else may ever come
                        self.hooks.changed = False
                        break
                if self.idle and waiting():
                    self._fill_cpus()
                while afterwards:
                    afterwards.popleft()()
                deadline = self._deadline()
                if self._ends:
                    deadline = self._use_leisure(deadline, ctx is None)
                ctx = machine_wait(deadline)
                time_ns = now()
                if ctx is not None:
                    self.trap(ctx.owner, time_ns)
                if machine.ready or hooks.host_event or (deadline is not None and deadline <= time_ns):
                    self._tick(time_ns)
                if hooks.changed:
                    hooks.changed = False
                    break
        while afterwards or self._ends:
            (afterwards or self._ends).popleft()()

    # ---- one trap

    def trap(self, task: Task, time_ns: int) -> None:
        self.idle += 1
        self.free |= 1 << task.cpu
        self.kernel.current = task
        slice_end = self.running.pop(task)
        task.on_cpu = False
        used = time_ns - task.user_since_ns
        task.utime_ns += used
        if time_ns >= slice_end:
            task.work |= WORK_RESCHED
        if self.hooks.charge is not None:
            self.hooks.charge(task, used)
        if task.state == DEAD:
            self.hooks.bury(task)
            return
        kind = task.ctx.kind
        if kind == SYSCALL:
            if not self.dispatcher.call(task):
                self._charge(task, time_ns)
                return
            if self.kernel.newborn is not None and self._child_first(task, time_ns):
                return
        elif kind == FAULT:
            self.fault(task)
        elif kind == EXCEPTION:
            self.hooks.exception(task)
        elif kind != INTERRUPT:
            self.hooks.machine_died(task)
        self._leave(task, time_ns)

    def fault(self, task: Task) -> None:
        """A page fault in user mode: repaired, or made a signal of."""
        ctx = task.ctx
        try:
            bad = task.mm.fault(ctx.addr, ctx.access)
        except OutOfMemory:
            self.hooks.out_of_memory(task)
            return
        if bad is not None or self.hooks.on_fault is not None:
            self.hooks.fault(task, bad)

    def _continue(self, task: Task) -> None:
        """A wait of `task` is over: continue its system call."""
        if task.coro is None:
            return
        self.kernel.current = task
        start = self._now()
        if self.dispatcher.step(task):
            self._leave(task, start)
        else:
            self._charge(task, start)

    # ---- the way back to user mode

    def _leave(self, task: Task, since_ns: int) -> None:
        """The trap is served: do what is due, then run the task on, or queue it."""
        if task.work or task.restart:
            resched = task.work & WORK_RESCHED
            task.work &= ~WORK_RESCHED
            if not self._work(task):
                self._charge(task, since_ns)
                return
            if resched and self.kernel.sched.waiting():
                task.nivcsw += 1
                self._charge(task, since_ns)
                self.kernel.sched.enqueue(task, False)
                return
        sched = self.kernel.sched
        if (
            self.idle
            and (self.idle > 1 or not sched.waiting() or self._goes_on(task, since_ns))
            and (not sched.careful or self._nobody_before(task))
        ):
            if self.idle > self.crowded or not self._hold():
                self.enter_user(task, since_ns)
                return
        self._charge(task, since_ns)
        sched.enqueue(task, True)

    def _child_first(self, task: Task, since_ns: int) -> bool:
        """Let the process that `task` has just made run before it, where one of them has to be held back: whoever makes a
        process mostly waits for it next, and then need not sleep. False if there is room for both, or somebody else waits."""
        child, self.kernel.newborn = self.kernel.newborn, None
        sched = self.kernel.sched
        if child is None or not self.crowded or self.idle != self.crowded + 1 or sched.careful or sched.waiting() != 1:
            return False
        if task.work or task.restart:
            return False
        self._charge(task, since_ns)
        sched.dequeue(child)
        self.enter_user(child, self._now())
        self._entered_ns += START_NS
        sched.enqueue(task, True)
        return True

    def _goes_on(self, task: Task, since_ns: int) -> bool:
        """Others wait. May `task` go before them? Not if one has just woken up, or is about to, who may have a better claim."""
        due_ns = self.kernel.timers.next_deadline_ns()
        return not READY and (due_ns is None or due_ns > since_ns) and self.kernel.sched.goes_on(task)

    def _nobody_before(self, task: Task) -> bool:
        """Neither somebody who waits, nor somebody about to continue, may have a better claim to its CPU."""
        return not READY and not self.kernel.sched.waiting() and self.kernel.sched.fits(task, self.free)

    def _work(self, task: Task) -> bool:
        """Signals, stops and exits; False when the task does not go on."""
        while task.work or task.restart:
            if task.state == DEAD:
                self.hooks.bury(task)
                return False
            if task.work & WORK_EXIT:
                if task.group.core is not None and self.hooks.gather(task):
                    return False
                self.hooks.exit(task)
                self.hooks.bury(task)
                return False
            self.hooks.deliver(task)
            if task.state == STOPPED:
                return False
            if task.work == WORK_RESCHED:
                break
        return True

    def enter_user(self, task: Task, since_ns: int) -> None:
        now_ns = self._now()
        used = now_ns - since_ns
        task.stime_ns += used
        sched = self.kernel.sched
        sched.charge(task)
        if self.last[task.cpu] is not task or sched.careful:
            self._switch(task)
        task.user_since_ns = self._entered_ns = now_ns
        task.on_cpu = True
        self.running[task] = now_ns + sched.slice_ns(task)
        self.idle -= 1
        self.free ^= 1 << task.cpu
        self.machine.resume(task.ctx)

    def _switch(self, task: Task) -> None:
        """`task` comes to a CPU that was another's, or to another CPU: its own again if that may be."""
        allowed = self.free & (task.entity.affinity or -1)
        moved = not allowed >> task.cpu & 1
        if moved:
            task.cpu = (allowed & -allowed).bit_length() - 1
        away, self.last[task.cpu] = self.last[task.cpu] is not task, task
        if task.rseq[0] and (moved or (away and task.ctx.kind != SYSCALL)):
            rseq.resumed(task)

    def _charge(self, task: Task, since_ns: int) -> None:
        used = self._now() - since_ns
        task.stime_ns += used
        self.kernel.sched.charge(task)

    def _fill_cpus(self) -> None:
        sched = self.kernel.sched
        while self.idle and sched.waiting():
            if self.idle <= self.crowded and self._hold():
                return
            task = sched.pick(self.free)
            self._held_ns = 0
            if task is None:
                return
            if task.state == DEAD:
                self.hooks.bury(task)
            elif task.state == RUNNABLE and ((not task.work and not task.restart) or self._work(task)):
                self.enter_user(task, self._now())

    def _hold(self) -> bool:
        """Hold the next task back while who runs traps often: it may be about to wait, perhaps for that very task.

        Its CPU then serves the task better than the one on which the kernel itself runs.
        """
        if not self.running or self.kernel.sched.careful:
            return False
        now_ns: int = self._now()
        if now_ns - self._entered_ns > QUIET_NS:
            return False
        if not self._held_ns:
            self._held_ns = now_ns + HOLD_NS
        return now_ns < self._held_ns

    # ---- time

    def _deadline(self) -> int | None:
        if READY or self.hooks.changed:  # whom `_fill_cpus` or `_continue` ended may have woken somebody, or be all we run for
            return 0
        deadline = self.kernel.timers.next_deadline_ns()
        if self.running and self.kernel.sched.waiting():
            if self.kernel.sched.urgent:
                self._displace()
            slice_end = self._entered_ns + QUIET_NS if self._held_ns and self.idle else min(self.running.values())
            if deadline is None or slice_end < deadline:
                return slice_end
        return deadline

    def _use_leisure(self, deadline: int | None, quiet: bool) -> int | None:
        """Memory of the dead is to be freed: do it if nobody will probably trap meanwhile, as nobody has lately (`quiet`).

        Until when to wait for a trap.
        """
        ends = self._ends
        soon = self._entered_ns + LEISURE_NS
        if self.running and not quiet and len(ends) <= MAX_ENDS and soon - LEISURE_NS < self._now() < soon:
            return soon if deadline is None else min(deadline, soon)
        ends.popleft()()
        return deadline

    def _displace(self) -> None:
        """Somebody waits who goes before one that runs: that one's slice ends now."""
        for task in self.kernel.sched.displaced(self.running):
            self.running[task] = 0

    def _tick(self, time_ns: int) -> None:
        timers = self.kernel.timers
        deadline = timers.next_deadline_ns()
        if deadline is not None and deadline <= time_ns:
            timers.run_due(time_ns)
        if self.machine.ready:
            self.hooks.host_ready()
        if self.hooks.host_event:
            self.hooks.host_event = False
            self.hooks.on_host_event()
        if self.running and self.kernel.sched.waiting():
            for task, slice_end in self.running.items():
                if slice_end <= time_ns and not task.work & WORK_RESCHED:
                    task.work |= WORK_RESCHED
                    self.machine.kick(task.ctx)


class Hooks:
    """What the loop calls outside the hot path. `boot` fills it in."""

    changed = False  #: set when `until` may have become true
    host_event = False  #: set from host signal handlers: `on_host_event` is due
    charge: Callable[[Task, int], None] | None = None  #: user time of a task, while a CPU-time timer is armed
    on_fault: Callable[[Task, Any], None] | None = None  #: while somebody observes faults
    deliver: Callable[[Task], None]
    gather: Callable[[Task], bool]
    exit: Callable[[Task], None]
    bury: Callable[[Task], None]
    fault: Callable[[Task, tuple[int, int, int] | None], None]
    exception: Callable[[Task], None]
    machine_died: Callable[[Task], None]
    out_of_memory: Callable[[Task], None]
    host_ready: Callable[[], None]
    on_host_event: Callable[[], None]


def group_is_gone(group: ThreadGroup) -> Callable[[], bool]:
    """A condition for `run`: every thread of `group` has ended."""
    return lambda: group.zombie
