"""Every way to sleep in the kernel. This module holds the only `yield`.

A kernel coroutine (the part of a system call that may wait) is driven by the scheduler with `send(None)`; it gives
control back by parking a `Waiter`, and is continued when somebody wakes that waiter: with WOKEN, TIMED_OUT or SIGNALLED.
Nothing is ever thrown into a coroutine.

Invariants:
- between two awaits the kernel is atomic;
- a waiter is woken at most once: the first reason wins;
- waking is cheap and never runs the sleeper: it only puts it on the ready queue. Listeners (poll, epoll) are the
  exception: their callback runs at once and must not sleep.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Generator, Iterable
from trapline.typed import Any, Protocol

from trapline.kernel.sync.timers import Timers

WOKEN, TIMED_OUT, SIGNALLED = 0, 1, 2

# What becomes of a system call that a signal interrupted (signal(7), "Interruption of system calls").
RESTART_SYS = 512  #: restart if the handler has SA_RESTART, or if no handler runs; else EINTR
RESTART_NOINTR = 513  #: always restart
RESTART_NOHAND = 514  #: restart only if no handler runs; else EINTR
RESTART_BLOCK = 516  #: restart through restart_syscall(2) if no handler runs; else EINTR


class Interrupted(BaseException):
    """A signal ended a wait. `restart` is one of RESTART_*; `again` continues the call for RESTART_BLOCK."""

    def __init__(self, restart: int = RESTART_SYS, again: Callable[[Any], Any] | None = None) -> None:
        super().__init__(restart)
        self.restart = restart
        self.again = again


class Sleeper(Protocol):
    """Who can sleep: a task."""

    waiter: Waiter | None

    def signal_wakes(self) -> bool:
        """A signal is pending that must end an interruptible wait."""


class Waiter:
    """One sleep of one task."""

    __slots__ = ("interruptible", "reason", "sleeper")

    def __init__(self, sleeper: Sleeper, interruptible: bool) -> None:
        self.sleeper = sleeper
        self.interruptible = interruptible
        self.reason = -1

    def wake(self, reason: int = WOKEN) -> bool:
        """Make the sleeper ready; False if it had been woken before."""
        if self.reason >= 0:
            return False
        self.reason = reason
        READY.append(self.sleeper)
        return True


class Listener:
    """A callback on a wait queue, called at every wake with the poll events that happened (0: unknown)."""

    __slots__ = ("callback", "queues")

    def __init__(self, callback: Callable[[int], None], queues: Iterable[WaitQueue]) -> None:
        self.callback = callback
        self.queues = tuple(queues)
        for queue in self.queues:
            queue.listeners[self] = None

    def close(self) -> None:
        for queue in self.queues:
            queue.listeners.pop(self, None)  # it may have been given twice
        self.queues = ()


class Turn(Listener):
    """A listener that takes turns with others of its kind, where a queue lets them (`turns.TurnQueue`).

    `takes` is the callback then; it says whether the event was seen to, so that nobody after it need hear of it.
    """

    __slots__ = ("takes",)

    def __init__(
        self, callback: Callable[[int], None], queues: Iterable[WaitQueue], takes: Callable[[int], bool]
    ) -> None:
        super().__init__(callback, queues)
        self.takes = takes


READY: deque[Any] = deque()  #: sleepers whose wait is over, in order; the scheduler drains it
_current: Any = None  #: the sleeper whose coroutine runs now
_timers: Timers = Timers()


def set_current(sleeper: Any) -> None:
    """The scheduler says whose coroutine it is about to continue."""
    global _current
    _current = sleeper


def use_timers(timers: Timers) -> None:
    """The scheduler says which timers time-outs go to."""
    global _timers
    _timers = timers


def forget() -> None:
    """The kernel whose sleepers these were is closed."""
    READY.clear()
    set_current(None)
    use_timers(Timers())


@types.coroutine
def _suspend() -> Generator[None, None, None]:
    yield


async def park(waiter: Waiter, deadline_ns: int | None = None, restart: int = RESTART_SYS) -> bool:
    """Sleep until `waiter` is woken. True: woken; False: the deadline (CLOCK_MONOTONIC ns) passed.

    Raises Interrupted(restart) if the waiter is interruptible and a signal is pending or arrives.
    """
    sleeper = waiter.sleeper
    if waiter.reason < 0:
        if waiter.interruptible and sleeper.signal_wakes():
            waiter.reason = SIGNALLED
            raise Interrupted(restart)
        timer = None if deadline_ns is None else _timers.add(deadline_ns, lambda: waiter.wake(TIMED_OUT))
        sleeper.waiter = waiter
        await _suspend()
        sleeper.waiter = None
        if timer is not None:
            timer.cancel()
    else:
        # woken before it slept: its turn on the ready queue is still to come, and must not continue another wait
        sleeper.waiter = waiter
        await _suspend()
        sleeper.waiter = None
    if waiter.reason == SIGNALLED:
        raise Interrupted(restart)
    return waiter.reason == WOKEN


class WaitQueue:
    """A fair FIFO of sleepers, plus listeners that are told of every wake."""

    __slots__ = ("listeners", "waiters")

    def __init__(self) -> None:
        self.waiters: deque[Waiter] = deque()
        self.listeners: dict[Listener, None] = {}  #: in order; thousands of epolls may listen to one file

    async def wait(
        self, deadline_ns: int | None = None, *, interruptible: bool = True, restart: int = RESTART_SYS
    ) -> bool:
        """Sleep here. True: woken; False: the deadline passed; raises Interrupted. Check your condition again."""
        waiter = Waiter(_current, interruptible)
        self.waiters.append(waiter)
        try:
            return await park(waiter, deadline_ns, restart)
        finally:
            if waiter.reason != WOKEN and waiter in self.waiters:
                self.waiters.remove(waiter)

    def wake(self, count: int = 1, events: int = 0) -> int:
        """Wake the first `count` sleepers (and tell every listener); how many were woken."""
        woken = 0
        waiters = self.waiters
        while waiters and woken < count:
            if waiters.popleft().wake():
                woken += 1
        if self.listeners:
            for listener in tuple(self.listeners):
                listener.callback(events)
        return woken

    def wake_all(self, events: int = 0) -> int:
        return self.wake(1 << 30, events)


async def wait_any(
    queues: Iterable[WaitQueue],
    deadline_ns: int | None = None,
    *,
    interruptible: bool = True,
    restart: int = RESTART_SYS,
    turn: int = 0,
) -> bool:
    """Sleep until any of the queues is woken. Results as for `WaitQueue.wait`.

    `turn`: the events of which one suffices for one sleeper; where others listen in turn, it is woken by no more than that.
    """
    waiter = Waiter(_current, interruptible)
    if turn:
        listener: Listener = Turn(
            lambda events: _ignore(waiter.wake()), queues, lambda events: bool(events & turn) and waiter.wake()
        )
    else:
        listener = Listener(lambda events: _ignore(waiter.wake()), queues)
    try:
        return await park(waiter, deadline_ns, restart)
    finally:
        listener.close()


async def sleep_until(deadline_ns: int | None, *, restart: int = RESTART_SYS) -> None:
    """Sleep until CLOCK_MONOTONIC reaches the deadline (None: for ever). Raises Interrupted."""
    await park(Waiter(_current, True), deadline_ns, restart)


def _ignore(_: object) -> None:
    return None


async def breathe() -> None:
    """Let everybody else have a turn."""
    await WaitQueue().wait(0, interruptible=False)
