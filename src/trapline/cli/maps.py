"""`trapline maps`: run a program, and look at its address space at a chosen moment. Exit status: as for `trapline run`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.cli import values
from trapline.cli.main import FAILED, complain, say
from trapline.cli.options import Option, Parsed, UsageError, describe, parse
from trapline.cli.run import OPTIONS as RUN
from trapline.cli.run import Outputs, Report, execute, leave, observe
from trapline.scope.listener import Args, Listener
from trapline.scope.strace.text import printable
from trapline.scope.views import aslr, spacetext
from trapline.scope.views.cached import cached
from trapline.scope.views.sharing import sharing
from trapline.scope.views.space import Space, look, mappings, memory_in, plain
from trapline.scope.views.walks import explain

if TYPE_CHECKING:
    from trapline.embed import Kernel
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

KERNEL = tuple(each for each in RUN if each.name not in ("--trace", "--dump-pagetables", "--report-fd"))
OPTIONS = (
    Option("--at", "CALL[:N]", "look when the program, or a child of it, makes system call CALL (for the Nth time)", many=True),
    Option("--at-exit", "", "look when the program ends: the default"),
    Option("--all", "", "look at each process when it ends"),
    Option("--after", "TIME", "look at the program after TIME (0.5, 200ms)"),
    Option("--walk", "ADDRESS", "show the page walk for an address, each bit of each entry explained; also a kind of "
           "area (program, heap, stack, library, vdso), pc or sp", many=True),
    Option("--shared", "", "show who shares the frames: processes, areas, files"),
    Option("--dirty", "", "list what is dirty, by the entries' D bits"),
    Option("--huge", "", "list what is mapped by leaves of 2 MiB"),
    Option("--tlb", "", "show what the machine has cached: TLBs, or what the host's process has mapped"),
    Option("--tlb-size", "SETSxWAYS", "with --machine riscv: a TLB of this size that counts each load and store; slow"),
    Option("--picture", "", "draw the address space, with its table of areas"),
    Option("--aslr", "N", "start the program N times and measure the entropy of where things are; it does not run"),
    Option("--json", "", "write one object for each look, instead of text"),
    Option("-o", "FILE", "write to FILE (default: stderr)"),
)  # fmt: skip
MOST_STARTS = 100_000


def usage() -> str:
    """The help text."""
    return f"""\
usage: trapline maps [OPTION]... [--] PROGRAM [ARGUMENT]...

Runs PROGRAM under Trapline's kernel and shows its address space from both
sides: the areas that the kernel planned, and the page tables that the machine
walks, read entry by entry from RAM.

{describe(OPTIONS)}

options of `trapline run`:

{describe(KERNEL)}

exit status: as for `trapline run`; 125 also if the moment never came
"""


def main(words: list[str]) -> int:
    """Run the command line `words`; the exit status."""
    parsed = parse(words, (*OPTIONS, *KERNEL))
    if parsed.flag("--help"):
        return say(usage())
    if not parsed.rest:
        raise UsageError("no program: write `trapline maps PROGRAM`")
    _set_tlb(parsed)
    if parsed.flag("--aslr"):
        return _aslr(parsed)
    session = _Session(parsed)
    report = Report(parsed)
    try:
        code = execute(parsed, report, session.observe)
    except UsageError as error:
        code = report.failed(FAILED, str(error))
    if session.began and not session.looks:
        complain(f"{session.moment} never came: nothing was shown")
        code = FAILED if code == 0 else code
    return leave(code)


def _set_tlb(parsed: Parsed) -> None:
    """--tlb-size is the machine's business."""
    if parsed.flag("--tlb-size"):
        if parsed.last("--machine") != "riscv" or parsed.flag("--tier"):
            raise UsageError("--tlb-size is for the RISC-V machine and has a tier of its own: add `--machine riscv` alone")
        parsed.values["--machine"] = [f"riscv:tlb={parsed.last('--tlb-size')}"]


