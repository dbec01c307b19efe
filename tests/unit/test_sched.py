"""The scheduling classes, without a machine: who is picked, for how long, and who must make room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trapline.abi import sched as s
from trapline.kernel.sched.classes import ClassScheduler
from trapline.kernel.sched.deadline import Wanted
from trapline.kernel.sched.fair import LEAD_NS, SLICE_NS
from trapline.kernel.sched.realtime import PERIOD_NS, RR_SLICE_NS, RUNTIME_NS
from trapline.kernel.sync.timers import Timers
from trapline.kernel.task.task import RUNNABLE, SLEEPING

MS = 1_000_000
ALL = (1 << 64) - 1


class Thread:
    def __init__(self, name: str) -> None:
        self.name = name
        self.entity: Any = None
        self.utime_ns = self.stime_ns = self.cpu = 0
        self.on_cpu = False
        self.state = RUNNABLE


class World:
    """A scheduler and a clock that stands still."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.sched = ClassScheduler(lambda: self.now_ns)

    def task(self, name: str, policy: int = s.SCHED_OTHER, priority: int = 0, nice: int = 0) -> Any:
        task: Any = Thread(name)
        self.sched.born(task)
        self.sched.set_nice(task, nice)
        self.sched.set_policy(task, policy, priority)
        return task

    def queue(self, *tasks: Any) -> None:
        for task in tasks:
            self.sched.enqueue(task, True)

    def run(self, free: int = ALL, longest_ns: int = ALL) -> tuple[Any, int]:
        """Pick a task, and let it compute for its slice: (task, how long); it is still to be queued."""
        task = self.sched.pick(free)
        used = min(self.sched.slice_ns(task), longest_ns)
        self.now_ns += used
        task.utime_ns += used
        self.sched.charge(task)
        return task, used

    def order(self, count: int) -> str:
        """Who runs, `count` slices long, everybody computing without end."""
        names = ""
        for _ in range(count):
            task, _ = self.run()
            names += task.name
            self.sched.enqueue(task, False)
        return names


@pytest.fixture
def world() -> World:
    return World()


def shares(world: World, slices: int) -> dict[str, int]:
    used: dict[str, int] = {}
    for _ in range(slices):
        task, ns = world.run()
        used[task.name] = used.get(task.name, 0) + ns
        world.sched.enqueue(task, False)
    return used


def test_equals_take_turns(world: World) -> None:
    world.queue(world.task("a"), world.task("b"), world.task("c"))
    assert sorted(world.order(3)) == ["a", "b", "c"]


def test_a_nice_value_of_5_leaves_a_third(world: World) -> None:
    world.queue(world.task("a"), world.task("b", nice=5))
    used = shares(world, 400)
    assert 2.9 < used["a"] / used["b"] < 3.2


def test_a_sleeper_comes_first_but_hoards_no_more_than_a_slice(world: World) -> None:
    spinner, sleeper = world.task("a"), world.task("b")
    world.queue(spinner)
    world.order(50)
    world.queue(sleeper)
    assert world.order(1) == "b"
    assert set(world.order(4)) == {"a", "b"}


def test_sched_idle_gets_next_to_nothing_in_short_slices(world: World) -> None:
    world.queue(world.task("a"), world.task("i", s.SCHED_IDLE))
    used = shares(world, 1000)
    assert 0 < used["i"] < used["a"] / 100
    assert world.sched.interval_ns(world.task("j", s.SCHED_IDLE)) < SLICE_NS


def test_yielding_lets_an_equal_go_first(world: World) -> None:
    a, b = world.task("a"), world.task("b")
    world.queue(a, b)
    first, _ = world.run(longest_ns=0)
    world.sched.give_way(first)
    world.sched.enqueue(first, False)
    assert world.sched.pick(ALL) is (b if first is a else a)


def test_the_highest_real_time_priority_first(world: World) -> None:
    world.queue(world.task("o"), world.task("l", s.SCHED_FIFO, 1), world.task("h", s.SCHED_RR, 99), world.task("m", s.SCHED_FIFO, 50))
    assert "".join(world.sched.pick(ALL).name for _ in range(4)) == "hmlo"
    assert world.sched.pick(ALL) is None


