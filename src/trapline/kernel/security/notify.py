"""The listener of a seccomp(2) filter: system calls that another process decides on, seccomp_unotify(2).

A task whose filter says SECCOMP_RET_USER_NOTIF leaves a request here and sleeps. Who holds the listener's descriptor receives
requests, looks at them, and answers each: with a result, or by letting the call go on.

Invariant: `requests` are exactly those whose task still sleeps; one is *sent* once it was received.
"""

from __future__ import annotations

from collections.abc import Coroutine
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import seccomp as s
from trapline.abi.errno import E2BIG, EBADF, EFAULT, EINPROGRESS, EINVAL, ENOENT, ENOSYS
from trapline.abi.fcntl import O_CLOEXEC, O_NONBLOCK, O_RDWR
from trapline.abi.poll import POLL_IN, POLL_OUT, POLLHUP
from trapline.kernel.ipc.anon import AnonFile
from trapline.kernel.sync.park import Interrupted, WaitQueue
from trapline.kernel.task.task import WORK_EXIT
from trapline.machine.paging.entry import PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


class Answer(NamedTuple):
    """A result, or (`goes_on`) leave to do the call."""

    value: int
    goes_on: bool = False


class Request:
    """One call that waits for its answer."""

    __slots__ = ("answer", "data", "ident", "queue", "sent", "task")

    def __init__(self, ident: int, task: Task, data: bytes) -> None:
        self.ident = ident
        self.task = task
        self.data = data
        self.sent = False
        self.answer: Answer | None = None
        self.queue = WaitQueue()


