"""System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import ipc
from trapline.abi.errno import EINVAL
from trapline.kernel.ipc.sysv import shm
from trapline.kernel.ipc.sysv.ids import now_s
from trapline.kernel.syscalls.declare import Arg, Int, Size, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Key = Annotated[int, Arg(-32, "enum:ipc_key")]
GetFlags = Annotated[int, Arg(-32, "flags:shmget")]
AtFlags = Annotated[int, Arg(-32, "flags:shmat")]
Command = Annotated[int, Arg(-32, "enum:shmctl")]


@syscall("shmget")
def sys_shmget(task: Task, key: Key, size: Size, shmflg: GetFlags) -> int:
    """shmget(2): find or make a shared memory segment.

    Partial: huge pages (SHM_HUGETLB) are 2 MiB large; other sizes fail with EINVAL.
    """
    return shm.get(task.kernel.ipc, task, key, size, shmflg)


@syscall("shmat", returns="ptr")
def sys_shmat(task: Task, shmid: Int, shmaddr: UserPtr, shmflg: AtFlags) -> int:
    """shmat(2): map a shared memory segment."""
    return shm.attach(task.kernel.ipc, task, shmid, shmaddr, shmflg)


@syscall("shmdt")
def sys_shmdt(task: Task, shmaddr: UserPtr) -> int:
    """shmdt(2): unmap a shared memory segment."""
    shm.detach(task, shmaddr)
    return 0


@syscall("shmctl")
def sys_shmctl(task: Task, shmid: Int, cmd: Command, buf: UserPtr) -> int:
    """shmctl(2): ask about, change or remove a segment."""
    if cmd < 0 or shmid < 0:
        raise EINVAL
    space, mm = task.kernel.ipc, task.mm
    if cmd == ipc.IPC_INFO:
        mm.write(buf, ipc.SHMINFO.pack(space.shmmax, ipc.SHMMIN, space.shm.limit, space.shm.limit, space.shmall, 0, 0, 0, 0))
        return space.shm.highest
    if cmd == ipc.SHM_INFO:
        resident = sum(each.resident_pages for each in space.shm.all())
        mm.write(buf, ipc.SHM_INFO_T.pack(len(space.shm), space.shm_pages, resident, 0, 0, 0))
        return space.shm.highest
    if cmd in (ipc.SHM_STAT, ipc.SHM_STAT_ANY, ipc.IPC_STAT):
        segment = space.shm.find(shmid) if cmd == ipc.IPC_STAT else space.shm.at(shmid)
        if cmd != ipc.SHM_STAT_ANY:
            segment.check(task.creds, 0o444)
        mm.write(buf, segment.pack())
        return 0 if cmd == ipc.IPC_STAT else segment.id
    if cmd == ipc.IPC_SET:
        raw = mm.read(buf, ipc.IPC_PERM.size + ipc.SHMID_DS.size)
        segment = space.shm.find(shmid)
        segment.check_owner(task.creds)
        segment.set_perm(raw)
        segment.ctime = now_s(task.kernel)
    elif cmd == ipc.IPC_RMID:
        shm.remove(space.shm.find(shmid), task.creds)
    elif cmd in (ipc.SHM_LOCK, ipc.SHM_UNLOCK):
        shm.lock(space.shm.find(shmid), task, cmd == ipc.SHM_LOCK)
    else:
        raise EINVAL("no such command")
    return 0
