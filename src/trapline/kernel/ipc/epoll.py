"""epoll(7): an interest list and a ready list.

Each interest listens on its file's wait queues; when one is woken, the interest joins the ready list, so that waiting costs
what is ready, never what is watched. What is on the ready list is a claim: it is checked with `poll` when it is taken.

EPOLLEXCLUSIVE: of those interests, and of those that sleep in the file, one hears of each event (`turns`).

Invariants:
- an interest is on the ready list at most once (`queued`);
- an interest whose `file` is None is dead, wherever it still lies;
- epolls that watch epolls form no circle and are at most EPOLL_MAX_NESTS + 1 deep.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EEXIST, EINVAL, ELOOP, ENOENT, ENOSPC, EPERM
from trapline.abi.poll import (
    EPOLL_MAX_NESTS,
    EPOLL_PRIVATE,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLEXCLUSIVE_OK,
    EPOLLONESHOT,
    POLL_IN,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
)
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.ipc.anon import AnonFile
from trapline.kernel.sync.budget import Budgets
from trapline.kernel.sync.park import Listener, Turn, WaitQueue
from trapline.kernel.sync.turns import take_turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from struct import Struct

    from trapline.kernel.fs.file import File

ALWAYS = POLLERR | POLLHUP
WATCHES = Budgets(1, 65536)  #: interests of a kernel: /proc/sys/fs/epoll/max_user_watches


class Interest:
    """One watched descriptor: `events` as epoll_ctl(2) got them, and the caller's `data`."""

    __slots__ = ("data", "epoll", "events", "fd", "file", "listener", "poll", "queued")

    def __init__(self, epoll: Epoll, file: File, fd: int, events: int, data: int, task: Any) -> None:
        self.epoll = epoll
        self.file: File | None = file
        self.fd = fd
        self.events = events
        self.data = data
        self.queued = False
        self.poll: Callable[[], int] = file.poll
        queues = file.poll_queues()
        if isinstance(file, SpecialFile) and type(file).poll_as is not SpecialFile.poll_as:
            self.poll, queues = partial(_poll_as_current, file, epoll.kernel), file.queues_as(task)
        if events & EPOLLEXCLUSIVE:
            self.listener: Listener = Turn(self._woken, queues, self._takes)
            for each in queues:
                take_turns(each)
        else:
            self.listener = Listener(self._woken, queues)
        watchers_of(file).interests[self] = None

    def _woken(self, events: int) -> None:
        """Runs at every wake of the file: must be quick."""
        if events and not events & self.events:
            return
        if not self.queued:
            self.epoll.claim(self)
        elif self.epoll.queue.waiters:
            self.epoll.wake_sleeper()

    def _takes(self, events: int) -> bool:
        """`_woken`, for an exclusive interest; True if that has woken somebody, who will see to it (`ep_poll_callback`)."""
        sleeper = bool(self.epoll.queue.waiters)
        self._woken(events)
        ways = events & (POLLIN | POLLOUT)
        return sleeper and bool(not ways or (ways != POLLIN | POLLOUT and ways & self.events))

    def forget(self) -> None:
        file, self.file = self.file, None
        self.poll = _never
        self.listener.close()
        if file is not None:
            watchers_of(file).interests.pop(self, None)


class Watchers:
    """The interests in one open file: one entry of its `on_release`, however many epolls watch it under many numbers."""

    __slots__ = ("interests",)

    def __init__(self) -> None:
        self.interests: dict[Interest, None] = {}

    def __call__(self, file: File) -> None:
        """The last descriptor of the watched file was closed."""
        for interest in tuple(self.interests):
            interest.epoll.drop(interest)


def watchers_of(file: File) -> Watchers:
    if file.on_release is None:
        file.on_release = []
    for each in file.on_release:
        if isinstance(each, Watchers):
            return each
    made = Watchers()
    file.on_release.append(made)
    return made