class NotifyFile(AnonFile):
    """`filters`: how many sets of rules name this listener; with none left, nothing can come any more."""

    __slots__ = ("_ident", "closed", "filters", "queue", "requests", "wait_killable")

    kind = b"seccomp notify"

    def __init__(self, kernel: Any, wait_killable: bool = False) -> None:
        """`wait_killable`: once its request was received, only what kills a task ends its wait."""
        super().__init__(kernel, O_RDWR)
        self.requests: dict[int, Request] = {}
        self.queue = WaitQueue()
        self.filters = 0
        self.wait_killable = wait_killable
        self.closed = False
        self._ident = int.from_bytes(kernel.random(8), "little") >> 1

    # ---- the side of the filtered task

    async def ask(self, task: Task, data: bytes) -> Answer:
        """Sleep until somebody has decided. Raises ENOSYS when nobody listens, Interrupted."""
        if self.closed:
            raise ENOSYS("nobody listens")
        self._ident += 1
        request = self.requests[self._ident] = Request(self._ident, task, data)
        self.queue.wake_all(POLL_IN)
        try:
            while request.answer is None and not self.closed:
                await self._wait_once(request)
        finally:
            self.requests.pop(request.ident, None)
        if request.answer is None:  # after sleep: the listener may be gone
            raise ENOSYS("nobody listens")
        return request.answer

    async def _wait_once(self, request: Request) -> None:
        if not self.wait_killable:
            await request.queue.wait()
            return
        received = request.sent
        if received and request.task.work & WORK_EXIT:
            raise Interrupted
        try:
            await request.queue.wait(interruptible=not received)
        except Interrupted:
            if received or not request.sent or request.task.work & WORK_EXIT:
                raise  # else it was received meanwhile: from now on it takes more

    def filter_gone(self) -> None:
        """One set of rules less."""
        self.filters -= 1
        if not self.filters:
            self.queue.wake_all(POLLHUP)

    # ---- the side of the listener

    def release(self) -> None:
        self.closed = True
        for each in self.requests.values():
            each.queue.wake_all()

    def poll(self) -> int:
        waiting = self.requests.values()
        events = POLL_IN if any(not each.sent for each in waiting) else 0
        events |= POLL_OUT if any(each.sent for each in waiting) else 0
        return events if self.filters else events | POLLHUP

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        return (self.queue,)

    def ioctl(self, task: Any, cmd: int, arg: int) -> int | Coroutine[Any, Any, int]:
        if cmd == s.SECCOMP_IOCTL_NOTIF_RECV:
            return self._receive(task, arg)
        if cmd == s.SECCOMP_IOCTL_NOTIF_SEND:
            return self._send(task, arg)
        if cmd in (s.SECCOMP_IOCTL_NOTIF_ID_VALID, s.SECCOMP_IOCTL_NOTIF_ID_VALID_WRONG_DIR):
            request = self.requests.get(task.mm.read_u64(arg))
            if request is None or not request.sent or request.answer is not None:
                raise ENOENT
            return 0
        if (cmd ^ s.SECCOMP_IOCTL_NOTIF_ADDFD) & ~(s.IOC_SIZE_MASK | s.IOC_INOUT) == 0:
            return self._add_descriptor(task, arg, (cmd & s.IOC_SIZE_MASK) >> 16)
        raise EINVAL("no such request")

    async def _receive(self, task: Task, address: int) -> int:
        if any(task.mm.read(address, s.SECCOMP_NOTIF.size)):
            raise EINVAL("the structure must be zero")
        while True:
            request = next((each for each in self.requests.values() if not each.sent), None)
            if request is not None:
                break
            if not self.filters or self.flags & O_NONBLOCK:
                raise ENOENT
            await self.queue.wait()
        request.sent = True
        try:
            task.mm.write(address, s.SECCOMP_NOTIF.pack(request.ident, request.task.tid, 0, request.data))
        except EFAULT:
            request.sent = False
            raise
        self.queue.wake_all(POLL_OUT)
        if self.wait_killable:
            request.queue.wake_all()  # it goes to sleep more deeply
        return 0

    def _sent(self, ident: int) -> Request:
        """A request that was received and not answered. Raises ENOENT, EINPROGRESS."""
        request = self.requests.get(ident)
        if request is None:
            raise ENOENT
        if not request.sent or request.answer is not None:
            raise EINPROGRESS
        return request

    def _send(self, task: Task, address: int) -> int:
        ident, value, error, flags = s.SECCOMP_NOTIF_RESP.unpack(task.mm.read(address, s.SECCOMP_NOTIF_RESP.size))
        if flags & ~s.SECCOMP_USER_NOTIF_FLAG_CONTINUE or (flags and (error or value)):
            raise EINVAL
        request = self._sent(ident)
        request.answer = Answer(error or value, bool(flags))
        request.queue.wake_all()
        return 0

    def _add_descriptor(self, task: Task, address: int, size: int) -> int:
        """Give the filtered task one of our descriptors; which it got. A later, longer structure must end in zeros: E2BIG."""
        known = s.SECCOMP_NOTIF_ADDFD.size
        if not known <= size < PAGE_SIZE:
            raise EINVAL
        raw = task.mm.read(address, size)
        if any(raw[known:]):
            raise E2BIG
        ident, flags, source, wanted, new_flags = s.SECCOMP_NOTIF_ADDFD.unpack(raw[:known])
        sets = flags & s.SECCOMP_ADDFD_FLAG_SETFD
        if new_flags & ~O_CLOEXEC or flags & ~(s.SECCOMP_ADDFD_FLAG_SETFD | s.SECCOMP_ADDFD_FLAG_SEND):
            raise EINVAL
        if wanted and not sets:
            raise EINVAL("newfd without SECCOMP_ADDFD_FLAG_SETFD")
        file = task.files.get(source)
        request = self._sent(ident)
        files = request.task.files
        if sets:
            if wanted >= files.limit:
                raise EBADF
            files.install_at(wanted, file.get(), bool(new_flags))
        else:
            files.reserve()
            wanted = files.install(file.get(), bool(new_flags))
        if flags & s.SECCOMP_ADDFD_FLAG_SEND:
            request.answer = Answer(wanted)
            request.queue.wake_all()
        return int(wanted)
