"""GDB's remote protocol for processes of the kernel's on the RISC-V machine: threads are tasks, memory is their own.

The first program is debugged, from its first instruction to its end, through execve(2), and with a GDB that follows forks, what
it forks (family.py). Everything of the kernel's stands still while they are halted. Signals that their own instructions raise
(faults, illegal instructions, breakpoints of their own) halt before they are delivered; `continue` without a signal executes
the instruction again. What GDB lets go on is what it names: others of its threads and processes execute nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any

from trapline.kernel.task.signals.send import SigInfo, send_to_group
from trapline.machine.contract import EXCEPTION
from trapline.machine.riscv.arch import A0, A7
from trapline.machine.riscv.observed import Observed, Spots
from trapline.machine.riscv.trap import BREAKPOINT, ILLEGAL
from trapline.scope.gdb import registers
from trapline.scope.gdb.family import EXEC, FORK, THREADS, VFORK, Family, News
from trapline.scope.gdb.packets import MOST
from trapline.scope.gdb.target import BAD, OK, WATCH_NAMES
from trapline.scope.gdb.threads import Action, Threads

if TYPE_CHECKING:
    from trapline.kernel.boot import System
    from trapline.kernel.task.task import Task, ThreadGroup
    from trapline.machine.riscv.machine import RiscvMachine
    from trapline.machine.riscv.space import RiscvContext

_SIGNALS = {BREAKPOINT: 5, ILLEGAL: 4}
_SIGBUS, _SIGTRAP, _SIGINT, _SIGKILL = 7, 5, 2, 9
_SIGUSR1, _SIGUSR2 = 10, 12
#: The signals whose numbers GDB has otherwise (include/gdb/signals.def): Linux's -> GDB's.
_TO_GDB = {_SIGBUS: 10, _SIGUSR1: 30, _SIGUSR2: 31}
_EXIT = 93  #: exit(2), of one thread
_FEATURES = (
    b"PacketSize=%x;qXfer:features:read+;qXfer:exec-file:read+;swbreak+;hwbreak+;vContSupported+;QStartNoAckMode+;multiprocess+;"
    b"fork-events+;vfork-events+;exec-events+;QThreadEvents+;QCatchSyscalls+;no-resumed+" % MOST
)


class ProcessServer(Threads):
    """Of `system`'s first program, and its children. `serve()` talks to GDB until something is to go on, `look()` sees whether
    GDB wants it to halt."""

    def __init__(self, system: System, serve: Callable[[], object], look: Callable[[], object]) -> None:
        super().__init__(Family(system))
        self._system = system
        self._serve = serve
        machine: RiscvMachine = system.machine  # type: ignore[assignment]  # the caller has seen to it
        self.observed = Observed(machine, self._halts, look)
        self._signal = 0  # that has halted it, and is to be delivered: Linux's number
        self._delivers = False
        self._event = b""  #: of the family's, that has halted it
        self._ended = b""  #: the reply for a process or thread that is no more
        self._caught: frozenset[int] | None = None  #: calls to halt at (empty: all)
        self._table |= {
            b"?": lambda _: self.halted(),
            b"c": lambda _: self._go([Action(b"c", 0, 0, 0)]), b"s": lambda _: self._go_one(b"s", 0),
            b"C": lambda rest: self._go([Action(b"C", int(rest[:2], 16), 0, 0)]),
            b"S": lambda rest: self._go_one(b"S", int(rest[:2], 16)),
        }  # fmt: skip
        hooks = system.hooks
        self._exception, self._fault = hooks.exception, hooks.fault
        hooks.exception = self._on_exception  # type: ignore[method-assign]
        hooks.fault = self._on_fault  # type: ignore[method-assign]

    def attach(self) -> None:
        """Somebody begins to debug."""
        self.family.clear()
        self._many, self._event, self._ended = False, b"", b""
        if self._system.first is not None and not self._system.first.zombie:
            self.family.add(self._system.first)

    # ---- halting

    def _halts(self, context: RiscvContext) -> None:
        """A breakpoint, a watchpoint, a system call, or the end of a step."""
        if context.owner.group in self.family.each:
            self._task, self._signal = context.owner, 0
            self._serve()

    def stop(self, talk: Callable[[], object]) -> None:
        """Because GDB has come, or wants it."""
        if self.family.tasks():
            self.observed.halt(talk)

    def news(self) -> bool:
        """Before code runs again: halt if something has happened that GDB wants to hear of; whether it has."""
        found = self.family.news() if self.family.each else None
        if found is None:
            return self._all_held()
        if found.task is not None:
            self._task = found.task
        self._signal, self._event = 0, self._said(found)
        self._ended = self.farewell(found.group) if found.what == "exited" else b""
        self.observed.halt(self._serve)
        return True

    def _all_held(self) -> bool:
        """Halt if those that GDB has let go on are no more, and only others are left."""
        held = self.observed.held
        if not held or not (tasks := self.family.tasks()) or not all(task.ctx in held for task in tasks):
            return False
        self._ended = b"N"
        self.observed.halt(self._serve)
        return True

    def _said(self, found: News) -> bytes:
        if found.what == EXEC:
            return b"exec:%b;" % self._program(found.group).hex().encode()
        other = b"p%x.%x" % (found.other.group.pid, found.other.tid) if found.other is not None else b""
        return b"%b:%b;" % (found.what.encode(), other)

    def _program(self, group: ThreadGroup) -> bytes:
        file: Any = group.exe
        fs = group.leader.fs
        path: bytes = file.path.display(fs.root if fs is not None else None) if file.path is not None else file.display_path()
        return path

    def farewell(self, group: ThreadGroup) -> bytes:
        """The reply for a process that has ended, or ends with the kernel."""
        status = group.exit_status if group.zombie else _SIGKILL
        text = b"X%02x" % (status & 0x7F) if status & 0x7F else b"W%02x" % (status >> 8 & 0xFF)
        return text + (b";process:%x" % group.pid if self._many else b"")

    def last_words(self) -> list[bytes]:
        """The replies for all that are still debugged when the kernel ends; GDB goes on after each."""
        first = self._system.first
        groups = sorted(self.family.each, key=lambda group: (group is not first, group.pid))
        self.family.clear()
        return [self.farewell(group) for group in groups]

    def ended(self, reply: bytes) -> None:
        """What `halted` says from now on, until something goes on."""
        self._ended = reply

    def _on_exception(self, task: Task) -> None:
        signo = _SIGNALS.get(task.ctx.vector, _SIGBUS) if task.ctx.kind == EXCEPTION else _SIGTRAP
        if self._delivered(task, signo):
            self._exception(task)

    def _on_fault(self, task: Task, bad: tuple[int, int, int] | None) -> None:
        if bad is None or self._delivered(task, bad[0]):
            self._fault(task, bad)

    def _delivered(self, task: Task, signo: int) -> bool:
        """Halt for a signal; whether the process is to get it."""
        if task.group not in self.family.each or self.detached:
            return True
        self._task, self._signal, self._delivers = task, signo, True
        self.observed.halt(self._serve)
        self._signal = 0
        return self._delivers

    def _on_call(self, context: RiscvContext, begins: bool) -> bool:
        """A system call begins or ends; whether to halt there."""
        task, number = context.owner, int(context.regs[A7])
        if task.group not in self.family.each:
            return False
        if self._caught is not None and (not self._caught or not begins or number in self._caught):
            number = number if begins else task.syscall_nr
            self._event = b"syscall_%b:%x;" % (b"entry" if begins else b"return", number)
            return True
        if begins and number == _EXIT and THREADS in self.family.wanted and len(task.group.tasks) > 1:
            self._ended = b"w%02x;%b" % (context.regs[A0] & 0xFF, self._name(task))
            return True
        return False

    def halted(self, *, interrupted: bool = False) -> bytes:
        if self._ended:
            return self._ended
        signo = _SIGINT if interrupted else self._signal or _SIGTRAP
        self._last = b"T%02xthread:%b;%b" % (_TO_GDB.get(signo, signo), self._name(self.task()), self._event or self._why())
        return self._last

    def _why(self) -> bytes:
        debug = self.observed.debug
        if debug is None or self._signal:
            return b""
        if debug.hit is not None:
            return b"%b:%x;" % (WATCH_NAMES[debug.hit.watch.access].encode(), debug.hit.address)
        return b"hwbreak:;" if self._context().regs[registers.PC] in self.places()[0] else b""

    # ---- going on

    def _go_one(self, kind: bytes, signal: int) -> bytes | None:
        task = self.task()
        return self._go([Action(kind, signal, task.group.pid, task.tid), Action(b"c", 0, 0, 0)])

    def _go(self, actions: list[Action]) -> bytes | None:
        """Let go on what the first action that means it wants to; None, or an error if that is nobody."""
        held, steps = set(), None
        tasks: list[Any] = self.family.tasks()
        for task in tasks:
            action = next((each for each in actions if each.means(task)), None)
            if action is None:
                held.add(task.ctx)
            elif action.kind in (b"s", b"S") and steps is None:
                steps = task
        if tasks and len(held) == len(tasks):
            return BAD
        if steps is not None:
            self._task = steps
        self._delivers = any(each.signal for each in actions)
        self._event = self._ended = b""
        self.observed.held = held
        self._arm()
        self.observed.go_on(self._context() if tasks else None, step=steps is not None)
        return None

    def _arm(self) -> None:
        spots = {group: Spots(frozenset(one.breaks), tuple(sorted(one.watches))) for group, one in self.family.each.items()}
        self.observed.arm(spots)
        wanted = self._caught is not None or THREADS in self.family.wanted
        self.observed.calls = self._on_call if wanted and spots else None

    def release(self) -> None:
        self._go([Action(b"C", self._signal, 0, 0)])
        self.family.clear()
        self._caught = None
        self._arm()

    def _detach(self, rest: bytes) -> bytes:
        """All, or (;PID) one of them: it goes on with the others, and nobody looks at it."""
        if not rest:
            return super()._detach(rest)
        self._leave(self._process(rest[1:]))
        return OK

    def _kill(self, rest: bytes) -> bytes:
        """All, or (Kill;PID) one of them. The first one's end is everybody's."""
        group = self._process(rest.partition(b";")[2]) if b";" in rest else self._system.first
        if group is self._system.first or group is None:
            return super()._kill(rest)
        send_to_group(group, SigInfo(_SIGKILL, 0))
        self._leave(group)
        return OK

    def _process(self, text: bytes) -> ThreadGroup:
        """Raises ValueError."""
        number = int(text, 16)
        for group in self.family.each:
            if group.pid == number:
                return group
        raise ValueError("it is not debugged")

    def _leave(self, group: ThreadGroup) -> None:
        del self.family.each[group]
        self.observed.held = {each for each in self.observed.held if each.owner.group is not group}
        if not self.family.each:
            self.release()
            self.detached = True

    # ---- queries

    def _verbose(self, rest: bytes) -> bytes | None:
        if rest == b"Cont?":
            return b"vCont;c;C;s;S"
        if rest.startswith(b"Kill"):
            return self._kill(rest)
        if not rest.startswith(b"Cont;"):
            return b""
        actions = []
        for each in rest[5:].split(b";"):
            what, _, thread = each.partition(b":")
            if what[:1] not in (b"c", b"C", b"s", b"S"):
                return BAD
            signal = int(what[1:3], 16) if what[:1] in (b"C", b"S") else 0
            actions.append(Action(what[:1], signal, *self._which(thread or b"-1")))
        return self._go(actions)

    def _supported(self, theirs: bytes) -> bytes:
        """What GDB can, and what can be had here."""
        features = theirs.split(b";")
        self._many = b"multiprocess+" in features
        if self._many:
            events = {b"fork-events+": FORK, b"vfork-events+": VFORK, b"exec-events+": EXEC}
            self.family.wanted |= {events[each] for each in features if each in events}
        return _FEATURES

    def _query(self, rest: bytes) -> bytes:
        name, _, more = rest.partition(b":")
        if name == b"Supported":
            return self._supported(more)
        if name == b"Xfer":
            return self._transfer(more)
        if name == b"fThreadInfo":
            return b"m" + b",".join(map(self._name, self.family.tasks())) if self.family.tasks() else b"l"
        if name.startswith(b"ThreadExtraInfo,"):
            task = self._find(name[16:])
            return BAD if task is None else task.comm.hex().encode()
        fixed = {b"C": b"QC" + self._name(self.task()), b"sThreadInfo": b"l", b"Attached": b"0", b"Symbol": OK}
        return fixed.get(name, b"")

    def _set(self, rest: bytes) -> bytes:
        name, _, value = rest.partition(b":")
        if name == b"ThreadEvents":
            (self.family.wanted.add if value == b"1" else self.family.wanted.discard)(THREADS)
            return OK
        if name == b"CatchSyscalls":
            on, *numbers = value.split(b";")
            self._caught = frozenset(int(each, 16) for each in numbers) if on == b"1" else None
            return OK
        return super()._set(rest)

    def document(self, kind: bytes, name: bytes) -> bytes | None:
        if (kind, name) == (b"features", b"target.xml"):
            return registers.description(user=True).encode()
        if kind == b"exec-file":
            return self._program(self._process(name) if name else self.task().group)
        return None
