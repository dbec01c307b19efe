"""The labs' own scheduling classes in the place of the fair one."""

from __future__ import annotations

from typing import Any

import pytest

from trapline.abi.sched import SCHED_FIFO
from trapline.kernel.sched.classes import ClassScheduler
from trapline.kernel.sched.entity import Entity
from trapline.labs.code.queues import Lottery, RoundRobin


class Stub:
    """What a scheduler knows of a task."""

    def __init__(self, nice: int) -> None:
        self.entity, self.cpu = Entity(nice), 0


def task(nice: int = 0) -> Any:
    return Stub(nice)


@pytest.mark.parametrize("make", [RoundRobin, Lottery])
def test_everybody_is_picked_once(make: Any) -> None:
    sched = ClassScheduler(lambda: 0, make())
    tasks = [task() for _ in range(5)]
    for each in tasks:
        sched.enqueue(each, True)
        sched.enqueue(each, True)
    assert sched.waiting() == 5
    sched.dequeue(tasks[2])
    picked = [sched.pick(-1) for _ in range(4)]
    assert {id(each) for each in picked} == {id(each) for n, each in enumerate(tasks) if n != 2}
    assert sched.pick(-1) is None and sched.waiting() == 0
    if make is RoundRobin:
        assert picked == [tasks[0], tasks[1], tasks[3], tasks[4]]


def test_bound_tasks_wait_for_their_cpu() -> None:
    sched = ClassScheduler(lambda: 0, Lottery())
    bound = task()
    sched.bind(bound, 2)
    sched.enqueue(bound, True)
    assert sched.pick(1) is None and sched.pick(3) is bound


def test_real_time_tasks_go_before_the_lottery() -> None:
    sched = ClassScheduler(lambda: 0, Lottery())
    ordinary, urgent = task(), task()
    sched.set_policy(urgent, SCHED_FIFO, 1)
    sched.enqueue(ordinary, True)
    sched.enqueue(urgent, True)
    assert sched.pick(-1) is urgent


def test_tickets_are_drawn_by_weight() -> None:
    sched = ClassScheduler(lambda: 0, Lottery())
    heavy, light = task(0), task(10)
    wins = 0
    for _ in range(2000):
        sched.enqueue(heavy, False)
        sched.enqueue(light, False)
        wins += sched.pick(-1) is heavy
        sched.pick(-1)
    share = heavy.entity.weight / (heavy.entity.weight + light.entity.weight)
    assert abs(wins / 2000 - share) < 0.03
