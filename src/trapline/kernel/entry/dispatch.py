"""From a system-call trap to its result: look up, call, and, if it must wait, drive its coroutine.

Measured budget: 1 µs of the trap loop's Python for a call that does not wait.

A handler's result is an int (written to the return register), an errno exception (written negated), `Interrupted` (what
becomes of the call is decided by signal delivery), or a coroutine that ends in one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EINTR, ENOMEM, Errno
from trapline.kernel.entry.table import Table, i386_table, native_table
from trapline.kernel.mm.errors import OutOfFrames
from trapline.kernel.sync import park
from trapline.kernel.sync.park import Interrupted
from trapline.kernel.task.task import DEAD, RUNNABLE, SLEEPING
from trapline.machine.contract import ENTRY_INT80

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task

MASK64 = (1 << 64) - 1
_EINTR = -EINTR.number
_ENOMEM = -ENOMEM.number


class Dispatcher:
    """The tables, and what runs a call on them. `call` is swapped when somebody observes the crossings."""

    def __init__(self, kernel: Kernel) -> None:
        arch = kernel.machine.arch
        self.kernel = kernel
        self.table = native_table(kernel, arch)
        self.compat = i386_table(kernel, arch)
        self.ret = arch.ret
        self.nr = arch.nr
        self.int_numbers = arch.name == "x86_64"  #: of a call's number, only the low half counts
        self.on_done: Callable[[Task, int], None] | None = None  #: told of every result while observed

    def tables(self) -> tuple[Table, ...]:
        return (self.table, self.compat)

    def call(self, task: Task) -> bool:
        """Serve the system call in the task's registers; True when it has its result, False when it waits."""
        ctx = task.ctx
        regs = ctx.regs
        number = regs[self.nr]
        task.syscall_nr = number
        table = self.table
        if ctx.entry == ENTRY_INT80:
            table = self.compat
            number &= 0xFFFFFFFF
        try:
            result: Any = table.thunks[number](task, regs)
        except Errno as error:
            result = -error.number
        except OutOfFrames:
            result = _ENOMEM
        except Interrupted as stop:
            result = self._interrupted(task, stop)
        except IndexError:
            if number < len(table.thunks):
                raise
            if self.int_numbers and number >> 32 and number & 0xFFFFFFFF < len(table.thunks):
                regs[self.nr] = number & 0xFFFFFFFF
                return Dispatcher.call(self, task)
            result = table.beyond(task, regs, number)
        if result.__class__ is not int:
            task.coro = result
            return self.step(task)
        if task.state != DEAD:
            task.ctx.regs[self.ret] = result & MASK64
        if self.on_done is not None:
            self.on_done(task, result)
        return True

    def step(self, task: Task) -> bool:
        """Continue the task's kernel coroutine; True when the call has its result, False when it waits again."""
        coro = task.coro
        assert coro is not None
        park.set_current(task)
        task.state = RUNNABLE
        try:
            coro.send(None)
        except StopIteration as stop:
            result = stop.value
        except Errno as error:
            result = -error.number
        except OutOfFrames:
            result = _ENOMEM
        except Interrupted as stop:
            result = self._interrupted(task, stop)
        else:
            task.state = SLEEPING
            task.nvcsw += 1
            return False
        finally:
            park.set_current(None)
        task.coro = None
        if task.state != DEAD:
            task.ctx.regs[self.ret] = result & MASK64
        if self.on_done is not None:
            self.on_done(task, result)
        return True

    def _interrupted(self, task: Task, stop: Interrupted) -> int:
        task.restart = stop.restart
        task.again = stop.again
        task.before_result = task.ctx.regs[self.ret]
        return _EINTR
