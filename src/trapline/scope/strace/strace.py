"""Strace: a listener that writes what it hears in strace(1)'s own format, from the declared signatures.

Invariants:
- what a call reads is shown as it was when the call came in; what it writes, as it is when the call returns;
- a signal that is ignored is shown when the call is over in which it found its task, as strace does; but it ends no wait, as
  it would under ptrace(2);
- with `statuses`, a call is written when it has returned, with the time at which it came in;
- a line that another task interrupts ends in "<unfinished ...>", and is continued by "<... NAME resumed>".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.abi.signal import SIGRTMIN
from trapline.kernel.syscalls.declare import SystemCall
from trapline.scope.listener import NEVER_RETURN, Args, Listener
from trapline.scope.strace import names
from trapline.scope.strace.choice import status_of
from trapline.scope.strace.constants import printed
from trapline.scope.strace.dumps import dump
from trapline.scope.strace.memory import MAX_STRINGS, PATH_LIMIT, Decoder
from trapline.scope.strace.plan import Plan, Plans
from trapline.scope.strace.siginfo import render as siginfo
from trapline.scope.strace.special import AFTER, EXTRA, HEX_RESULTS, RESULTS
from trapline.scope.strace.stamps import Stamps
from trapline.scope.strace.style import PLAIN, Style
from trapline.scope.strace.text import angled, permissions

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task
    from trapline.scope.unwind.stack import Stacks

DUPLICATES = (0, 1030)  #: F_DUPFD, F_DUPFD_CLOEXEC
MOST_IGNORED = 1024  #: signals that are kept until a call is over; real-time ones queue, and nothing limits who sends them


def _nothing(fd: int) -> bool:
    return False


def _unmarked(task: Any, result: int | None) -> str:
    return ""


class _Open:
    """A call that has not returned."""

    __slots__ = ("call", "column", "decoder", "pieces", "shown", "since_ns", "text")

    def __init__(self, call: SystemCall, decoder: Decoder, pieces: Plan) -> None:
        self.call = call
        self.decoder = decoder
        self.pieces = pieces
        self.shown = 0  #: how many pieces were written
        self.column = 0
        self.since_ns = 0
        self.text = ""  #: what is held back until it has returned


class Strace(Listener):
    """`write` takes text. `always_pid`: every line starts with the thread's number, as in strace's output files.

    `announce`: tell of new threads. `statuses`: write only calls that end so, `choice.STATUSES`; None: all, as they come.
    `mark` gives what is said of an interference with a call that ended.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        always_pid: bool = False,
        announce: bool = False,
        style: Style = PLAIN,
        statuses: frozenset[str] | None = None,
        mark: Callable[[Task, int | None], str] | None = None,
    ) -> None:
        self._write = write
        self._always_pid = always_pid
        self._announce = announce
        self._style = style
        self._stamps = Stamps(style)
        self._statuses = statuses
        self._mark = mark or _unmarked
        self._open: dict[Any, _Open] = {}
        self._last: Any = None  #: the task whose line is not finished
        self._plans = Plans(style)
        self._stacks: Stacks | None = None
        if style.stacks:
            from trapline.scope.unwind.stack import Stacks

            self._stacks = Stacks()
        self._ends: dict[Any, str] = {}  #: the stacks of tasks that are about to end
        self._tasks: set[Any] = set()
        self._ignored: dict[Any, list[Any]] = {}  #: signals that were dropped while their task was in a call

    # ---- what we hear

    def started(self, task: Task) -> None:
        if self._announce and self._tasks and task not in self._tasks:
            self._write(f"strace: Process {task.tid} attached\n")
        self._tasks.add(task)

    def spawned(self, task: Task) -> None:
        """The line that execve(2) would have had."""
        self._tasks.add(task)
        if self._statuses is not None and "successful" not in self._statuses:
            return
        mm = task.mm
        argv = mm.read(mm.arg_start, mm.arg_end - mm.arg_start).split(b"\0")[:-1]
        count = mm.read(mm.env_start, mm.env_end - mm.env_start).count(b"\0")
        path = mm.read_partial(mm.env_end, PATH_LIMIT).split(b"\0")[0]  # AT_EXECFN: as it was found, links not followed
        style = self._plans.style_of("execve")
        show = Decoder(task, {}, style).quote
        words = ", ".join(show(each) for each in argv[:MAX_STRINGS]) + (", ..." if len(argv) > MAX_STRINGS else "")
        environment = f"{mm.env_start:#x} /* {count} var{'s' * (count != 1)} */"
        if style.whole:
            variables = mm.read(mm.env_start, mm.env_end - mm.env_start).split(b"\0")[:-1]
            environment = "[" + ", ".join(map(show, variables)) + "]"
        words = f"[{words}]"
        if style.pointers:
            words, environment = f"{mm.arg_start:#x}", f"{mm.env_start:#x}"
        text = f"{self._begin(task)}execve({show(path, PATH_LIMIT)}, {words}, {environment}"
        if style.raw("execve"):
            text = f"{self._begin(task)}execve({mm.env_end:#x}, {mm.arg_start:#x}, {mm.env_start:#x}"
        end = "0x0" if style.raw("execve") else "0"
        self._write(f"{self._closed(text, ')')}= {end}{self._stamps.duration(0)}\n{self._stack(task)}")

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        self._tasks.add(task)
        decoder = self._plans.decoder(task, call, args)
        state = _Open(call, decoder, self._plans.of(call))
        held = self._statuses is not None
        begin = self._stamps.stamp(task) if held else self._begin(task)
        text = f"{begin}{call.name}({self._pieces(state, late=False)}"
        if call.name in EXTRA:
            text += self._styled(EXTRA[call.name])(decoder)
        state.since_ns = task.kernel.clock.monotonic_ns() if self._stamps.timed else 0
        if call.name in NEVER_RETURN:
            if not held or self._matches(None):
                text = self._who(task) + text if held else text
                self._write(f"{self._closed(text, ')')}= ?\n")
            self._last = None
            if self._stacks is not None:
                self._ends[task] = self._stacks.text(task, nameless="+0x0")
            return
        self._open[task] = state
        state.column = len(text)
        if held:
            state.text = text
            return
        self._write(text)
        self._last = task

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        state = self._open.pop(task, None)
        if state is None:  # subscribed in the middle of a call
            return
        taken_ns = task.kernel.clock.monotonic_ns() - state.since_ns if self._stamps.timed else 0
        text, column = self._again(task, state)
        if task.group.exiting:  # killed in it: nobody will see a result
            self._abandoned(task, state, text, column)
            return
        state.decoder.result = result
        text += self._pieces(state, late=True)
        if self._matches(result):
            tail = self._result(state, task, result) + self._mark(task, result) + self._stamps.duration(taken_ns)
            self._write(f"{self._closed(text, ')', column)}{tail}\n{self._dump(state)}{self._stack(task)}")
        self._last = None
        for each in self._ignored.pop(task, ()):
            self.signal(task, each)

    def signal(self, task: Task, info: Any) -> None:
        shown = self._styled(siginfo)(info)
        self._line(task, f"--- {names.signal_name(info.signo)} {shown} ---")
        self._write(self._stack(task))

    def ignored(self, task: Task, info: Any) -> None:
        if task not in self._open:
            self.signal(task, info)
            return
        waiting = self._ignored.setdefault(task, [])
        if len(waiting) < MOST_IGNORED and (info.signo >= SIGRTMIN or all(each.signo != info.signo for each in waiting)):
            waiting.append(info)

    def stopped(self, task: Task, signo: int) -> None:
        self._line(task, f"--- stopped by {names.signal_name(signo)} ---")

    def exited(self, task: Task, status: int) -> None:
        self._ignored.pop(task, None)
        state = self._open.pop(task, None)
        if state is not None:  # it died in the middle of a call
            self._abandoned(task, state, *self._again(task, state))
        if "exit" in self._style.quiet:
            self._tasks.discard(task)
            return
        if status & 0x7F:
            core = " (core dumped)" if status & 0x80 else ""
            self._line(task, f"+++ killed by {names.signal_name(status & 0x7F)}{core} +++")
        else:
            self._line(task, f"+++ exited with {status >> 8 & 0xFF} +++")
            self._write(self._ends.pop(task, ""))
        self._ends.pop(task, None)
        self._tasks.discard(task)

    # ---- how it is written

    def _begin(self, task: Task) -> str:
        """The start of a new line; a line in progress is left unfinished."""
        if self._last is not None:
            self._write(" <unfinished ...>\n")
            self._last = None
        return self._who(task) + self._stamps.stamp(task)

    def _who(self, task: Task) -> str:
        name = f"<{angled(task.comm, self._style.escape)}>" if self._style.commands else ""
        if self._always_pid:
            return f"{task.tid:<5}{name} "
        return f"[pid {task.tid:>5}{name}] " if len(self._tasks) > 1 else ""

    def _line(self, task: Task, text: str) -> None:
        self._write(f"{self._begin(task)}{text}\n")

    def _matches(self, result: int | None) -> bool:
        return self._statuses is None or status_of(result) in self._statuses

    def _again(self, task: Task, state: _Open) -> tuple[str, int]:
        """(the line so far, columns written before it) where the rest of a call is to be written."""
        if self._statuses is not None:
            return self._who(task) + state.text, 0
        if self._last is task:
            return "", state.column
        return f"{self._begin(task)}<... {state.call.name} resumed>", 0

    def _closed(self, text: str, bracket: str, column: int = 0) -> str:
        """`text` and the closing bracket, filled up to where results start."""
        text += f"{bracket} "
        return text + " " * max(0, self._style.column - column - len(text))

    def _abandoned(self, task: Task, state: _Open, text: str, column: int) -> None:
        """The end of a call that will have no result."""
        if not self._matches(None):
            return
        text += " <unfinished ...>" if state.shown < len(state.pieces) else ""
        self._write(f"{self._closed(text, ')', column)}= ?{self._mark(task, None)}\n")
        self._last = None

    def _pieces(self, state: _Open, *, late: bool) -> str:
        """The arguments that were not shown yet; before the result, up to the first late one, with a comma if more follow."""
        out: list[str] = []
        decoder = state.decoder
        todo = state.pieces[state.shown :]
        for index, each in todo:
            if each.late and not late:
                break
            state.shown += 1
            text = each.render(decoder, decoder.args[index])
            if text is not None:
                out.append(text)
        rest = state.pieces[state.shown :]
        if out and any(each.render(decoder, decoder.args[index]) is not None for index, each in rest):
            out.append("")
        return ", ".join(out)

    def _styled(self, render: Callable[..., str]) -> Callable[..., str]:
        return printed(self._style.constants, render)

    def _stack(self, task: Task) -> str:
        return self._stacks.text(task) if self._stacks is not None else ""

    def _dump(self, state: _Open) -> str:
        style = self._style
        if style.reads is None and style.writes is None:
            return ""
        return dump(state.call.name, state.decoder, style.reads or _nothing, style.writes or _nothing)

    def _result(self, state: _Open, task: Task, result: int) -> str:
        call = state.call
        after = self._styled(AFTER[call.name])(state.decoder) if call.name in AFTER else ""
        result -= (result >> 63 & 1) << 64 if result > 0 else 0
        if task.restart in names.RESTARTS and result == -4:
            return f"= ? {names.RESTARTS[task.restart]}"
        if -4096 < result < 0:
            return f"= -1 {names.error_text(-result)}{after}"
        kind = RESULTS.get(call.name, call.returns)
        if self._style.raw(call.name):
            return f"= {result & (1 << 64) - 1:#x}" if result else "= 0"
        if kind in ("hex", "ptr"):
            text = f"{result & (1 << 64) - 1:#x}" if result else "0"
        else:
            text = permissions(result) if kind == "oct" else str(result)
            if kind == "fd" or (call.name == "fcntl" and state.decoder.args[1] in DUPLICATES):
                text = state.decoder.descriptor(result)
        index, values = HEX_RESULTS.get(call.name, (0, ()))
        if result and state.decoder.args[index : index + 1] and state.decoder.args[index] in values:
            text = f"{result:#x}"
        return f"= {text}{after}"
