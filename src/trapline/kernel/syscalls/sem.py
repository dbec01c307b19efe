"""System V semaphores: semget(2), semop(2), semtimedop(2), semctl(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import ipc
from trapline.abi.errno import EINVAL, ERANGE
from trapline.kernel.ipc.sysv import sem
from trapline.kernel.ipc.sysv.ids import now_s
from trapline.kernel.syscalls.declare import Arg, Hex, Int, Result, UInt, UserPtr, syscall
from trapline.kernel.syscalls.timearg import after, read_timespec

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Key = Annotated[int, Arg(-32, "enum:ipc_key")]
GetFlags = Annotated[int, Arg(-32, "flags:ipcget")]
Timeout = Annotated[int, Arg(64, "struct:timespec")]
Command = Annotated[int, Arg(-32, "enum:semctl")]
_SEMUSZ = 20


@syscall("semget")
def sys_semget(task: Task, key: Key, nsems: Int, semflg: GetFlags) -> int:
    """semget(2): find or make a set of semaphores."""
    return sem.get(task.kernel.ipc, task, key, nsems, semflg)


@syscall("semop")
def sys_semop(task: Task, semid: Int, sops: UserPtr, nsops: UInt) -> Result:
    """semop(2): do operations on a set, all at once."""
    space = task.kernel.ipc
    return sem.operate(space, task, semid, sem.read_operations(space, task, sops, nsops), None)


@syscall("semtimedop")
def sys_semtimedop(task: Task, semid: Int, sops: UserPtr, nsops: UInt, timeout: Timeout) -> Result:
    """semtimedop(2): semop(2), waiting no longer than so."""
    space, deadline = task.kernel.ipc, None
    if timeout:
        deadline = after(task.kernel.clock.monotonic_ns(), read_timespec(task, timeout))
    return sem.operate(space, task, semid, sem.read_operations(space, task, sops, nsops), deadline)


@syscall("semctl")
def sys_semctl(task: Task, semid: Int, semnum: Int, cmd: Command, arg: Hex) -> int:
    """semctl(2): ask about, set or remove semaphores."""
    if semid < 0:
        raise EINVAL
    if cmd in (ipc.IPC_INFO, ipc.SEM_INFO):
        return _info(task, cmd, arg)
    if cmd in (ipc.IPC_STAT, ipc.SEM_STAT, ipc.SEM_STAT_ANY):
        return _stat(task, semid, cmd, arg)
    if cmd in (ipc.GETVAL, ipc.GETPID, ipc.GETNCNT, ipc.GETZCNT):
        return _ask(task, semid, semnum, cmd)
    table = task.kernel.ipc.sem
    if cmd == ipc.GETALL:
        semset = table.find(semid)
        semset.check(task.creds, 0o444)
        task.mm.write(arg, b"".join(value.to_bytes(2, "little") for value in semset.values))
    elif cmd == ipc.SETALL:
        _set_all(task, semid, arg)
    elif cmd == ipc.SETVAL:
        _set_value(task, semid, semnum, arg)
    elif cmd == ipc.IPC_SET:
        raw = task.mm.read(arg, ipc.IPC_PERM.size + task.kernel.abi.semid_ds.size)
        semset = table.find(semid)
        semset.check_owner(task.creds)
        semset.set_perm(raw)
        semset.ctime = now_s(task.kernel)
    elif cmd == ipc.IPC_RMID:
        semset = table.find(semid)
        semset.check_owner(task.creds)
        semset.remove()
    else:
        raise EINVAL("no such command")
    return 0


def _info(task: Task, cmd: int, address: int) -> int:
    """struct seminfo: the limits, or (SEM_INFO) how many there are."""
    space = task.kernel.ipc
    usz, aem = (_SEMUSZ, ipc.SEMAEM) if cmd == ipc.IPC_INFO else (len(space.sem), space.semaphores)
    fields = (
        space.semmns, space.sem.limit, space.semmns, space.semmns, space.semmsl, space.semopm, space.semopm, usz,
        ipc.SEMVMX, aem,
    )  # fmt: skip
    task.mm.write(address, ipc.SEMINFO.pack(*fields))
    return space.sem.highest


def _stat(task: Task, semid: int, cmd: int, address: int) -> int:
    table = task.kernel.ipc.sem
    semset = table.find(semid) if cmd == ipc.IPC_STAT else table.at(semid)
    if cmd != ipc.SEM_STAT_ANY:
        semset.check(task.creds, 0o444)
    task.mm.write(address, semset.pack())
    return 0 if cmd == ipc.IPC_STAT else semset.id


def _ask(task: Task, semid: int, semnum: int, cmd: int) -> int:
    semset = task.kernel.ipc.sem.find(semid)
    semset.check(task.creds, 0o444)
    if not 0 <= semnum < len(semset.values):
        raise EINVAL("semnum")
    if cmd == ipc.GETVAL:
        return semset.values[semnum]
    if cmd == ipc.GETPID:
        return semset.pids[semnum]
    return semset.count_waiting(semnum, cmd == ipc.GETZCNT)


def _set_all(task: Task, semid: int, address: int) -> None:
    semset = task.kernel.ipc.sem.find(semid)
    semset.check(task.creds, 0o222)
    raw = memoryview(task.mm.read(address, 2 * len(semset.values))).cast("H")
    semset.set_values(dict(enumerate(raw)), task.group.pid)


def _set_value(task: Task, semid: int, semnum: int, arg: int) -> None:
    value = (arg & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    if not 0 <= value <= ipc.SEMVMX:
        raise ERANGE
    semset = task.kernel.ipc.sem.find(semid)
    if not 0 <= semnum < len(semset.values):
        raise EINVAL("semnum")
    semset.check(task.creds, 0o222)
    semset.set_values({semnum: value}, task.group.pid)
