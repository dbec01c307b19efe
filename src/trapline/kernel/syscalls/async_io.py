"""Signal-driven input and output: O_ASYNC, F_SETOWN and F_SETSIG of fcntl(2).

Invariant: an open file with O_ASYNC has one listener on its queues, which goes with the flag or the file.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EAGAIN
from trapline.abi.poll import POLL_IN, POLLERR, POLLHUP, POLLIN, POLLMSG, POLLOUT, POLLPRI
from trapline.abi.rw import F_OWNER_PGRP, F_OWNER_TID
from trapline.abi.signal import SI_KERNEL, SIGIO, SIGURG
from trapline.kernel.sync.park import Listener
from trapline.kernel.task.signals.send import SigInfo, send_to_group, send_to_task

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

POLL_IN_CODE, POLL_OUT_CODE, POLL_MSG_CODE, POLL_ERR_CODE, POLL_PRI_CODE, POLL_HUP_CODE = 1, 2, 3, 4, 5, 6
MSG_BAND = POLL_IN | POLLMSG  #: of a file's state: leases, directories
_CODES = (
    (POLLHUP, POLL_HUP_CODE), (POLLERR, POLL_ERR_CODE), (POLLIN, POLL_IN_CODE), (POLLPRI, POLL_PRI_CODE),
    (POLLOUT, POLL_OUT_CODE),
)  # fmt: skip

_sources: dict[File, _Source] = {}


class _Source:
    """Sends SIGIO for one open file."""

    def __init__(self, kernel: Any, fd: int, file: File) -> None:
        self.kernel = kernel
        self.fd = fd
        self.file = file
        self.listener = Listener(self.woken, file.poll_queues())

    def woken(self, events: int) -> None:
        if self.file.owner is None:
            return
        events = events or self.file.poll()
        code = next((code for bit, code in _CODES if events & bit), POLL_IN_CODE)
        tell_owner(self.kernel, self.file, self.fd, code, events)


def tell_owner(kernel: Any, file: File, fd: int, code: int, band: int) -> None:
    """SIGIO, or the signal of F_SETSIG, for whom F_SETOWN named."""
    owner, signo = file.owner, file.owner_signal
    if owner is None:
        return
    _send(kernel, owner, SigInfo(signo, code, band=band, fd=fd) if signo else SigInfo(SIGIO, SI_KERNEL))


def tell_urgent(kernel: Any, file: File) -> None:
    """SIGURG for whom F_SETOWN named: out-of-band data has come."""
    if file.owner is not None:
        _send(kernel, file.owner, SigInfo(SIGURG, SI_KERNEL))


def _send(kernel: Any, owner: tuple[int, int, int, int], info: SigInfo) -> None:
    for target in _targets(kernel, owner):
        try:
            if owner[0] == F_OWNER_TID:
                send_to_task(target, info)
            else:
                send_to_group(target, info)
        except EAGAIN:  # the queue of real-time signals is full: fcntl(2) says SIGIO is sent instead
            send_to_group(target if owner[0] != F_OWNER_TID else target.group, SigInfo(SIGIO, SI_KERNEL))


def _targets(kernel: Any, owner: tuple[int, int, int, int]) -> list[Any]:
    kind, number, uid, euid = owner
    if kind == F_OWNER_TID:
        found = [kernel.tasks.get(number)]
    elif kind == F_OWNER_PGRP:
        found = kernel.each_group(lambda each: each.pgid == number)
    else:
        found = [kernel.groups.get(number)]
    return [each for each in found if each is not None and _permitted(each, uid, euid)]


def _permitted(target: Any, uid: int, euid: int) -> bool:
    """The rule of kill(2), for the credentials of whoever set the owner."""
    task = getattr(target, "leader", target)
    creds = task.creds if task is not None else None
    return creds is not None and (euid in (0, creds.suid, creds.uid) or uid in (creds.suid, creds.uid))


def set_async(task: Task, fd: int, file: File, on: bool) -> bool:
    """Turn the signals of an open file on or off. False for files that are always ready."""
    if not file.poll_queues():
        return False
    if not on:
        _stop(file)
        return True
    if file not in _sources:
        _sources[file] = _Source(task.kernel, fd, file)
        if file.on_release is None:
            file.on_release = []
        file.on_release.append(_stop)
    return True


def _stop(file: File) -> None:
    source = _sources.pop(file, None)
    if source is not None:
        source.listener.close()
        if file.on_release is not None:
            file.on_release.remove(_stop)
