"""TurnQueue: a wait queue of which somebody is to hear in turn, and not of each event: EPOLLEXCLUSIVE, epoll_ctl(2).

Of those that take turns the first hears of an event that sees to it, in the order in which they came, as with Linux's
exclusive wake-ups: sleepers in read(2) or accept(2) as well as epolls. Those that do not hear of it keep their places. All
hear of errors and hang-ups, and of what says not what it is.
"""

from __future__ import annotations

from trapline.abi.poll import POLLERR, POLLHUP
from trapline.kernel.sync.park import Turn, WaitQueue


class TurnQueue(WaitQueue):
    """What `take_turns` makes of a wait queue."""

    __slots__ = ()

    def wake(self, count: int = 1, events: int = 0) -> int:
        if not events or events & (POLLERR | POLLHUP):
            return super().wake(count, events)
        woken = 0
        while self.waiters and woken < count:
            woken += self.waiters.popleft().wake()
        turns = []
        for listener in tuple(self.listeners):
            if isinstance(listener, Turn):
                turns.append(listener)
            else:
                listener.callback(events)
        for each in turns:
            if each.takes(events):
                break
        return woken


def take_turns(queue: WaitQueue) -> None:
    """From now on those listeners of `queue` take turns that can."""
    queue.__class__ = TurnQueue
