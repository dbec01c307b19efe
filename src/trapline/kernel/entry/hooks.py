"""What the trap loop calls outside its hot path: faults that cannot be repaired, exceptions, exits, out of memory.

Signals are imported with the first of them.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.kernel.entry.loop import Hooks
from trapline.kernel.task import exit as exits
from trapline.kernel.task.task import WORK_EXIT

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task
    from trapline.machine.contract import Space

SIGKILL = 9


class KernelHooks(Hooks):
    """The hooks of a real kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lost: list[tuple[Space, str]] = []  #: address spaces that the machine lost, and why

    def deliver(self, task: Task) -> None:
        from trapline.kernel.task.signals.deliver import deliver

        deliver(task)

    def exit(self, task: Task) -> None:
        """The task's group is exiting: the task ends here."""
        exits.exit_task(task, task.group.exit_status if task.group.exiting else task.exit_status)

    def gather(self, task: Task) -> bool:
        """The task's process dumps core: True while the task has to wait for others before it ends."""
        from trapline.kernel.task.coredump.dump import gather

        return gather(task)

    def bury(self, task: Task) -> None:
        """A dead task left its CPU: nothing refers to its context any more."""
        task.ctx.close()
        self.changed = True

    def fault(self, task: Task, bad: tuple[int, int, int] | None) -> None:
        if bad is not None:
            from trapline.kernel.task.signals.fault import from_fault

            from_fault(task, bad)
        if self.on_fault is not None:
            self.on_fault(task, bad)

    def exception(self, task: Task) -> None:
        from trapline.kernel.task.signals.fault import from_trap

        from_trap(task)

    def machine_died(self, task: Task) -> None:
        """The machine lost this task's address space: its process cannot go on."""
        if not task.group.exiting:
            self.kernel.log(f"{task.comm.decode(errors='replace')}[{task.tid}]: killed: {task.ctx.reason}")
        exits.exit_group(task, SIGKILL)
        task.work |= WORK_EXIT

    def space_lost(self, space: Space, reason: str) -> None:
        """The machine lost an address space, perhaps while none of its tasks was in user mode."""
        self.lost.append((space, reason))
        self.host_event = True

    def end_lost(self) -> None:
        """End the processes whose address space the machine has lost since the last call."""
        lost, self.lost = self.lost, []
        for space, reason in lost:
            for task in tuple(self.kernel.tasks.values()):
                if task.mm is not None and task.mm.space is space and not task.group.exiting:
                    self.kernel.log(f"{task.comm.decode(errors='replace')}[{task.tid}]: killed: {reason}")
                    exits.exit_group(task, SIGKILL)

    def out_of_memory(self, task: Task) -> None:
        from trapline.kernel.task.oom import out_of_memory

        out_of_memory(self.kernel, task)
        task.work |= WORK_EXIT if task.group.exiting else 0
