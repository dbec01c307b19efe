"""The deadline class, sched(7), "SCHED_DEADLINE": of those that have run time left, whose deadline is nearest runs first.

Each task is a *constant bandwidth server*: it may run `runtime_ns` in every `period_ns`, and is to have had it `deadline_ns`
after the period's begin. Who has used its run time up, or yields, is *throttled*: it does not run before its next period,
whether or not anybody else wants the CPU. So the shares that `admit` gave out are kept, whatever a task does.

Invariants:
- `Entity.priority` of a task in this class is above 99, and the greater the nearer its deadline (`entity.urgency`);
- a throttled task has a timer that ends it; if it wants to run meanwhile it is `parked`, and not in the line;
- the share of a task that left the class, or ended, is kept until it can no longer have made use of it (its *zero-lag time*).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from functools import partial
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.abi.sched import SCHED_FLAG_DL_OVERRUN, SCHED_FLAG_RECLAIM
from trapline.kernel.sched.realtime import PERIOD_NS, RUNTIME_NS
from trapline.kernel.task.task import RUNNABLE, WORK_RESCHED

if TYPE_CHECKING:
    from trapline.kernel.sched.entity import Entity
    from trapline.kernel.sync.timers import Timer, Timers
    from trapline.kernel.task.task import Task

UNIT = 1 << 20  #: a share of one whole CPU
LIMIT = UNIT * RUNTIME_NS // PERIOD_NS  #: of each CPU, what may be set aside
LENT_SLICE_NS = 10_000_000


class Wanted(NamedTuple):
    """What sched_setattr(2) asks for: runtime <= deadline <= period, in nanoseconds; SCHED_FLAG_RECLAIM and _DL_OVERRUN."""

    runtime_ns: int
    deadline_ns: int
    period_ns: int
    flags: int
    overran: Callable[[], object]  #: called when the run time was used up, if SCHED_FLAG_DL_OVERRUN asks for it

    def share(self) -> int:
        return self.runtime_ns * UNIT // self.period_ns


class Reservation:
    """What is set aside for one task, and how much of it is left."""

    __slots__ = ("due_ns", "gone", "left_ns", "look", "parked", "slept", "throttled", "timer", "wanted", "yielded")

    def __init__(self, wanted: Wanted, now_ns: int) -> None:
        self.wanted = wanted
        self.left_ns = wanted.runtime_ns
        self.due_ns = now_ns + wanted.deadline_ns
        self.throttled = False
        self.yielded = False
        self.parked = False
        self.slept = False
        self.gone = False  #: its task has left the class
        self.timer: Timer | None = None  #: ends throttling
        self.look: Timer | None = None  #: sees whether run time is left, while the task is in user mode

    def next_period_ns(self) -> int:
        return self.due_ns - self.wanted.deadline_ns + self.wanted.period_ns

    def refill(self, now_ns: int) -> None:
        """A period begins. What was run beyond the last one's time is taken off; who is late beyond repair starts anew."""
        if self.yielded:
            self.left_ns = min(self.left_ns, 0)
        if self.left_ns <= 0:
            periods = -self.left_ns // self.wanted.runtime_ns + 1
            self.due_ns += periods * self.wanted.period_ns
            self.left_ns += periods * self.wanted.runtime_ns
        if self.due_ns < now_ns:
            self.due_ns = now_ns + self.wanted.deadline_ns
            self.left_ns = self.wanted.runtime_ns
        self.throttled = self.yielded = False

    def indulge(self) -> None:
        """What was run beyond the run time is forgiven: it may be very many periods' worth, and the task is to end."""
        self.left_ns, self.yielded = self.wanted.runtime_ns, False

    def wake(self, now_ns: int) -> bool:
        """The task slept: what is left until the deadline may be too much by now. False: it is to wait for its next period."""
        wanted, until = self.wanted, self.due_ns - now_ns
        self.slept = False
        constrained = wanted.deadline_ns < wanted.period_ns
        if constrained and until < 0 and now_ns < self.next_period_ns():
            self.left_ns = min(self.left_ns, 0)
            return False
        if until <= 0:
            self.due_ns = now_ns + wanted.deadline_ns
            self.left_ns = wanted.runtime_ns
        elif self.left_ns * wanted.deadline_ns > until * wanted.runtime_ns:
            if constrained:
                self.left_ns = until * wanted.runtime_ns // wanted.deadline_ns
            else:
                self.due_ns = now_ns + wanted.deadline_ns
                self.left_ns = wanted.runtime_ns
        return True

    def idle(self, now_ns: int) -> bool:
        """The task sleeps, or has left, and the zero-lag time has passed: it makes no use of its share."""
        lag_ns = self.left_ns * self.wanted.period_ns // self.wanted.runtime_ns
        return (self.slept or self.gone) and self.due_ns - lag_ns <= now_ns