class Epoll(AnonFile):
    """One epoll instance."""

    __slots__ = ("interests", "parents", "queue", "ready", "watches")

    kind = b"[eventpoll]"

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel)
        self.interests: dict[tuple[File, int], Interest] = {}
        self.ready: deque[Interest] = deque()
        self.parents: dict[Epoll, int] = {}  #: epolls that watch this one, and how often
        self.queue = WaitQueue()
        self.watches = WATCHES.of(kernel)

    # ---- the interest list

    def add(self, file: File, fd: int, events: int, data: int, task: Any) -> None:
        """EPOLL_CTL_ADD by `task`. EPERM for files that are always ready, EEXIST, ELOOP, ENOSPC."""
        if not file.poll_queues():
            raise EPERM
        if file is self:
            raise EINVAL
        if events & EPOLLEXCLUSIVE and (isinstance(file, Epoll) or events & ~EPOLLEXCLUSIVE_OK):
            raise EINVAL
        if isinstance(file, Epoll):
            _check_nesting(self, file)
        key = (file, fd)
        if key in self.interests:
            raise EEXIST
        if not self.watches.take():
            raise ENOSPC("max_user_watches")
        interest = self.interests[key] = Interest(self, file, fd, events | ALWAYS, data, task)
        if isinstance(file, Epoll):
            file.parents[self] = file.parents.get(self, 0) + 1
        self._look(interest)

    def modify(self, file: File, fd: int, events: int, data: int) -> None:
        """EPOLL_CTL_MOD: arms a one-shot interest again."""
        interest = self._find(file, fd)
        if (events | interest.events) & EPOLLEXCLUSIVE:
            raise EINVAL
        interest.events = events | ALWAYS
        interest.data = data
        self._look(interest)

    def remove(self, file: File, fd: int) -> None:
        """EPOLL_CTL_DEL."""
        self.drop(self._find(file, fd))

    def _find(self, file: File, fd: int) -> Interest:
        interest = self.interests.get((file, fd))
        if interest is None:
            raise ENOENT
        return interest

    def drop(self, interest: Interest) -> None:
        file = interest.file
        assert file is not None
        del self.interests[file, interest.fd]
        self.watches.give()
        if isinstance(file, Epoll):
            file.parents[self] -= 1
            if not file.parents[self]:
                del file.parents[self]
        interest.forget()

    def release(self) -> None:
        for interest in list(self.interests.values()):
            self.drop(interest)
        self.ready.clear()

    # ---- the ready list

    def claim(self, interest: Interest) -> None:
        """`interest` may be ready."""
        interest.queued = True
        self.ready.append(interest)
        self.queue.wake(1, POLL_IN)

    def wake_sleeper(self) -> None:
        """Something that is on the ready list anyway happened again, and somebody sleeps."""
        waiters = self.queue.waiters
        while waiters and not waiters.popleft().wake():
            pass

    def _look(self, interest: Interest) -> None:
        if not interest.queued and interest.poll() & interest.events:
            self.claim(interest)

    def collect(self, most: int) -> list[tuple[Interest, int]]:
        """Up to `most` interests that are ready, each with its events; a level-triggered one stays on the list."""
        ready = self.ready
        found: list[tuple[Interest, int]] = []
        for _ in range(len(ready)):
            if len(found) == most:
                break
            interest = ready.popleft()
            interest.queued = False
            events = interest.poll() & interest.events
            if not events:
                continue
            found.append((interest, events))
            if interest.events & EPOLLONESHOT:
                interest.events &= EPOLL_PRIVATE
            elif not interest.events & EPOLLET:
                interest.queued = True
                ready.append(interest)
        if ready and self.queue.waiters:
            self.queue.wake(1, POLL_IN)
        return found

    def give_back(self, found: list[tuple[Interest, int]]) -> None:
        """What `collect` returned could not be delivered."""
        for interest, events in found:
            interest.events |= events
            if not interest.queued and interest.file is not None:
                self.claim(interest)

    def poll(self) -> int:
        ready = self.ready
        while ready:
            interest = ready[0]
            if interest.poll() & interest.events:
                return POLL_IN
            interest.queued = False
            ready.popleft()
        return 0

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.queue,)


def _poll_as_current(file: SpecialFile, kernel: Any) -> int:
    """What is ready for the task that asks: signalfd(2), "epoll(7) semantics"."""
    return file.poll_as(kernel.current)


def _never() -> int:
    """A dead interest is not ready."""
    return 0


def pack(found: list[tuple[Interest, int]], layout: Struct) -> bytes:
    """The array of struct epoll_event for user memory, each with the architecture's `layout`."""
    return b"".join([layout.pack(events, interest.data) for interest, events in found])


def _check_nesting(parent: Epoll, child: Epoll) -> None:
    """Raise ELOOP if `parent` watching `child` makes a circle or too long a chain."""
    below = _depth(child, parent, {}, downwards=True)
    above = _depth(parent, child, {}, downwards=False)
    if below + 1 + above > EPOLL_MAX_NESTS:
        raise ELOOP


def _depth(epoll: Epoll, stop: Epoll, known: dict[Epoll, int], *, downwards: bool) -> int:
    """The longest chain of epolls below (or above) `epoll`; raises ELOOP if it leads to `stop`."""
    if epoll is stop:
        raise ELOOP
    if epoll not in known:
        near = [file for file, _ in epoll.interests if isinstance(file, Epoll)] if downwards else list(epoll.parents)
        known[epoll] = max((1 + _depth(each, stop, known, downwards=downwards) for each in near), default=0)
    return known[epoll]
