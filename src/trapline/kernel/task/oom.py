"""When memory runs out: who dies for it.

As Linux does (oom_badness in mm/oom_kill.c): the process with the largest resident set, shifted by its
`oom_score_adj` in thousandths of all memory; adjustments of -1000 exempt. The kernel log says what happened.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.kernel.task import exit as exits
from trapline.machine.paging.entry import PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task, ThreadGroup

SIGKILL = 9
EXEMPT = -1000


def badness(group: ThreadGroup, limit_pages: int) -> int:
    """How much killing `group` would help, in pages; negative: never kill it."""
    if not group.tasks or group.exiting or group.oom_score_adj == EXEMPT:
        return -1
    mm = group.tasks[0].mm
    if mm is None:
        return -1
    return max(0, mm.rss_pages + mm.tables.swapped + group.oom_score_adj * limit_pages // 1000)


def out_of_memory(kernel: Kernel, task: Task) -> None:
    """Kill the worst process. `task` is the one whose fault found no frame; it retries, or dies."""
    if not kill_worst(kernel):
        _kill(kernel, task.group)


def kill_worst(kernel: Kernel) -> bool:
    """Kill the worst process; False if none may be killed.

    While somebody is on the way out already, nobody else has to die: what found no memory is tried again until that is free.
    """
    if any(each.exiting and each.tasks for each in kernel.groups.values()):
        return True
    limit = kernel.ram.frames.limit_pages
    victim = max(kernel.groups.values(), key=lambda each: badness(each, limit))
    if badness(victim, limit) < 0:
        return False
    _kill(kernel, victim)
    return True


def _kill(kernel: Kernel, victim: ThreadGroup) -> None:
    leader, limit = victim.tasks[0], kernel.ram.frames.limit_pages
    kernel.log(
        f"Out of memory: Killed process {victim.pid} ({leader.comm.decode(errors='replace')}) "
        f"rss:{leader.mm.rss_pages * PAGE_SIZE >> 10}kB, limit:{limit * PAGE_SIZE >> 10}kB (option --memory)"
    )
    exits.exit_group(leader, SIGKILL)