class DeadlineQueue:
    """Those that wait, the nearest deadline first; `ready` is told of a task that is in the line again after throttling."""

    def __init__(self, now_ns: Callable[[], int], timers: Timers, cpus: int, ready: Callable[[], None]) -> None:
        self._now_ns = now_ns
        self._timers = timers
        self._cpus = cpus
        self._ready = ready
        self._line: list[tuple[int, int, Task]] = []  #: (how urgent, negated; arrival; task)
        self._places: dict[Task, tuple[int, int, Task]] = {}
        self._arrivals = 0
        self._held: set[Reservation] = set()

    # ---- shares

    def admit(self, entity: Entity, wanted: Wanted) -> bool:
        """Set aside what is wanted, instead of what the task had; False if too much is set aside already."""
        now_ns, old = self._now_ns(), entity.reservation
        self._held = {each for each in self._held if not each.gone or not each.idle(now_ns)}
        total = sum(each.wanted.share() for each in self._held if each is not old)
        if total + wanted.share() > LIMIT * self._cpus:
            return False
        if old is None:
            entity.reservation = Reservation(wanted, now_ns)
            self._held.add(entity.reservation)
        else:
            old.wanted = wanted
            self._forget(old)
        return True

    def leave(self, entity: Entity) -> None:
        """The task is no longer in this class."""
        mine, entity.reservation = entity.reservation, None
        if mine is not None:
            mine.gone = True
            self._forget(mine)
            if mine.timer is not None:
                mine.timer.cancel()

    def _forget(self, mine: Reservation) -> None:
        if mine.look is not None:
            mine.look.cancel()
            mine.look = None

    # ---- the line

    def enqueue(self, task: Task, entity: Entity) -> bool:
        """False: it is throttled, and comes by itself when that is over."""
        mine = entity.reservation
        if mine is not None and not self.may_run(task, entity):
            mine.parked = True
            return False
        self._line_up(task, entity)
        return True

    def _line_up(self, task: Task, entity: Entity) -> None:
        self._arrivals += 1
        place = self._places[task] = (-entity.priority, self._arrivals, task)
        insort(self._line, place)

    def may_run(self, task: Task, entity: Entity) -> bool:
        """It has run time left, in this period or in one that begins now; or somebody else's deadline was lent to it."""
        mine = entity.reservation
        if mine is None:
            return True
        if mine.throttled and entity.lent < 0:
            self.release(task)
        if mine.slept and not mine.throttled:
            if not mine.wake(self._now_ns()):
                self._throttle(task, mine)
            entity.priority = entity.effective()
        return not mine.throttled

    def pick(self, free: int) -> Task | None:
        for task in self.waiting():
            if task.entity.fits(free):
                task.entity.queued = False
                self.dequeue(task, task.entity)
                return task
        return None

    def dequeue(self, task: Task, entity: Entity) -> bool:
        """False: it was parked, not in the line."""
        if entity.reservation is not None and entity.reservation.parked:
            entity.reservation.parked = False
            return False
        del self._line[bisect_left(self._line, self._places.pop(task))]
        return True

    def waiting(self) -> Iterator[Task]:
        for _, _, task in tuple(self._line):
            yield task

    # ---- time

    def charge(self, task: Task, entity: Entity, used_ns: int) -> None:
        mine = entity.reservation
        if mine is None:
            return
        mine.left_ns -= self._cost(mine, used_ns)
        if task.state != RUNNABLE:
            mine.slept = True
        if mine.throttled or (mine.left_ns > 0 and not mine.yielded):
            return
        if mine.left_ns <= 0 and mine.wanted.flags & SCHED_FLAG_DL_OVERRUN:
            mine.wanted.overran()
        self._throttle(task, mine)

    def _cost(self, mine: Reservation, used_ns: int) -> int:
        """What running for so long takes off: with SCHED_FLAG_RECLAIM less, as nobody else uses the CPUs (GRUB)."""
        if not mine.wanted.flags & SCHED_FLAG_RECLAIM:
            return used_ns
        now_ns = self._now_ns()
        total = sum(each.wanted.share() for each in self._held)
        idle = sum(each.wanted.share() for each in self._held if each.idle(now_ns)) // self._cpus
        spare = idle + LIMIT - total // self._cpus
        return used_ns * max(mine.wanted.share(), UNIT - spare) // LIMIT

    def _throttle(self, task: Task, mine: Reservation) -> None:
        begin_ns = mine.next_period_ns()
        if begin_ns <= self._now_ns() or task.entity.lent < 0:
            mine.refill(self._now_ns())
            task.entity.priority = task.entity.effective()
            return
        mine.throttled = True
        mine.timer = self._timers.add(begin_ns, partial(self.release, task))

    def release(self, task: Task) -> None:
        """Throttling ends: a period begins, or a deadline was lent."""
        entity: Entity = task.entity
        mine = entity.reservation
        if mine is None or not mine.throttled:
            return
        if mine.timer is not None:
            mine.timer.cancel()
        mine.refill(self._now_ns())
        entity.priority = entity.effective()
        if mine.parked:
            mine.parked = False
            self._line_up(task, entity)
            self._ready()

    def slice_ns(self, task: Task, entity: Entity) -> int:
        """It goes to user mode: until its run time is used up."""
        mine = entity.reservation
        if mine is None:
            return LENT_SLICE_NS
        left = max(0, mine.left_ns)
        if mine.look is None:
            mine.look = self._timers.add(self._now_ns() + left, partial(self._look, task, mine))
        return left

    def _look(self, task: Task, mine: Reservation) -> None:
        """Is run time left? Nobody else need be waiting for the CPU."""
        mine.look = None
        if not task.on_cpu or mine.gone:
            return
        now_ns = self._now_ns()
        left = mine.left_ns - self._cost(mine, now_ns - task.user_since_ns)
        if left > 0:
            mine.look = self._timers.add(now_ns + left, partial(self._look, task, mine))
        else:
            task.work |= WORK_RESCHED
            task.kernel.kick(task)
