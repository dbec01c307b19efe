"""S1: one system call, from user registers back to user registers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from trapline.abi.errno import ENOSYS, Errno
from trapline.embed import Kernel
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import MARK, PATH, Program
from trapline.labs.framework.charts import Bars, Chart, Table
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    choice,
    number,
    refuted,
    supported,
    switch,
)
from trapline.machine.contract import SYSCALL
from trapline.machine.riscv.disasm import X_NAMES
from trapline.scope.ledger.costs import PARTS
from trapline.scope.ledger.ledger import Ledger
from trapline.scope.listener import Args, Listener

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

EXPLAIN = """
A program puts a number into one register and up to six arguments into others, and executes the instruction that enters the
kernel (x86-64: rax; rdi, rsi, rdx, r10, r8, r9; syscall. RISC-V: a7; a0 to a5; ecall). That is all that the processor carries
over: which code runs then is the kernel's choice. It looks the number up in a table, converts the arguments to their C types,
asks whoever may object (here a seccomp filter of the program's own that allows everything), and calls the handler. What an
argument points to is copied, once, into the kernel or out of it; no other code of the kernel touches the program's memory.
The result goes into one register: a value, or an error as its negative number, -1 to -4095, from which the C library makes -1
and errno.

The lab shows one such call at each of these places, as the kernel's probes have it, with the registers before and after; then
it makes the call many times more, and has the ledger (trapline ledger) say where the time goes.

Look at: of all registers only one has changed. The handler is the same function on both machines: the two conventions end at
the table. The second call is made to fail, and its error can be seen as it is in the register.

Try: --call=openat copies a path and walks it, --call=uname copies out, --call=getppid copies nothing. --filter=off. --machine
riscv. --without table takes the call out of the table: the number means nothing, and the answer is ENOSYS.

Limits: probes take time themselves. In the list of steps that is part of the microseconds since the trap; the ledger's parts
are without what it can see of it.
"""
WARM = 3  #: calls before the one that is looked at: the first one also loads its handler
Heard = TypeVar("Heard", bound=Listener)
TEXT = b"Hello, kernel!\n"
_X86_NAMES = "r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags".split()
_CALLS = ("write", "openat", "uname", "getppid")
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _RETURN, _ALLOW = 38, 1, 0x06, 0x7FFF_0000
_AT_FDCWD, _O_WRONLY, _O_DIRECTORY = -100, 1, 0o200000
_REPEAT, _ONCE, _WRONG = 0, 1, 2  #: what the program is at, as its marks say


def measure(knobs: Knobs, progress: Progress) -> Figures:
    name = knobs.text("call")
    progress(f"one {name}")
    watch = _Watch()
    _run(knobs, WARM, lambda kernel: watch)
    progress(f"{knobs.number('times')} more")
    ledger = _run(knobs, knobs.number("times"), lambda kernel: Ledger(kernel.system.clock.monotonic_ns))
    costs = [cost for sort, cost in ledger.costs.items() if sort.kind == "call" and sort.name == name]
    count = sum(each.count for each in costs)
    parts = {part: sum(each.parts[n] for each in costs) / count for n, part in enumerate(PARTS)}
    return {
        "machine": knobs.machine, "call": name, "steps": watch.steps, "registers": watch.registers, "changed": watch.changed,
        "crossings": watch.crossings, "results": watch.results, "copied": watch.copied_bytes,
        "parts": {part: round(ns) for part, ns in parts.items() if part != "probes"}, "count": count,
    }  # fmt: skip


def _run(knobs: Knobs, times: int, make: Callable[[Kernel], Heard]) -> Heard:
    """The program, heard by the listener that `make` makes."""
    with lab_kernel(knobs.machine) as kernel:
        if not knobs.on("table"):
            kernel.replace(knobs.text("call"), _missing)
        listener = make(kernel)
        kernel.subscribe(listener)
        kernel.add_file(PATH, _program(knobs, times).link(), 0o755)
        kernel.run([PATH], timeout=60)
    return listener


def _missing(task: Task, *args: int) -> int:
    raise ENOSYS


def _program(knobs: Knobs, times: int) -> Program:
    program = Program.of(knobs.machine)
    null = program.call("openat", _AT_FDCWD, program.put(b"/dev/null\0"), _O_WRONLY, 0)
    if knobs.on("filter"):
        rules = program.put(struct.pack("<HBBI", _RETURN, 0, 0, _ALLOW))
        program.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        program.call("seccomp", _SET_MODE_FILTER, 0, program.put(struct.pack("<HxxxxxxQ", 1, rules)))
    arguments = {
        "write": (null, program.put(TEXT), len(TEXT)), "openat": (_AT_FDCWD, program.put(b"/tmp\0"), _O_DIRECTORY, 0),
        "uname": (program.put(bytes(400)),), "getppid": (),
    }  # fmt: skip
    name = knobs.text("call")
    with program.times(times):
        program.call(name, *arguments[name])
    program.mark(_ONCE)
    program.call(name, *arguments[name])
    program.mark(_WRONG)
    program.call("close", -1)
    program.exit(0)
    return program


class _Watch(Listener):
    """Writes down what happens to the two calls that the program marks."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.registers: list[dict[str, Any]] = []
        self.changed: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.copied_bytes = {"in": 0, "out": 0}
        self.crossings = 0
        self._stage = _REPEAT
        self._before: list[int] = []
        self._now: Callable[[], int] = int
        self._since_ns = 0
        self._handler: Callable[..., Any] = _missing
        self._looking = False  # at memory, which is a copy too

    def _say(self, where: str, what: str, value: str = "") -> None:
        if self._stage == _ONCE and self._before:
            since_us = round((self._now() - self._since_ns) / 1000, 1)
            self.steps.append({"where": where, "what": what, "value": value, "us": since_us})

    def trapped(self, task: Task) -> None:
        ctx, arch = task.ctx, task.kernel.machine.arch
        if self._stage == _REPEAT or ctx.kind != SYSCALL:
            return
        self._before = list(ctx.regs)
        if self._stage == _ONCE and not self.registers:
            names = _names(arch.name)
            roles = {arch.nr: "number of the call"} | {reg: f"argument {n}" for n, reg in enumerate(arch.args, 1)}
            self.registers = [{"register": names[n], "role": role, "value": ctx.regs[n]} for n, role in roles.items()]
            self._now = task.kernel.clock.monotonic_ns
            self._since_ns = self._now()
            self._say("entry", "the machine hands over the registers", f"{names[arch.nr]} = {ctx.regs[arch.nr]}")

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        if call.name == MARK:
            self._stage = args[0] % 10
            return
        self.crossings += self._stage == _ONCE
        self._handler = call.handler
        shown = ", ".join(f"{each:#x}" if abs(each) > 4096 else str(each) for each in args)
        self._say("decode", f"the table says: {call.name}", f"({shown})")

    def decided(self, task: Task, by: str, verdict: str, since_ns: int) -> None:
        self._say("policy", f"{by} is asked", verdict)

    def body(self, task: Task) -> None:
        handler = self._handler
        self._say("body", "the handler begins", f"{handler.__module__.rpartition('.')[2]}.{handler.__name__}")

    def copied(self, task: Task, address: int, size: int, out: bool, since_ns: int) -> None:
        if self._looking or self._stage != _ONCE:
            return
        self.copied_bytes["out" if out else "in"] += size
        self._looking = True
        data = task.mm.read(address, min(size, 20))
        self._looking = False
        self._say("copy", f"{size} bytes {'to' if out else 'from'} {address:#x}", repr(data)[1:] + ("..." if size > 20 else ""))

    def exit(self, task: Task, call: SystemCall, args: Args, result: int) -> None:
        if len(self.results) < self._stage and call.name != MARK:
            self._say("return", "the result", str(result))
            error = next((each.__name__ for each in Errno.__subclasses__() if each.number == -result), "") if result < 0 else ""
            self.results.append({"call": call.name, "result": result, "error": error})

    def resumed(self, task: Task) -> None:
        if not self._before or len(self.results) < self._stage:
            return
        arch, regs = task.kernel.machine.arch, task.ctx.regs
        names = _names(arch.name)
        self.results[-1]["register"] = regs[arch.ret]
        changed = [names[n] for n in range(len(names)) if regs[n] != self._before[n]]
        if self._stage == _ONCE:
            self.changed = changed
            self._say("resume", "registers that differ from before", ", ".join(changed) or "none")
        self._before = []


def _names(arch: str) -> list[str]:
    """Of the registers of a context, in order, as far as they are a program's own."""
    return list(_X86_NAMES) if arch == "x86_64" else [*X_NAMES, "pc"]


def draw(figures: Figures) -> list[Chart]:
    before = [(each["register"], each["role"], f"{each['value']:#x}") for each in figures["registers"]]
    steps = [(f"{each['us']:.1f}", each["where"], each["what"], each["value"]) for each in figures["steps"]]
    results = [(each["call"], each["result"], f"{each['register']:#x}", each["error"]) for each in figures["results"]]
    parts = [(part, ns) for part, ns in figures["parts"].items() if ns]
    return [
        Table("Registers, as the program left them", ("register", "what for", "value"), before),
        Table(f"One {figures['call']}, in order", ("µs", "where", "what", "value"), steps),
        Table("Results, and how they are in the register", ("call", "result", "register", "error"), results),
        Bars(f"Where the time goes, of {figures['count']} calls: mean", parts, "ns"),
    ]


def verdict(figures: Figures) -> Verdict:
    results = figures["results"]
    good, bad = results[0], results[-1]
    ret = "rax" if figures["machine"] == "host" else "a0"
    order = [each["where"] for each in figures["steps"]]
    places = [place for place in ("entry", "decode", "policy", "body", "return", "resume") if place in order]
    ordered = [order.index(place) for place in places] == sorted(order.index(place) for place in places) and "body" in order
    one_register = set(figures["changed"]) <= {ret} and figures["crossings"] == 1
    negative = bad["result"] < 0 and bad["register"] == bad["result"] % (1 << 64) and bad["result"] >= -4095
    times = "once" if figures["crossings"] == 1 else f"{figures['crossings']} times"
    why = (
        f"{good['call']} crossed {times}, gave {good['result']}, changed "
        f"{', '.join(figures['changed']) or 'no register'}; {bad['call']} of no descriptor gave {bad['error']}"
    )
    return supported(why) if ordered and one_register and negative and good["result"] >= 0 else refuted(why)


LAB = Lab(
    id="S1", name="anatomy", title="Anatomy of a system call",
    question="What happens between the instruction that asks the kernel and the one after it?",
    claim="A number and six registers go in, a table decides what runs, one register comes back; errors are -1 to -4095.",
    machines=("host", "riscv"), seconds=1, off="--without table",
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        choice("call", "write", "the call to look at", *_CALLS),
        number("times", 200, "how often the ledger sees it", 10, 10_000),
        switch("filter", "give the program a seccomp filter that allows everything"),
        switch("table", "leave the call in the table"),
    ),
)  # fmt: skip
