"""Who may look into whom: ptrace(2), "Ptrace access mode checking", with the real ids of the caller (REALCREDS).

Reading (kcmp(2)) and attaching (pidfd_getfd(2)) ask the same here: they differ only where a security module has a say.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.capability import CAP_SYS_PTRACE

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def may_access(task: Task, target: Task) -> bool:
    """`task` may see or take what `target` has: they are one process, one user, or it has CAP_SYS_PTRACE."""
    if target.group is task.group:
        return True
    mine, its = task.creds, target.creds
    if mine.has_cap(CAP_SYS_PTRACE):
        return True
    same_user = mine.uid == its.uid == its.euid == its.suid
    same_group = mine.gid == its.gid == its.egid == its.sgid
    return same_user and same_group and target.dumpable == 1


def set_dumpable(task: Task, value: int) -> None:
    """Dumpability is the memory's: all threads that share it change together."""
    for each in task.kernel.tasks.values():
        if each.mm is task.mm:
            each.dumpable = value