class _Session(Listener):
    """One run: when to look, and what to write then."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self._calls = dict(_call(each) for each in parsed.all("--at"))
        self._seen = dict.fromkeys(self._calls, 0)
        self._all = parsed.flag("--all")
        self._after_ns = values.duration_ns("--after", parsed.last("--after")) if parsed.flag("--after") else 0
        self._at_exit = parsed.flag("--at-exit") or not (self._calls or self._after_ns)
        self._places = [_place(each) for each in parsed.all("--walk")]
        self.looks = 0
        self.began = False
        self._kernel: Kernel | None = None
        self._write: Callable[[str], object] = complain

    @property
    def moment(self) -> str:
        """What was waited for, for people."""
        calls = [f"call {number} of {name}" for name, number in self._calls.items()]
        others = [text for text, on in (("the time of --after", self._after_ns), ("the end", self._at_exit)) if on]
        return " or ".join([*calls, *others])

    def observe(self, kernel: Kernel, parsed: Parsed, outputs: Outputs) -> None:
        observe(kernel, parsed, outputs)
        self._kernel = kernel
        self._write = outputs.open("-o", parsed.last("-o"))
        kernel.subscribe(self)
        if self._after_ns:
            system = kernel.system
            system.timers.add(system.clock.monotonic_ns() + self._after_ns, self._due)

    # ---- when

    def spawned(self, task: Task) -> None:
        self.began = True

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        if call.name in self._seen:
            self._seen[call.name] += 1
            if self._seen[call.name] == self._calls[call.name]:
                self._look(task, f"call {self._calls[call.name]} of {call.name}")

    def exiting(self, task: Task) -> None:
        assert self._kernel is not None
        if self._at_exit or self._all:
            mm = task.mm
            if mm is not None and mm.users == 1 and (self._all or task.group is self._kernel.system.first):
                self._look(task, "its end")

    def _due(self) -> None:
        assert self._kernel is not None
        first = self._kernel.system.first
        if first is not None and memory_in(first) is not None:
            self._look(first.leader, f"the time {self._parsed.last('--after')}")

    # ---- what

    def _look(self, task: Task, when: str) -> None:
        self.looks += 1
        assert self._kernel is not None
        system, pid = self._kernel.system, task.group.pid
        space = look(system, pid)
        flag = self._parsed.flag
        walks = [explain(system, pid, _address(place, space, task)) for place in self._places]
        others = sharing(system, pid) if flag("--shared") else None
        leaves = mappings(system, pid) if flag("--dirty") or flag("--huge") else []
        dirty = [each for each in leaves if each.dirty] if flag("--dirty") else None
        huge = [each for each in leaves if each.leaf > 4096] if flag("--huge") else None
        held = cached(system, pid) if flag("--tlb") or flag("--tlb-size") else None
        if flag("--json"):
            found = {"shared": others, "dirty": dirty, "huge": huge, "cached": held}
            wanted = {name: each for name, each in found.items() if each is not None}
            self._write(json.dumps(plain({"when": when, "space": space, "walks": walks, **wanted})) + "\n")
            return
        parts = [f"{printable(space.command)}[{pid}] at {when}\n{spacetext.head(space)}"]
        parts += [spacetext.picture(space)] if flag("--picture") else []
        parts += [spacetext.table(space), spacetext.levels(space)]
        parts += [spacetext.walk(each) for each in walks]
        parts += ["shared frames\n" + spacetext.shared(others)] if others is not None else []
        parts += ["dirty\n" + spacetext.mappings(dirty, "nothing is dirty")] if dirty is not None else []
        parts += ["huge pages\n" + spacetext.mappings(huge, "there are none")] if huge is not None else []
        parts += ["cached\n" + spacetext.cached(held)] if held is not None else []
        self._write("\n".join(parts))


def _call(text: str) -> tuple[str, int]:
    from trapline.kernel.syscalls.index import FAMILY

    name, _, number = text.partition(":")
    if name not in FAMILY:
        raise UsageError(f"--at {text}: there is no system call {name}")
    return name, values.number("--at", number, 1, 1 << 62) if number else 1


_NAMED = ("program", "heap", "stack", "library", "vdso", "pc", "sp")


def _place(text: str) -> int | str:
    if text.strip("[]") in _NAMED:
        return text.strip("[]")
    try:
        return int(text, 16 if text[:1] not in "0123456789" or not text.isdigit() else 0)
    except ValueError:
        raise UsageError(f"--walk {text}: not an address: write 0x1234, or {', '.join(_NAMED)}") from None


def _address(place: int | str, space: Space, task: Task) -> int:
    if isinstance(place, int):
        return place & (1 << 64) - 1
    if place in ("pc", "sp"):
        arch = task.kernel.machine.arch
        return int(task.ctx.regs[arch.pc if place == "pc" else arch.sp])
    if place in ("heap", "stack"):
        return space.entry[place]
    return next((each.start for each in space.areas if each.kind == place), 0)


# ---- many starts


def _aslr(parsed: Parsed) -> int:
    """Load the program so often, note where everything is, and end it before its first instruction."""
    count = values.number("--aslr", parsed.last("--aslr"), 2, MOST_STARTS)
    report = Report(parsed)
    runs: list[dict[str, int]] = []

    def serve(kernel: Kernel, again: Callable[[], object]) -> int:
        while True:
            first = kernel.system.first
            assert first is not None
            runs.append(aslr.places_of(look(kernel.system, first.pid)))
            kernel.kill_all()
            kernel.wait()
            if len(runs) == count:
                return 0
            again()

    def observe_nothing(kernel: Kernel, parsed: Parsed, outputs: Outputs) -> Callable[[], None]:
        write = outputs.open("-o", parsed.last("-o"))
        return lambda: _write_randomness(write, parsed, runs) if len(runs) == count else None

    return leave(execute(parsed, report, observe_nothing, serve=serve))


def _write_randomness(write: Callable[[str], object], parsed: Parsed, runs: list[dict[str, int]]) -> None:
    found = aslr.measure(parsed.rest[0], runs)
    if parsed.flag("--json"):
        write(json.dumps({**plain(found), "samples": runs}) + "\n")
    else:
        write(aslr.render(found))