def test_fifo_keeps_the_cpu_among_equals(world: World) -> None:
    world.queue(world.task("a", s.SCHED_FIFO, 5), world.task("b", s.SCHED_FIFO, 5))
    assert world.order(4) == "aaaa"


def test_round_robin_after_a_slice(world: World) -> None:
    world.queue(world.task("a", s.SCHED_RR, 5), world.task("b", s.SCHED_RR, 5))
    assert world.order(4) == "abab"
    assert world.now_ns == 4 * RR_SLICE_NS


def test_a_preempted_round_robin_task_has_the_rest_of_its_slice(world: World) -> None:
    world.queue(world.task("a", s.SCHED_RR, 5), world.task("b", s.SCHED_RR, 5))
    task, _ = world.run(longest_ns=30 * MS)
    world.sched.enqueue(task, False)
    task, used = world.run()
    assert (task.name, used) == ("a", RR_SLICE_NS - 30 * MS)


def test_who_slept_goes_behind_its_equals(world: World) -> None:
    a, b = world.task("a", s.SCHED_FIFO, 5), world.task("b", s.SCHED_FIFO, 5)
    world.queue(a, b)
    world.run(longest_ns=MS)
    a.state = SLEEPING
    world.sched.charge(a)
    a.state = RUNNABLE
    world.queue(a)
    assert world.sched.pick(ALL) is b


def test_raised_goes_to_the_tail_and_lowered_to_the_head(world: World) -> None:
    a, b, c = (world.task(name, s.SCHED_FIFO, 5) for name in "abc")
    world.queue(a, b, c)
    world.sched.set_policy(b, s.SCHED_FIFO, 5)
    assert world.order(1) == "a", "an unchanged priority keeps the place"
    world.sched.set_policy(c, s.SCHED_FIFO, 9)
    world.sched.set_policy(c, s.SCHED_FIFO, 5)
    assert world.order(1) == "c", "lowered: the front"
    world.sched.set_policy(c, s.SCHED_FIFO, 4)
    world.sched.set_policy(c, s.SCHED_FIFO, 5)
    assert world.order(1) == "a", "raised: the end"


def test_real_time_tasks_leave_a_twentieth_of_each_second(world: World) -> None:
    world.queue(world.task("r", s.SCHED_FIFO, 99), world.task("o"))
    used = shares(world, 200)
    assert world.now_ns > 5 * PERIOD_NS
    assert abs(used["o"] / world.now_ns - (1 - RUNTIME_NS / PERIOD_NS)) < 0.02


def test_a_fair_task_is_not_displaced_while_it_has_its_share(world: World) -> None:
    world.queue(*(world.task(name, s.SCHED_FIFO, 50) for name in "rq"), world.task("o"))
    task = None
    while task is None or task.name != "o":
        if task is not None:
            world.sched.enqueue(task, False)
        task, _ = world.run()
    world.queue(world.task("s", s.SCHED_FIFO, 60))
    lower = world.task("l", s.SCHED_FIFO, 10)
    assert [each.name for each in world.sched.displaced([task, lower])] == ["l"]
    world.now_ns += PERIOD_NS
    assert [each.name for each in world.sched.displaced([task])] == ["o"]


def test_but_use_all_of_it_when_nobody_else_waits(world: World) -> None:
    world.queue(world.task("r", s.SCHED_FIFO, 99), world.task("q", s.SCHED_FIFO, 98))
    assert set(world.order(50)) == {"r"}


def test_a_waiting_real_time_task_displaces_the_lowest(world: World) -> None:
    running = [world.task("r", s.SCHED_FIFO, 50), world.task("o"), world.task("l", s.SCHED_FIFO, 10)]
    for cpu, task in enumerate(running):
        task.cpu = cpu
    world.queue(world.task("m", s.SCHED_FIFO, 20), world.task("n", s.SCHED_FIFO, 15))
    assert world.sched.urgent
    assert [each.name for each in world.sched.displaced(running)] == ["o", "l"]
    assert not world.sched.urgent


