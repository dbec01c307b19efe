"""System V IPC, message queues and seccomp(2) as strace(1) prints them: keys, flags with permissions, messages, operations."""

from __future__ import annotations

from trapline.abi import ipc, seccomp
from trapline.scope.strace import arguments as a
from trapline.scope.strace import names
from trapline.scope.strace.arguments import Piece, Render
from trapline.scope.strace.constants import constant
from trapline.scope.strace.memory import MAX_STRINGS, Decoder
from trapline.scope.strace.text import pointer

LATE = True
O_CREAT = 0o100


def _key(d: Decoder, value: int) -> str:
    return f"{value & 0xFFFF_FFFF:#x}" if value else constant("0", lambda: "IPC_PRIVATE")


def _creation(table: str) -> Render:
    """Flags in the upper bits, permissions in the lower nine."""

    def render(d: Decoder, value: int) -> str:
        permissions = a.mode(d, value & 0o777)
        return f"{names.flags(table, value & ~0o777)}|{permissions}" if value & ~0o777 else permissions

    return render


def _operations(d: Decoder, value: int) -> str:
    count = d.args[2]
    data = d.read(value, ipc.SEMBUF.size * min(count, MAX_STRINGS)) if count > 0 else None
    if data is None:
        return pointer(value)
    shown = [
        f"{{sem_num={num}, sem_op={op}, sem_flg={names.flags('semop', flags & 0xFFFF)}}}"
        for num, op, flags in ipc.SEMBUF.iter_unpack(data)
    ]
    return "[" + ", ".join(shown + (["..."] if count > MAX_STRINGS else [])) + "]"


def _message_at(d: Decoder, value: int, length: int) -> str:
    head = d.read(value, 8)
    text = d.read_some(value + 8, min(length, d.style.limit + 1)) if length > 0 else b""
    if head is None or text is None:
        return pointer(value)
    return f"{{{int.from_bytes(head, 'little', signed=True)}, {d.quote(text, more=length > d.style.limit)}}}"


def _message_in(d: Decoder, value: int) -> str:
    return _message_at(d, value, d.args[2])


def _message_out(d: Decoder, value: int) -> str:
    return pointer(value) if d.failed or d.result is None else _message_at(d, value, d.result)


def _if_created(render: Render) -> Render:
    """What mq_open(2) looks at only when it makes a queue."""
    return lambda d, value: render(d, value) if d.args[1] & O_CREAT else None


def _attributes(d: Decoder, value: int) -> str:
    data = d.read(value, ipc.MQ_ATTR.size) if value and not d.failed else None
    if data is None:
        return pointer(value)
    flags, maxmsg, msgsize, curmsgs = ipc.MQ_ATTR.unpack(data)
    shown = "O_NONBLOCK" if flags == 0o4000 else f"{flags:#x}" if flags else "0"
    return f"{{mq_flags={shown}, mq_maxmsg={maxmsg}, mq_msgsize={msgsize}, mq_curmsgs={curmsgs}}}"


def _program(d: Decoder, value: int) -> str:
    data = d.read(value, seccomp.SOCK_FPROG.size) if value and d.args[0] == seccomp.SECCOMP_SET_MODE_FILTER else None
    if data is None:
        return pointer(value)
    length, address = seccomp.SOCK_FPROG.unpack(data)
    return f"{{len={length}, filter={pointer(address)}}}"


OVERRIDES: dict[str, dict[int, Piece]] = {
    "shmget": {0: Piece(_key), 2: Piece(_creation("shmget"))},
    "semget": {0: Piece(_key), 2: Piece(_creation("ipcget"))},
    "semop": {1: Piece(_operations)},
    "semtimedop": {1: Piece(_operations)},
    "msgget": {0: Piece(_key), 1: Piece(_creation("ipcget"))},
    "msgsnd": {1: Piece(_message_in)},
    "msgrcv": {1: Piece(_message_out, LATE)},
    "mq_open": {2: Piece(_if_created(a.mode)), 3: Piece(_if_created(_attributes))},
    "mq_getsetattr": {1: Piece(_attributes), 2: Piece(_attributes, LATE)},
    "mq_timedreceive": {3: Piece(a.structure("int"), LATE)},
    "seccomp": {2: Piece(_program)},
}
