"""System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi import ipc
from trapline.abi.capability import CAP_SYS_RESOURCE
from trapline.abi.errno import EINVAL, EPERM
from trapline.kernel.ipc.sysv import msg
from trapline.kernel.ipc.sysv.ids import now_s
from trapline.kernel.syscalls.declare import Arg, Int, Long, Result, UserPtr, syscall

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from trapline.kernel.task.task import Task

Key = Annotated[int, Arg(-32, "enum:ipc_key")]
GetFlags = Annotated[int, Arg(-32, "flags:ipcget")]
MsgFlags = Annotated[int, Arg(-32, "flags:sysvmsg")]
Command = Annotated[int, Arg(-32, "enum:msgctl")]


@syscall("msgget")
def sys_msgget(task: Task, key: Key, msgflg: GetFlags) -> int:
    """msgget(2): find or make a message queue."""
    return msg.get(task.kernel.ipc, task, key, msgflg)


@syscall("msgsnd")
def sys_msgsnd(task: Task, msqid: Int, msgp: UserPtr, msgsz: Long, msgflg: MsgFlags) -> Result:
    """msgsnd(2): put a message in a queue."""
    kind = task.mm.read_u64(msgp)
    space = task.kernel.ipc
    if not 0 <= msgsz <= space.msgmax or msqid < 0 or kind >> 63 or not kind:
        raise EINVAL
    message = msg.Message(kind, task.mm.read(msgp + 8, msgsz))
    return msg.send(space, task, msqid, message, msgflg)


@syscall("msgrcv")
def sys_msgrcv(task: Task, msqid: Int, msgp: UserPtr, msgsz: Long, msgtyp: Long, msgflg: MsgFlags) -> Result:
    """msgrcv(2): take a message from a queue."""
    if msqid < 0 or msgsz < 0:
        raise EINVAL
    result = msg.receive(task.kernel.ipc, task, msqid, msg.Wish(msgsz, msgtyp, msgflg))
    if isinstance(result, msg.Message):
        return _store(task, msgp, msgsz, result)
    return _store_later(task, msgp, msgsz, result)


def _store(task: Task, address: int, size: int, message: msg.Message) -> int:
    data = message.data[:size]
    task.mm.write_u64(address, message.kind)
    task.mm.write(address + 8, data)
    return len(data)


async def _store_later(task: Task, address: int, size: int, coming: Coroutine[Any, Any, msg.Message]) -> int:
    return _store(task, address, size, await coming)


@syscall("msgctl")
def sys_msgctl(task: Task, msqid: Int, cmd: Command, buf: UserPtr) -> int:
    """msgctl(2): ask about, change or remove a message queue."""
    if msqid < 0 or cmd < 0:
        raise EINVAL
    table, mm = task.kernel.ipc.msg, task.mm
    if cmd in (ipc.IPC_INFO, ipc.MSG_INFO):
        mm.write(buf, _info(task.kernel.ipc, cmd))
        return table.highest
    if cmd in (ipc.MSG_STAT, ipc.MSG_STAT_ANY, ipc.IPC_STAT):
        queue = table.find(msqid) if cmd == ipc.IPC_STAT else table.at(msqid)
        if cmd != ipc.MSG_STAT_ANY:
            queue.check(task.creds, 0o444)
        mm.write(buf, queue.pack())
        return 0 if cmd == ipc.IPC_STAT else queue.id
    if cmd == ipc.IPC_SET:
        _set(task, msqid, mm.read(buf, ipc.IPC_PERM.size + ipc.MSQID_DS.size))
    elif cmd == ipc.IPC_RMID:
        queue = table.find(msqid)
        queue.check_owner(task.creds)
        queue.remove()
    else:
        raise EINVAL("no such command")
    return 0


def _info(space: Any, cmd: int) -> bytes:
    """struct msginfo: the limits, or (MSG_INFO) what there is."""
    queues = space.msg.all()
    if cmd == ipc.IPC_INFO:
        pool, map_, tql = ipc.MSGPOOL, space.msgmnb, space.msgmnb
    else:
        pool, map_ = len(queues), sum(len(each.messages) for each in queues)
        tql = sum(each.cbytes for each in queues)
    return ipc.MSGINFO.pack(pool, map_, space.msgmax, space.msgmnb, space.msg.limit, ipc.MSGSSZ, tql, ipc.MSGSEG)


def _set(task: Task, msqid: int, raw: bytes) -> None:
    """Beyond msgmnb, the size of a queue is CAP_SYS_RESOURCE's to set."""
    limit = ipc.MSQID_DS.unpack(raw[ipc.IPC_PERM.size :])[5]
    queue = task.kernel.ipc.msg.find(msqid)
    queue.check_owner(task.creds)
    if limit > task.kernel.ipc.msgmnb and not task.creds.has_cap(CAP_SYS_RESOURCE):
        raise EPERM
    queue.set_perm(raw)
    queue.max_bytes = limit
    queue.ctime = now_s(task.kernel)
    queue.wake_all()