def test_a_bound_task_displaces_only_on_its_own_cpu(world: World) -> None:
    running = [world.task("a"), world.task("b", s.SCHED_FIFO, 3)]
    running[1].cpu = 1
    waiting = world.task("w", s.SCHED_FIFO, 7)
    world.sched.bind(waiting, 2)
    world.queue(waiting)
    assert [each.name for each in world.sched.displaced(running)] == ["b"]


def test_a_bound_task_is_picked_for_its_own_cpu_only(world: World) -> None:
    bound, other = world.task("b"), world.task("o", nice=10)
    world.sched.bind(bound, 2)
    world.queue(bound, other)
    assert world.sched.careful
    assert world.sched.pick(1) is other
    assert world.sched.pick(1) is None
    assert world.sched.waiting() == 1
    assert world.sched.pick(2) is bound


def test_whoever_is_no_longer_queued_is_not_picked(world: World) -> None:
    a, b = world.task("a"), world.task("r", s.SCHED_FIFO, 4)
    world.queue(a, b)
    world.sched.dequeue(a)
    world.sched.dequeue(b)
    assert world.sched.waiting() == 0
    assert world.sched.pick(ALL) is None
    world.queue(a)
    assert world.sched.pick(ALL) is a


@pytest.mark.parametrize(
    ("policy", "priority", "nice", "reset", "want"),
    [
        (s.SCHED_FIFO, 7, 3, False, (s.SCHED_FIFO, 7, 3)),
        (s.SCHED_FIFO, 7, 3, True, (s.SCHED_OTHER, 0, 0)),
        (s.SCHED_OTHER, 0, -5, False, (s.SCHED_OTHER, 0, -5)),
        (s.SCHED_OTHER, 0, -5, True, (s.SCHED_OTHER, 0, 0)),
        (s.SCHED_BATCH, 0, 5, True, (s.SCHED_BATCH, 0, 5)),
    ],
)
def test_what_a_child_inherits(
    world: World, policy: int, priority: int, nice: int, reset: bool, want: tuple[int, int, int]
) -> None:
    parent = world.task("p", policy, priority, nice)
    parent.entity.reset_on_fork = reset
    child = world.sched.inherit(parent)
    assert (child.policy, child.priority, child.nice) == want
    assert not child.reset_on_fork


# ---- deadlines


class Timed(World):
    """A world whose clock moves on, with timers, for tasks that have deadlines."""

    def __init__(self, cpus: int = 1) -> None:
        super().__init__()
        self.timers = Timers()
        self.overran: list[str] = []
        self.kernel: Any = SimpleNamespace(timers=self.timers, machine=SimpleNamespace(cpus=cpus), kick=lambda task: None)

    def due(self, name: str, runtime: int, deadline: int, period: int = 0, flags: int = 0) -> Any:
        task: Any = Thread(name)
        task.kernel, task.on_cpu, task.user_since_ns, task.work = self.kernel, False, 0, 0
        self.sched.born(task)
        wanted = Wanted(runtime * MS, deadline * MS, (period or deadline) * MS, flags, lambda: self.overran.append(name))
        return task if self.sched.reserve(task, wanted) else None

    def pass_ns(self, ns: int) -> None:
        """Time passes, and nobody runs."""
        self.now_ns += ns
        self.timers.run_due(self.now_ns)

    def sleeps(self, task: Any) -> None:
        task.state = SLEEPING
        self.sched.charge(task)
        task.state = RUNNABLE


def test_the_nearest_deadline_goes_first_and_before_any_real_time_task() -> None:
    world = Timed()
    world.queue(world.task("f", s.SCHED_FIFO, 99), world.due("l", 10, 200), world.due("e", 10, 50), world.due("m", 10, 100))
    assert "".join(world.sched.pick(ALL).name for _ in range(4)) == "emlf"


