"""I/O priorities of tasks: kept in a context that CLONE_IO shares and any other clone copies; ioprio_set(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi import ioprio as i
from trapline.abi.sched import SCHED_FIFO, SCHED_IDLE, SCHED_RR

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


class IoContext:
    """Made when a priority is first set."""

    __slots__ = ("ioprio",)

    def __init__(self, ioprio: int) -> None:
        self.ioprio = ioprio


def set_priority(task: Task, value: int) -> None:
    if task.io_context is None:
        task.io_context = IoContext(value)
    else:
        task.io_context.ioprio = value


def inherit(task: Task, child: Task, shared: bool) -> None:
    """`child` is being cloned from `task`."""
    context = task.io_context
    if context is not None:
        child.io_context = context if shared else IoContext(context.ioprio)


def own_priority(task: Task) -> int:
    """What was set for one thread."""
    value: int = i.IOPRIO_DEFAULT if task.io_context is None else task.io_context.ioprio
    return value


def priority(task: Task) -> int:
    """What counts for one thread: where a class was never chosen, the one that its CPU scheduling suggests."""
    value = own_priority(task)
    if task.io_context is None or i.split(value)[0] != i.IOPRIO_CLASS_NONE:
        return value
    entity = task.entity
    kind = {SCHED_FIFO: i.IOPRIO_CLASS_RT, SCHED_RR: i.IOPRIO_CLASS_RT, SCHED_IDLE: i.IOPRIO_CLASS_IDLE}
    return i.join(kind.get(entity.policy, i.IOPRIO_CLASS_BE), (entity.nice + 20) // 5)
