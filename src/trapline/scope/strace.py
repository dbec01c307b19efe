"""Strace: a listener that writes what it hears in strace(1)'s own format, from the declared signatures.

Invariants:
- what a call reads is shown as it was when the call came in; what it writes, as it is when the call returns;
- a signal that is ignored is not shown: the kernel drops it when it is sent (strace sees it, because ptrace(2) keeps it);
- a line that another task interrupts ends in "<unfinished ...>", and is continued by "<... NAME resumed>".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trapline.kernel.syscalls.declare import SystemCall, parameters
from trapline.scope import names
from trapline.scope.arguments import Piece, hexadecimal, piece
from trapline.scope.listener import Args, Listener
from trapline.scope.memory import MAX_STRINGS, PATH_LIMIT, Decoder
from trapline.scope.siginfo import render as siginfo
from trapline.scope.special import AFTER, EXTRA, HEX_RESULTS, ORDER, OVERRIDES, RESULTS
from trapline.scope.text import permissions, quote

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

UNDECLARED = "undeclared"  #: the family of calls that are not implemented: six numbers
COLUMN = 40  #: where results start
NEVER_RETURN = frozenset(("exit", "exit_group"))
_UNDECLARED = tuple(f"arg{n}" for n in range(6))


class _Open:
    """A call that has not returned."""

    __slots__ = ("call", "column", "decoder", "pieces", "shown")

    def __init__(self, call: SystemCall, decoder: Decoder, pieces: list[tuple[int, Piece]]) -> None:
        self.call = call
        self.decoder = decoder
        self.pieces = pieces
        self.shown = 0  #: how many pieces were written
        self.column = 0


class Strace(Listener):
    """`write` takes text. `always_pid`: every line starts with the thread's number, as in strace's output files."""

    def __init__(self, write: Callable[[str], object], *, always_pid: bool = False) -> None:
        self._write = write
        self._always_pid = always_pid
        self._open: dict[Any, _Open] = {}
        self._last: Any = None  #: the task whose line is not finished
        self._plans: dict[str, list[tuple[int, Piece]]] = {}
        self._tasks: set[Any] = set()

    # ---- what we hear

    def started(self, task: Task) -> None:
        self._tasks.add(task)

    def spawned(self, task: Task) -> None:
        """The line that execve(2) would have had."""
        mm = task.mm
        argv = mm.read(mm.arg_start, mm.arg_end - mm.arg_start).split(b"\0")[:-1]
        count = mm.read(mm.env_start, mm.env_end - mm.env_start).count(b"\0")
        path = mm.read_partial(mm.env_end, PATH_LIMIT).split(b"\0")[0]  # AT_EXECFN: as it was found, links not followed
        words = ", ".join(quote(each) for each in argv[:MAX_STRINGS]) + (", ..." if len(argv) > MAX_STRINGS else "")
        environment = f"{mm.env_start:#x} /* {count} var{'s' * (count != 1)} */"
        text = f"{self._begin(task)}execve({quote(path, PATH_LIMIT)}, [{words}], {environment}"
        self._write(f"{self._closed(text, ')')}= 0\n")

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        self._tasks.add(task)
        params = parameters(call)
        keys = [each.name for each in params] if call.family != UNDECLARED else _UNDECLARED
        decoder = Decoder(task, dict(zip(keys, args, strict=False)))
        state = _Open(call, decoder, self._plan(call))
        for index, each in state.pieces:
            if each.before:
                decoder.before[decoder.args[index]] = decoder.read(decoder.args[index], each.before)
        head = f"{self._begin(task)}{call.name}("
        state.column = len(head)
        self._open[task] = state
        text = head + self._pieces(state, late=False)
        if call.name in EXTRA:
            text += EXTRA[call.name](decoder)
        if call.name in NEVER_RETURN:
            self._write(self._closed(text, ")") + "= ?\n")
            del self._open[task]
            self._last = None
            return
        state.column = len(text)
        self._write(text)
        self._last = task

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        state = self._open.pop(task, None)
        if state is None:  # subscribed in the middle of a call
            return
        text, column = "", state.column
        if self._last is not task:
            text = f"{self._begin(task)}<... {call.name} resumed>"
            column = 0
        if task.group.exiting:  # killed in it: nobody will see a result
            self._abandoned(state, text, column)
            return
        state.decoder.result = result
        text += self._pieces(state, late=True)
        self._write(self._closed(text, ")", column) + self._result(state, task, result) + "\n")
        self._last = None

    def signal(self, task: Task, info: Any) -> None:
        self._line(task, f"--- {names.signal_name(info.signo)} {siginfo(info)} ---")

    def stopped(self, task: Task, signo: int) -> None:
        self._line(task, f"--- stopped by {names.signal_name(signo)} ---")

    def exited(self, task: Task, status: int) -> None:
        state = self._open.pop(task, None)
        if state is not None:  # it died in the middle of a call
            text = "" if self._last is task else f"{self._begin(task)}<... {state.call.name} resumed>"
            self._abandoned(state, text, state.column if not text else 0)
        if status & 0x7F:
            core = " (core dumped)" if status & 0x80 else ""
            self._line(task, f"+++ killed by {names.signal_name(status & 0x7F)}{core} +++")
        else:
            self._line(task, f"+++ exited with {status >> 8 & 0xFF} +++")
        self._tasks.discard(task)

    # ---- how it is written

    def _begin(self, task: Task) -> str:
        """The start of a new line; a line in progress is left unfinished."""
        if self._last is not None:
            self._write(" <unfinished ...>\n")
            self._last = None
        if self._always_pid:
            return f"{task.tid:<5} "
        return f"[pid {task.tid:>5}] " if len(self._tasks) > 1 else ""

    def _line(self, task: Task, text: str) -> None:
        self._write(f"{self._begin(task)}{text}\n")

    def _closed(self, text: str, bracket: str, column: int = 0) -> str:
        """`text` and the closing bracket, filled up to where results start."""
        text += f"{bracket} "
        return text + " " * max(0, COLUMN - column - len(text))

    def _abandoned(self, state: _Open, text: str, column: int) -> None:
        """The end of a call that will have no result."""
        text += " <unfinished ...>" if state.shown < len(state.pieces) else ""
        self._write(self._closed(text, ")", column) + "= ?\n")
        self._last = None

    def _plan(self, call: SystemCall) -> list[tuple[int, Piece]]:
        """(position, how it prints) of each argument, in the order shown; made once per call."""
        plan = self._plans.get(call.name)
        if plan is None:
            special = OVERRIDES.get(call.name, {})
            params = parameters(call)
            pieces = [special.get(i) or piece(each.show) for i, each in enumerate(params)]
            if call.family == UNDECLARED:
                pieces = [Piece(hexadecimal)] * len(_UNDECLARED)
            order = ORDER.get(call.name) or range(len(pieces))
            plan = self._plans[call.name] = [(i, pieces[i]) for i in order if i < len(pieces)]
        return plan

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

    def _result(self, state: _Open, task: Task, result: int) -> str:
        call = state.call
        result -= (result >> 63 & 1) << 64 if result > 0 else 0
        if task.restart in names.RESTARTS and result == -4:
            return f"= ? {names.RESTARTS[task.restart]}"
        if -4096 < result < 0:
            return f"= -1 {names.error_text(-result)}{AFTER[call.name](state.decoder) if call.name in AFTER else ''}"
        kind = RESULTS.get(call.name, call.returns)
        if kind in ("hex", "ptr"):
            text = f"{result & (1 << 64) - 1:#x}" if result else "0"
        else:
            text = permissions(result) if kind == "oct" else str(result)
        index, values = HEX_RESULTS.get(call.name, (0, ()))
        if result and state.decoder.args[index : index + 1] and state.decoder.args[index] in values:
            text = f"{result:#x}"
        return f"= {text}{AFTER[call.name](state.decoder) if call.name in AFTER else ''}"
