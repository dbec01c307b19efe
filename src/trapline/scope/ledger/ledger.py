"""The ledger: for each crossing between user space and kernel space, where its time went.

A crossing lasts from the end of one stay in user mode to the start of the next. Whatever starts a part of it ends the part
before, so the parts of a crossing add up to its time, and stays and crossings to the life of a thread. The time that the ledger
itself takes is a part as well, as far as it can see it: `callback_ns` is what it cannot see of each call, measured.

Where the machine did not measure a stay, all time between the kernel's sight of the two crossings counts as user mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.machine.contract import DEAD, EXCEPTION, FAULT, SYSCALL
from trapline.scope.ledger.costs import (
    BODY,
    COPIES,
    DECODE,
    PARTS,
    POLICY,
    PROBES,
    QUEUE,
    RESUME,
    TRAP,
    WAIT,
    Cost,
)
from trapline.scope.listener import Args, Listener
from trapline.scope.whereabouts import path_of

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.machine.contract import Stay

KINDS = {SYSCALL: "call", FAULT: "fault", EXCEPTION: "exception", DEAD: "lost"}
MAX_ROWS = 20_000  #: different sorts of crossings; more are put together
OTHERS = "(others)"
_ROUNDS = 2000


class Sort(NamedTuple):
    """What makes crossings of one sort."""

    kind: str  #: call, fault, exception, interrupt, lost
    name: str
    command: str
    tid: int
    path: str  #: that the call is about, if paths were asked for


class User:
    """The stays of one thread in user mode."""

    __slots__ = ("cycles", "instructions", "ns", "stays", "unmeasured")

    def __init__(self) -> None:
        self.stays = self.ns = self.instructions = self.cycles = self.unmeasured = 0


class Faults:
    """Page faults of one kind. `ns`: their repair alone; `by_kernel`: how many the kernel took, while it copied."""

    __slots__ = ("by_kernel", "count", "ns", "pages")

    def __init__(self) -> None:
        self.count = self.pages = self.ns = self.by_kernel = 0


class _Crossing:
    """What one thread is at."""

    __slots__ = ("bytes_in", "bytes_out", "failed", "kind", "last_ns", "name", "open", "parts", "path", "phase", "since_ns")

    def __init__(self, now_ns: int) -> None:
        self.last_ns = now_ns
        self.open = False
        self.begin(now_ns)

    def begin(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.parts = [0] * len(PARTS)
        self.kind = self.name = self.path = ""
        self.failed = False
        self.bytes_in = self.bytes_out = 0
        self.phase = DECODE

    def step(self, now_ns: int, phase: int) -> None:
        """The part so far has ended, another one begins."""
        if now_ns > self.last_ns:
            self.parts[self.phase] += now_ns - self.last_ns
            self.last_ns = now_ns
        self.phase = phase


class Ledger(Listener):
    """Subscribe it to a kernel. `paths`: tell calls apart by the file that they are about."""

    def __init__(self, now_ns: Callable[[], int], *, paths: bool = False) -> None:
        self._now = now_ns
        self._paths = paths
        self._at: dict[Any, _Crossing] = {}
        self.costs: dict[Sort, Cost] = {}
        self.users: dict[tuple[str, int], User] = {}
        self.faults: dict[str, Faults] = {}
        self.switches: Counter[str] = Counter()
        self.interrupts: Counter[str] = Counter()
        self.callbacks = 0  #: how often the ledger was told something
        self.callback_ns = calibrate(now_ns)

    # ---- one crossing, in order

    def stayed(self, task: Task, stay: Stay | None) -> None:
        now_ns = self._now()
        at = self._at.get(task)
        if at is None:  # it was in user mode when the ledger came
            at = self._at[task] = _Crossing(now_ns)
        left_ns, user_ns = now_ns, now_ns - at.last_ns
        if stay is not None:
            left_ns = max(now_ns - stay.late_ns, at.last_ns)
            user_ns = min(stay.user_ns, left_ns - at.last_ns)
        if at.open:
            at.step(left_ns - user_ns, RESUME)
            self._close(task, at)
        self._add_stay(task, user_ns, stay)
        at.begin(left_ns)
        at.open = True
        at.parts[TRAP] = now_ns - left_ns
        at.kind = KINDS.get(task.ctx.kind, "interrupt")
        if at.kind == "exception":
            at.name = f"vector {task.ctx.vector}"
        at.last_ns = now_ns
        self._seen(at)

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        at = self._at.get(task)
        if at is not None:
            at.name = call.name
            at.path = path_of(task, call, args) if self._paths else ""

    def observed(self, task: Task, since_ns: int) -> None:
        at = self._at.get(task)
        if at is not None:
            at.step(since_ns, DECODE)
            self._seen(at)

    def decided(self, task: Task, by: str, verdict: str, since_ns: int) -> None:
        at = self._at.get(task)
        if at is not None:
            at.step(since_ns, POLICY)
            at.step(self._now(), DECODE)
            self._seen(at)

    def body(self, task: Task) -> None:
        self._step(task, BODY)

    def copied(self, task: Task, address: int, size: int, out: bool, since_ns: int) -> None:
        at = self._at.get(task)
        if at is None:
            return
        phase = at.phase
        at.step(since_ns, COPIES)
        at.step(self._now(), phase)
        if out:
            at.bytes_out += size
        else:
            at.bytes_in += size
        self._seen(at)

    def faulted(self, task: Task, address: int, access: int, kind: str, pages: int, since_ns: int) -> None:
        now_ns = self._now()
        faults = self.faults.get(kind)
        if faults is None:
            faults = self.faults[kind] = Faults()
        faults.count += 1
        faults.pages += pages
        faults.ns += now_ns - since_ns
        at = self._at.get(task)
        if at is None or at.kind != "fault" or at.name:  # it is part of a copy, or of a call's body
            faults.by_kernel += 1
            return
        at.name = kind
        at.failed = kind in ("invalid", "memory")
        at.step(since_ns, BODY)
        at.step(now_ns, RESUME)
        self._seen(at)

    def waits(self, task: Task) -> None:
        self._step(task, WAIT)

    def continues(self, task: Task) -> None:
        self._step(task, BODY)

    def stopped(self, task: Task, signo: int) -> None:
        self._step(task, WAIT)

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        at = self._at.get(task)
        if at is not None:
            at.failed = -4096 < result < 0
            self._step(task, RESUME)

    def queued(self, task: Task) -> None:
        self._step(task, QUEUE)

    def resumed(self, task: Task) -> None:
        at = self._at.get(task)
        if at is None:
            self._at[task] = _Crossing(self._now())
        else:
            self._step(task, RESUME)

    def exited(self, task: Task, status: int) -> None:
        at = self._at.pop(task, None)
        if at is not None and at.open:
            at.step(self._now(), RESUME)
            self._close(task, at)

    # ---- what is only counted

    def switched(self, task: Task, cpu: int, before: Task | None, why: str) -> None:
        if before is not None:
            self.switches[why] += 1

    def interrupt(self, kind: str, task: Task | None) -> None:
        self.interrupts[kind] += 1
        at = self._at.get(task)
        if at is not None and at.kind == "interrupt":
            at.name = kind

    # ---- keeping it

    def _step(self, task: Task, phase: int) -> None:
        at = self._at.get(task)
        if at is not None:
            at.step(self._now(), phase)
            self._seen(at)

    def _seen(self, at: _Crossing) -> None:
        """The ledger has noted something: the time since then is its own."""
        self.callbacks += 1
        now_ns = self._now()
        at.parts[PROBES] += now_ns - at.last_ns
        at.last_ns = now_ns

    def _close(self, task: Task, at: _Crossing) -> None:
        """A crossing has ended, at its last step."""
        sort = Sort(at.kind, at.name, task.comm.decode(errors="replace"), task.tid, at.path)
        cost = self.costs.get(sort)
        if cost is None:
            if len(self.costs) >= MAX_ROWS:
                sort = Sort(at.kind, at.name if at.kind == "call" else "", OTHERS, 0, OTHERS if at.path else "")
            cost = self.costs.setdefault(sort, Cost())
        cost.add(at.last_ns - at.since_ns, at.parts, at.failed, at.bytes_in, at.bytes_out)

    def _add_stay(self, task: Task, user_ns: int, stay: Stay | None) -> None:
        key = task.comm.decode(errors="replace"), task.tid
        user = self.users.get(key)
        if user is None:
            if len(self.users) >= MAX_ROWS:
                key = OTHERS, 0
            user = self.users.setdefault(key, User())
        user.stays += 1
        user.ns += user_ns
        if stay is None:
            user.unmeasured += 1
        else:
            user.instructions += max(stay.instructions, 0)
            user.cycles += max(stay.cycles, 0)


def calibrate(now_ns: Callable[[], int]) -> float:
    """What one call of a listener takes that the listener cannot see: the call itself, and one look at the clock; ns."""
    listener = Listener()
    told = [listener.body]
    task: Any = None

    def empty() -> int:
        start_ns = now_ns()
        for _ in range(_ROUNDS):
            pass
        return now_ns() - start_ns

    def full() -> int:
        start_ns = now_ns()
        for _ in range(_ROUNDS):
            for each in told:
                each(task)
            now_ns()
        return now_ns() - start_ns

    return max(min(full() for _ in range(3)) - min(empty() for _ in range(3)), 0) / _ROUNDS