def test_no_more_than_95_percent_of_each_cpu_is_given_away() -> None:
    world = Timed(cpus=2)
    given = [world.due("a", 60, 100), world.due("b", 60, 100), world.due("c", 60, 100), world.due("d", 11, 100)]
    assert [each is not None for each in given] == [True, True, True, False]
    assert world.due("e", 10, 100) is not None, "190 %"
    world.sched.ended(given[0])
    assert world.due("f", 60, 100) is not None, "it has used nothing: its share is free at once"


def test_the_share_of_one_that_ran_is_kept_until_it_can_no_longer_have_used_it() -> None:
    world = Timed()
    a = world.due("a", 60, 100)
    world.queue(a)
    world.run(longest_ns=60 * MS)
    world.sched.set_policy(a, s.SCHED_OTHER, 0)
    assert world.due("b", 60, 100) is None
    world.pass_ns(40 * MS)
    assert world.due("b", 60, 100) is not None


def test_whoever_has_used_its_run_time_waits_for_its_next_period_though_nobody_else_wants_the_cpu() -> None:
    world = Timed()
    world.queue(world.due("a", 10, 100, flags=s.SCHED_FLAG_DL_OVERRUN))
    task, used = world.run()
    assert used == 10 * MS
    world.sched.enqueue(task, False)
    assert world.sched.pick(ALL) is None
    assert world.sched.waiting() == 0
    assert world.overran == ["a"]
    world.pass_ns(89 * MS)
    assert world.sched.waiting() == 0
    world.pass_ns(1 * MS)
    assert world.sched.waiting() == 1
    assert world.run() == (task, 10 * MS)


def test_what_was_run_beyond_is_taken_off_the_next_period() -> None:
    world = Timed()
    a = world.due("a", 10, 100)
    world.queue(a)
    world.sched.pick(ALL)
    a.stime_ns += 14 * MS
    world.now_ns += 14 * MS
    world.sched.charge(a)
    world.sched.enqueue(a, False)
    world.pass_ns(86 * MS)
    assert world.run() == (a, 6 * MS)


def test_yielding_gives_the_rest_of_the_period_up() -> None:
    world = Timed()
    a = world.due("a", 50, 100)
    world.queue(a)
    world.run(longest_ns=MS)
    world.sched.give_way(a)
    assert not world.sched.fits(a, ALL)
    world.sched.enqueue(a, True)
    assert world.sched.waiting() == 0
    world.pass_ns(99 * MS)
    assert world.run() == (a, 50 * MS)


def test_a_sleeper_does_not_keep_more_than_its_share_for_the_rest_of_its_period() -> None:
    world = Timed()
    a = world.due("a", 50, 100)
    world.queue(a)
    world.run(longest_ns=10 * MS)
    world.sleeps(a)
    world.pass_ns(30 * MS)  # 40 ms are left, and 60 until the deadline: too much, so it gets a new period
    world.queue(a)
    assert a.entity.reservation.due_ns == 140 * MS
    assert world.run() == (a, 50 * MS)


def test_with_a_deadline_before_the_periods_end_it_keeps_the_share_until_then_only() -> None:
    world = Timed()
    a = world.due("a", 20, 40, 100)
    world.queue(a)
    world.run(longest_ns=MS)
    world.sleeps(a)
    world.pass_ns(29 * MS)  # 10 ms until the deadline, of which its density allows half
    world.queue(a)
    assert world.run(longest_ns=MS) == (a, MS)
    assert a.entity.reservation.left_ns == 4 * MS
    world.sleeps(a)
    world.pass_ns(20 * MS)  # the deadline has passed, the period has not
    world.queue(a)
    assert world.sched.waiting() == 0
    world.pass_ns(49 * MS)
    assert world.run() == (a, 20 * MS)


def test_reclaiming_takes_less_off_where_little_is_set_aside() -> None:
    world = Timed()
    world.queue(world.due("a", 10, 100, flags=s.SCHED_FLAG_RECLAIM))
    a, _ = world.run(longest_ns=10 * MS)
    assert a.entity.reservation.left_ns == pytest.approx((10 - 10 * 0.15 / 0.95) * MS, rel=0.001)


