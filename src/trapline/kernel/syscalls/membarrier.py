"""membarrier(2): make every running thread pass a memory barrier.

A thread that traps has passed one. So the running threads concerned are kicked, and the call waits until each has trapped.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EINVAL, EPERM
from trapline.abi.mman import (
    MEMBARRIER_CMD_FLAG_CPU,
    MEMBARRIER_CMD_GET_REGISTRATIONS,
    MEMBARRIER_CMD_GLOBAL,
    MEMBARRIER_CMD_GLOBAL_EXPEDITED,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
    MEMBARRIER_CMD_QUERY,
    MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ,
    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
)
from trapline.kernel.sync.park import RESTART_NOINTR, sleep_until
from trapline.kernel.syscalls.declare import Arg, Int, Result, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

POLL_NS = 20_000
#: a command that needs a registration, and which
_NEEDS = {
    MEMBARRIER_CMD_PRIVATE_EXPEDITED: MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE: MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ: MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ,
}
_REGISTER = (
    MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED
    | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
    | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
    | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ
)
_SUPPORTED = (
    MEMBARRIER_CMD_GLOBAL
    | MEMBARRIER_CMD_GLOBAL_EXPEDITED
    | MEMBARRIER_CMD_PRIVATE_EXPEDITED
    | MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE
    | MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ
    | MEMBARRIER_CMD_GET_REGISTRATIONS
    | _REGISTER
)


@syscall("membarrier")
def sys_membarrier(
    task: Task,
    cmd: Annotated[int, Arg(-32, "enum:membarrier_cmd")],
    flags: Annotated[int, Arg(32, "flags:membarrier")],
    cpu: Int,
) -> Result:
    """membarrier(2): a memory barrier on every CPU that runs the caller's process, or any process."""
    if flags and (cmd != MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ or flags != MEMBARRIER_CMD_FLAG_CPU):
        raise EINVAL
    if cmd != MEMBARRIER_CMD_QUERY and (cmd < 0 or not cmd & _SUPPORTED or cmd & (cmd - 1)):
        raise EINVAL
    mm = task.mm
    if cmd == MEMBARRIER_CMD_QUERY:
        return _SUPPORTED
    if cmd == MEMBARRIER_CMD_GET_REGISTRATIONS:
        return mm.membarrier
    if cmd & _REGISTER:
        mm.membarrier |= cmd
        return 0
    if cmd in _NEEDS:
        if not mm.membarrier & _NEEDS[cmd]:
            raise EPERM("not registered")
        if cmd == MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ:
            only = max(cpu, -1) if flags else -1
            _restart_sequences(task, only)
            return _barrier(task, lambda other: other.mm is mm and only in (-1, other.cpu))
        return _barrier(task, lambda other: other.mm is mm)
    if cmd == MEMBARRIER_CMD_GLOBAL_EXPEDITED:
        return _barrier(task, lambda other: bool(other.mm.membarrier & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED))
    return _barrier(task, lambda other: True)


def _restart_sequences(task: Task, cpu: int) -> None:
    """Threads of the caller's process (on one CPU, or -1: any) are to leave their critical sections: as if each had been
    away from its CPU, when it next goes to user mode."""
    last = task.kernel.loop.last  # type: ignore[attr-defined]  # a kernel that runs programs
    for each in task.kernel.tasks.values():
        if each.mm is task.mm and cpu in (-1, each.cpu) and last[each.cpu] is each and each is not task:
            last[each.cpu] = None


def _barrier(task: Task, concerned: Callable[[Task], bool]) -> Result:
    kernel = task.kernel
    running = [
        (each, each.user_since_ns)
        for each in kernel.tasks.values()
        if each.on_cpu and each is not task and each.mm is not None and concerned(each)
    ]
    if not running:
        return 0
    for each, _ in running:
        kernel.kick(each)
    return _trapped(task, running)


async def _trapped(task: Task, running: list[tuple[Task, int]]) -> int:
    """Wait until each of the tasks has left user mode since."""
    now = task.kernel.clock.monotonic_ns
    while any(each.on_cpu and each.user_since_ns == since for each, since in running):
        await sleep_until(now() + POLL_NS, restart=RESTART_NOINTR)
    return 0
