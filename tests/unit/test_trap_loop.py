"""Who goes to user mode when there is not room for all: the trap loop on a machine whose kernel needs one of two CPUs."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from little_world import World, make_world

from trapline.kernel.entry.loop import LEISURE_NS, MAX_ENDS, START_NS, Hooks, TrapLoop
from trapline.kernel.mm.reclaim import reclaimer
from trapline.kernel.sched.classes import ClassScheduler
from trapline.kernel.sched.fair import LEAD_NS
from trapline.kernel.sync.park import READY
from trapline.kernel.task.task import Task


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(monkeypatch)
    world.kernel.sched = ClassScheduler(world.clock.monotonic_ns)
    world.resumed = []  # type: ignore[attr-defined]
    world.machine.resume = lambda ctx: world.resumed.append(ctx.owner)  # type: ignore[attr-defined,method-assign]
    return world


def loop_of(world: World, roomy: int) -> TrapLoop:
    world.machine.roomy = roomy
    return TrapLoop(world.kernel, Hooks())


def forks(world: World, loop: TrapLoop) -> tuple[Task, Task]:
    """A process traps, and the call that is served makes a child."""
    parent, child = world.process(), world.process()
    loop.enter_user(parent, 0)
    world.resumed.clear()  # type: ignore[attr-defined]

    def call(task: Task) -> bool:
        world.kernel.enqueue(child)
        world.kernel.newborn = child
        return True

    loop.dispatcher = SimpleNamespace(call=call)  # type: ignore[assignment]
    parent.ctx.kind = 1  # SYSCALL
    loop.trap(parent, world.clock.now_ns)
    return parent, child


def test_a_child_goes_first_where_one_of_both_is_held_back(world: World) -> None:
    loop = loop_of(world, roomy=1)
    parent, child = forks(world, loop)
    assert world.resumed == [child]  # type: ignore[attr-defined]
    loop._fill_cpus()
    assert world.resumed == [child] and world.kernel.sched.waiting() == 1  # type: ignore[attr-defined]
    world.clock.advance(START_NS + 50_000)
    loop._fill_cpus()
    assert world.resumed == [child, parent]  # type: ignore[attr-defined]


@pytest.mark.parametrize("reason", ["room for both", "somebody else waits", "real time", "a signal"])
def test_the_parent_goes_on_where_it_costs_nothing_or_more(world: World, reason: str) -> None:
    loop = loop_of(world, roomy=2 if reason == "room for both" else 1)
    sched: Any = world.kernel.sched
    if reason == "somebody else waits":
        sched.enqueue(world.process(), True)
    sched.careful = reason == "real time"
    child = world.process()
    parent = world.process()
    parent.restart = int(reason == "a signal")
    sched.enqueue(child, True)
    world.kernel.newborn = child
    loop.idle, loop.free = 2, 3
    assert not loop._child_first(parent, 0)
    assert world.kernel.newborn is None and not world.resumed  # type: ignore[attr-defined]


def calls_until_it_waits(world: World, loop: TrapLoop, caller: Task, each_ns: int, wakes: Task | None = None) -> int:
    """How many system calls `caller` makes, each after `each_ns` in user mode, before it is queued (100: it is not)."""

    def call(task: Task) -> bool:
        if wakes is not None:
            READY.append(wakes)
        return True

    loop.dispatcher = SimpleNamespace(call=call)  # type: ignore[assignment]
    caller.ctx.kind = 1  # SYSCALL
    for count in range(1, 101):
        world.clock.advance(each_ns)
        loop.trap(caller, world.clock.now_ns)
        if not caller.on_cpu:
            return count
    return 100


def busy_loop(world: World) -> tuple[TrapLoop, Task]:
    """One CPU; somebody is on it, and another waits."""
    world.machine.cpus = 1
    loop, caller, other = loop_of(world, roomy=1), world.process(), world.process()
    loop.enter_user(caller, world.clock.now_ns)
    world.kernel.sched.enqueue(other, True)
    return loop, caller


def test_a_system_call_does_not_cost_the_cpu_though_others_wait(world: World) -> None:
    loop, caller = busy_loop(world)
    count = calls_until_it_waits(world, loop, caller, LEAD_NS // 20)
    assert 15 < count < 25 and world.kernel.sched.waiting() == 2


def test_a_system_call_that_wakes_somebody_leaves_the_choice_to_the_scheduler(world: World) -> None:
    loop, caller = busy_loop(world)
    try:
        assert calls_until_it_waits(world, loop, caller, 1, wakes=world.process()) == 1
    finally:
        READY.clear()


def test_a_sleeper_whose_time_has_come_is_looked_at_before_the_caller_goes_on(world: World) -> None:
    loop, caller = busy_loop(world)
    world.kernel.timers.add(world.clock.now_ns + LEAD_NS // 4, lambda: None)
    assert calls_until_it_waits(world, loop, caller, LEAD_NS // 20) == 5


def test_a_real_time_task_that_waits_goes_before_the_caller(world: World) -> None:
    loop, caller = busy_loop(world)
    world.kernel.sched.careful = True
    assert calls_until_it_waits(world, loop, caller, 1) == 1


def test_what_the_dead_leave_waits_for_leisure(world: World) -> None:
    loop = loop_of(world, roomy=1)
    done: list[int] = []
    ends: deque[Any] = reclaimer(world.kernel.ram).ends
    loop.enter_user(world.process(), 0)
    world.clock.advance(1)
    ends.append(lambda: done.append(1))
    soon = loop._entered_ns + LEISURE_NS
    assert loop._use_leisure(None, False) == soon and not done, "whoever has just gone to user mode may trap at once"
    assert loop._use_leisure(soon - 7, False) == soon - 7
    world.clock.advance(LEISURE_NS)
    assert loop._use_leisure(None, False) is None and done == [1]


def test_where_nobody_has_trapped_for_a_while_nobody_who_comes_back_delays_leisure(world: World) -> None:
    loop = loop_of(world, roomy=1)
    done: list[int] = []
    ends: deque[Any] = reclaimer(world.kernel.ram).ends
    loop.enter_user(world.process(), 0)
    world.clock.advance(1)
    ends.append(lambda: done.append(1))
    assert loop._use_leisure(7, True) == 7 and done == [1]


def test_leisure_is_while_a_process_starts_or_when_it_becomes_much(world: World) -> None:
    loop = loop_of(world, roomy=1)
    done: list[int] = []
    ends: deque[Any] = reclaimer(world.kernel.ram).ends
    forks(world, loop)
    ends.append(lambda: done.append(1))
    loop._use_leisure(None, False)
    assert done == [1]
    world.clock.advance(START_NS + 1)
    ends.extend(lambda i=i: done.append(i) for i in range(2, 3 + MAX_ENDS))
    loop._use_leisure(None, False)
    assert done == [1, 2] and len(ends) == MAX_ENDS
    assert loop._use_leisure(None, False) == loop._entered_ns + LEISURE_NS
