"""Waiting for children: which child qualifies, and what is reported of it; wait(2)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import sched as w
from trapline.abi.errno import ECHILD
from trapline.abi.signal import CLD_CONTINUED, CLD_STOPPED, SIGCHLD
from trapline.kernel.sync.park import Interrupted
from trapline.kernel.task import exit as exits
from trapline.kernel.task.signals import stop
from trapline.kernel.task.signals.send import SigInfo
from trapline.kernel.task.usage import add_child

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup


class Found(NamedTuple):
    """A child in a state that was asked for. `status` is as wait4(2) encodes it, `info` as waitid(2) tells it."""

    child: ThreadGroup
    status: int
    info: SigInfo


Matches = Callable[["ThreadGroup"], bool]


def wait(task: Task, matches: Matches, options: int) -> Found | Coroutine[Any, Any, Found] | None:
    """A child that is ready; None with WNOHANG if none is; else a coroutine. Raises ECHILD if none could ever be."""
    found = _look(task, matches, options)
    if found is not None or options & w.WNOHANG:
        return found
    return _sleep(task, matches, options)


async def _sleep(task: Task, matches: Matches, options: int) -> Found:
    """A child that is ready counts before the signal that announces it."""
    while True:
        interrupted: Interrupted | None = None
        try:
            await task.group.child_wait.wait()
        except Interrupted as signal:
            interrupted = signal
        found = _look(task, matches, options)  # after sleep: children may have gone
        if found is not None:
            return found
        if interrupted is not None:
            raise interrupted


def _look(task: Task, matches: Matches, options: int) -> Found | None:
    eligible = False
    for child in task.group.children:
        if not matches(child) or not _kind(child, options) or (options & w.WNOTHREAD and child.creator is not task):
            continue
        eligible = True
        found = _ready(child, options)
        if found is not None:
            return found
    if not eligible:
        raise ECHILD
    return None


def _kind(child: ThreadGroup, options: int) -> bool:
    """__WALL, __WCLONE: a "clone" child is one that tells its parent by another signal than SIGCHLD."""
    if options & w.WALL:
        return True
    return (child.leader.exit_signal != SIGCHLD) == bool(options & w.WCLONE)


def _ready(child: ThreadGroup, options: int) -> Found | None:
    if child.zombie:
        if not options & w.WEXITED:
            return None
        found = Found(child, child.exit_status, exits.child_info(child, SIGCHLD))
        if not options & w.WNOWAIT:
            if child.parent is not None:
                add_child(child.parent, child)
            exits.reap(child)
        return found
    event = child.wait_event
    if event == CLD_STOPPED and options & w.WUNTRACED:
        status = child.group_stop << 8 | 0x7F
        code = child.group_stop
    elif event == CLD_CONTINUED and options & w.WCONTINUED:
        status, code = 0xFFFF, 18
    else:
        return None
    utime, stime = stop.cpu_ticks(child)
    uid = child.leader.creds.uid
    info = SigInfo(SIGCHLD, event, pid=child.pid, uid=uid, status=code, utime=utime, stime=stime)
    if not options & w.WNOWAIT:
        child.wait_event = 0
    return Found(child, status, info)
