"""System V IPC and message queues: what hostile programs can make the kernel hold is bounded, and comes back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trapline.abi import ipc
from trapline.abi.errno import EINVAL, ENOMEM, ENOSPC
from trapline.kernel.ipc.sysv import msg, sem, undo
from trapline.kernel.ipc.sysv.namespace import HELD_MAX, MESSAGE_COST, UNDO_MAX, IpcNamespace
from trapline.kernel.task.creds import Credentials


class Clock:
    def realtime_ns(self) -> int:
        return 5_000_000_000


def world() -> tuple[IpcNamespace, Any]:
    kernel: Any = SimpleNamespace(clock=Clock())
    kernel.ipc = IpcNamespace(kernel)
    task = SimpleNamespace(kernel=kernel, creds=Credentials.of_user(0, 0), group=SimpleNamespace(pid=7), sem_undo=None)
    return kernel.ipc, task


def test_messages_of_all_queues_are_bounded_together() -> None:
    space, task = world()
    space.msgmnb = HELD_MAX * 2
    queues = [msg.get(space, task, ipc.IPC_PRIVATE, ipc.IPC_CREAT | 0o600) for _ in range(2)]
    large = msg.Message(1, bytes(HELD_MAX // 2 - MESSAGE_COST))
    for queue in queues:
        assert msg.send(space, task, queue, large, 0) == 0
    with pytest.raises(ENOMEM):
        msg.send(space, task, queues[0], msg.Message(1, b""), 0)
    space.msg.find(queues[1]).remove()
    assert msg.send(space, task, queues[0], large, 0) == 0
    for _ in range(2):
        msg.receive(space, task, queues[0], msg.Wish(HELD_MAX, 0, ipc.IPC_NOWAIT))
    assert space._held == 0


def test_adjustments_of_all_processes_are_bounded_together() -> None:
    space, task = world()
    ident = sem.get(space, task, ipc.IPC_PRIVATE, 2, 0o600)
    space._undo = UNDO_MAX - 1
    assert sem.operate(space, task, ident, [sem.Operation(0, 1, ipc.SEM_UNDO)], None) == 0
    with pytest.raises(ENOMEM):
        sem.operate(space, task, ident, [sem.Operation(1, 1, ipc.SEM_UNDO)], None)
    assert list(space.sem.find(ident).values) == [1, 0]
    undo.leave(task)
    assert list(space.sem.find(ident).values) == [0, 0]
    assert space._undo == UNDO_MAX - 1


def test_an_identifier_does_not_come_to_mean_something_else() -> None:
    space, task = world()
    first = sem.get(space, task, ipc.IPC_PRIVATE, 1, 0o600)
    space.sem.find(first).remove()
    seen = set()
    for _ in range(200):
        ident = sem.get(space, task, ipc.IPC_PRIVATE, 1, 0o600)
        seen.add(ident)
        space.sem.find(ident).remove()
    assert first not in seen and len(seen) == 200
    with pytest.raises(EINVAL):
        space.sem.find(first)


def test_the_number_of_sets_and_of_semaphores_is_bounded() -> None:
    space, task = world()
    space.semmni = 1
    sem.get(space, task, ipc.IPC_PRIVATE, 1, 0o600)
    with pytest.raises(ENOSPC):
        sem.get(space, task, ipc.IPC_PRIVATE, 1, 0o600)
    space.semmni, space.semmns = 2, 2
    with pytest.raises(ENOSPC):
        sem.get(space, task, ipc.IPC_PRIVATE, 2, 0o600)
