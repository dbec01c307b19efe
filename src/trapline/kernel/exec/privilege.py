"""Whose rights a new program has: set-user-id and set-group-id files, execve(2), "Effect on process attributes"."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.mount import MS_NOSUID
from trapline.abi.personality import PER_CLEAR_ON_SETID, READ_IMPLIES_EXEC
from trapline.abi.stat import S_ISGID, S_ISUID, S_IXGRP
from trapline.kernel.task.creds import Credentials, after_exec

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task


def credentials(task: Task, file: File) -> tuple[Credentials, bool]:
    """(the credentials `file` will run with, AT_SECURE)."""
    uid, gid = _owner_ids(task, file)
    mates = sum(each.fs is task.fs for each in task.group.tasks)
    return after_exec(task.creds, uid, gid, no_new_privs=task.no_new_privs, shared=task.fs.users > mates)


def _owner_ids(task: Task, file: File) -> tuple[int | None, int | None]:
    """The ids that the file's mode bits ask for; none under no_new_privs or a nosuid mount."""
    inode = file.inode
    if task.no_new_privs or (file.path is not None and file.path.mount.flags & MS_NOSUID):
        return None, None
    uid = inode.uid if inode.mode & S_ISUID else None
    gid = inode.gid if inode.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP else None
    return uid, gid


def adopt(task: Task, creds: Credentials, secure: bool) -> None:
    """The point of no return: `task` has the new program's rights, and what must not cross into it is cleared."""
    task.creds = creds
    task.dumpable = int(creds.euid == creds.uid and creds.egid == creds.gid)
    if task.kernel.machine.arch.name == "x86_64":
        task.personality &= ~READ_IMPLIES_EXEC
    if secure:
        task.death_signal = 0
        task.personality &= ~PER_CLEAR_ON_SETID
