"""Waiting: wait queues, time-outs, signals, listeners; driven by hand, on a virtual clock."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from trapline.kernel.sync import park
from trapline.kernel.sync.park import Interrupted, Listener, WaitQueue, wait_any
from trapline.kernel.sync.timers import Timers


class Sleeper:
    """A task as far as waiting knows one."""

    def __init__(self, coro: Coroutine[Any, Any, Any] | None = None) -> None:
        self.waiter: park.Waiter | None = None
        self.coro = coro
        self.signal = False
        self.result: Any = None
        self.done = False

    def signal_wakes(self) -> bool:
        return self.signal

    def step(self) -> None:
        assert self.coro is not None
        park.set_current(self)
        try:
            self.coro.send(None)
        except StopIteration as stop:
            self.result, self.done = stop.value, True
        except Interrupted as stop:
            self.result, self.done = stop, True
        finally:
            park.set_current(None)


@pytest.fixture
def timers() -> Timers:
    park.READY.clear()
    timers = Timers()
    park.use_timers(timers)
    return timers


def drain() -> None:
    while park.READY:
        park.READY.popleft().step()


def start(coro: Coroutine[Any, Any, Any]) -> Sleeper:
    sleeper = Sleeper(coro)
    sleeper.step()
    return sleeper


def test_wakes_in_order_of_arrival(timers: Timers) -> None:
    queue = WaitQueue()
    first, second = start(queue.wait()), start(queue.wait())
    assert queue.wake() == 1
    drain()
    assert first.done and first.result is True
    assert not second.done
    assert queue.wake_all() == 1
    drain()
    assert second.done


def test_time_out_leaves_the_queue(timers: Timers) -> None:
    queue = WaitQueue()
    sleeper = start(queue.wait(deadline_ns=100))
    assert timers.next_deadline_ns() == 100
    timers.run_due(99)
    drain()
    assert not sleeper.done
    timers.run_due(100)
    drain()
    assert sleeper.result is False
    assert not queue.waiters


def test_a_wake_that_meets_a_time_out_goes_to_the_next(timers: Timers) -> None:
    queue = WaitQueue()
    late, patient = start(queue.wait(deadline_ns=5)), start(queue.wait())
    timers.run_due(5)
    assert queue.wake() == 1
    drain()
    assert late.result is False
    assert patient.result is True


def test_a_wake_cancels_the_timer(timers: Timers) -> None:
    queue = WaitQueue()
    start(queue.wait(deadline_ns=100))
    queue.wake()
    drain()
    assert timers.next_deadline_ns() is None


def test_pending_signal_refuses_to_sleep(timers: Timers) -> None:
    queue = WaitQueue()
    sleeper = Sleeper(queue.wait(restart=park.RESTART_NOHAND))
    sleeper.signal = True
    sleeper.step()
    assert isinstance(sleeper.result, Interrupted)
    assert sleeper.result.restart == park.RESTART_NOHAND
    assert not queue.waiters


def test_signal_during_the_sleep(timers: Timers) -> None:
    queue = WaitQueue()
    sleeper = start(queue.wait())
    assert sleeper.waiter is not None
    sleeper.waiter.wake(park.SIGNALLED)
    assert queue.wake() == 0, "a signalled sleeper must not swallow a wake"
    drain()
    assert isinstance(sleeper.result, Interrupted)


def test_uninterruptible_sleep_ignores_signals(timers: Timers) -> None:
    queue = WaitQueue()
    sleeper = Sleeper(queue.wait(interruptible=False))
    sleeper.signal = True
    sleeper.step()
    assert not sleeper.done
    queue.wake()
    drain()
    assert sleeper.result is True


def test_wait_any_leaves_every_queue(timers: Timers) -> None:
    queues = [WaitQueue(), WaitQueue()]
    sleeper = start(wait_any(queues))
    queues[1].wake_all()
    drain()
    assert sleeper.result is True
    assert not queues[0].listeners and not queues[1].listeners


def test_listener_hears_events_until_closed() -> None:
    queue = WaitQueue()
    heard: list[int] = []
    listener = Listener(heard.append, (queue,))
    queue.wake_all(4)
    listener.close()
    queue.wake_all(8)
    assert heard == [4]


def test_timers_run_in_order_and_once() -> None:
    timers = Timers()
    ran: list[str] = []
    timers.add(20, lambda: ran.append("late"))
    timers.add(10, lambda: ran.append("early"))
    cancelled = timers.add(15, lambda: ran.append("never"))
    cancelled.cancel()
    timers.run_due(30)
    timers.run_due(40)
    assert ran == ["early", "late"]
    assert timers.next_deadline_ns() is None
