"""/proc/sysvipc: every System V object as a line of text, proc(5)."""

from __future__ import annotations

from trapline.typed import Any

from trapline.machine.paging.entry import PAGE_SIZE

_MSG = (
    b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime"
    b"      rtime      ctime\n"
)
_SEM = b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"
_SHM = (
    b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime"
    b"      ctime                   rss                  swap\n"
)


def msg(kernel: Any) -> bytes:
    return _MSG + b"".join(
        b"%10d %10d  %4o  %10d %10d %5d %5d %5d %5d %5d %5d %10d %10d %10d\n"
        % (
            each.key, each.id, each.mode, each.cbytes, len(each.messages), each.lspid, each.lrpid, each.uid, each.gid,
            each.cuid, each.cgid, each.stime, each.rtime, each.ctime,
        )
        for each in kernel.ipc.msg.all()
    )  # fmt: skip


def sem(kernel: Any) -> bytes:
    return _SEM + b"".join(
        b"%10d %10d  %4o %10d %5d %5d %5d %5d %10d %10d\n"
        % (
            each.key, each.id, each.mode, len(each.values), each.uid, each.gid, each.cuid, each.cgid, each.otime, each.ctime,
        )
        for each in kernel.ipc.sem.all()
    )  # fmt: skip


def shm(kernel: Any) -> bytes:
    return _SHM + b"".join(
        b"%10d %10d  %4o %21d %5d %5d  %5d %5d %5d %5d %5d %10d %10d %10d %21d %21d\n"
        % (
            each.key, each.id, each.mode, each.size, each.cpid, each.lpid, each.nattch, each.uid, each.gid, each.cuid,
            each.cgid, each.atime, each.dtime, each.ctime, (each.resident_pages - each.swapped_pages) * PAGE_SIZE,
            each.swapped_pages * PAGE_SIZE,
        )
        for each in kernel.ipc.shm.all()
    )  # fmt: skip


FILES = {b"msg": msg, b"sem": sem, b"shm": shm}