def test_a_deadline_displaces_a_later_one_and_any_other() -> None:
    world = Timed()
    running = [world.due("l", 10, 300), world.task("f", s.SCHED_FIFO, 99)]
    running[0].cpu, running[1].cpu = 0, 1
    world.queue(world.due("e", 10, 100), world.due("m", 10, 200))
    assert world.sched.urgent
    assert [each.name for each in world.sched.displaced(running)] == ["f", "l"]
    world.queue(world.due("z", 10, 400))
    assert world.sched.displaced([running[0]]) == [running[0]]


def test_whoever_holds_the_lock_of_one_with_a_deadline_has_that_deadline_and_is_not_throttled() -> None:
    world = Timed()
    waiter, owner, other = world.due("w", 10, 50), world.task("o"), world.due("x", 10, 100)
    world.queue(owner, other)
    world.sched.lend(owner, waiter.entity.rank())
    assert world.sched.pick(ALL) is owner
    world.queue(owner)
    world.sched.lend(owner, s.MAX_PRIO)
    assert world.sched.pick(ALL) is other
    world.sched.enqueue(other, False)
    task, _ = world.run()
    world.sched.enqueue(task, False)
    assert (task, world.sched.waiting()) == (other, 1), "throttled; the owner is left"
    world.sched.lend(other, waiter.entity.rank())
    assert world.sched.pick(ALL) is other


def test_a_child_has_no_deadline() -> None:
    world = Timed()
    parent = world.due("p", 10, 100)
    parent.entity.reset_on_fork = True
    child = world.sched.inherit(parent)
    assert (child.policy, child.priority, child.reservation) == (s.SCHED_OTHER, 0, None)


def test_whoever_is_to_end_does_not_wait_for_its_debts() -> None:
    world = Timed()
    a = world.due("a", 1, 100)
    world.queue(a)
    world.sched.pick(ALL)
    a.stime_ns += 500 * MS
    world.sched.charge(a)
    world.sched.enqueue(a, False)
    assert world.sched.waiting() == 0
    world.sched.ends(a)
    assert world.sched.pick(ALL) is a


def test_whoever_ends_while_throttled_does_not_come_back() -> None:
    world = Timed()
    world.queue(world.due("a", 10, 100))
    task, _ = world.run()
    world.sched.enqueue(task, False)
    world.sched.ended(task)
    world.pass_ns(200 * MS)
    assert world.sched.waiting() == 0
    assert world.timers.next_deadline_ns() is None


def test_who_traps_goes_on_until_somebody_who_waits_has_run_noticeably_less(world: World) -> None:
    caller, other = world.task("a"), world.task("b")
    world.queue(other)
    caller.utime_ns += LEAD_NS
    assert world.sched.goes_on(caller)
    caller.utime_ns += 1
    assert not world.sched.goes_on(caller)
    world.sched.dequeue(other)  # its entry is stale now
    world.queue(world.task("c", nice=-20))
    assert not world.sched.goes_on(caller)
    world.sched.pick(ALL)
    assert world.sched.goes_on(caller)


def test_a_niced_caller_goes_on_for_less_long(world: World) -> None:
    nice, idle = world.task("n", nice=10), world.task("i", s.SCHED_IDLE)
    world.queue(world.task("a"))
    for task in nice, idle:
        task.utime_ns += LEAD_NS // 5
        assert not world.sched.goes_on(task)


def test_to_go_on_is_no_way_to_hoard(world: World) -> None:
    sleeper, spinner = world.task("b"), world.task("a")
    world.queue(spinner)
    world.order(50)
    assert world.sched.goes_on(sleeper)
    sleeper.utime_ns += 2 * SLICE_NS + LEAD_NS + 1
    assert not world.sched.goes_on(sleeper)


def test_nobody_goes_on_before_a_real_time_task(world: World) -> None:
    caller = world.task("a")
    world.queue(world.task("r", s.SCHED_FIFO, 1))
    assert not world.sched.goes_on(caller)
