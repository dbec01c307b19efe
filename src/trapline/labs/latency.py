"""I1: how long it takes from an interrupt's cause to its handler."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from trapline.labs.code import guest, interrupts, x86
from trapline.labs.code.elf import TEXT, static
from trapline.labs.framework.charts import Bars, Chart, Table, histogram
from trapline.labs.framework.lab import (
    Figures,
    Knobs,
    Lab,
    Progress,
    Verdict,
    number,
    refuted,
    supported,
    switch,
)
from trapline.machine.contract import INTERRUPT
from trapline.scope.listener import Listener

if TYPE_CHECKING:
    from trapline.embed import Kernel
    from trapline.kernel.task.task import Task

EXPLAIN = """
An interrupt comes from outside the program: a timer that is due, a device with news. The processor looks between two
instructions whether one is pending and enabled; if so it saves the program counter, notes the cause, and goes on at the
address that the kernel put into stvec or mtvec (x86: into a table of gates, the IDT). Interrupts of devices come through a
controller, the PLIC, which knows priorities, who wants which source, and which one is being handled; the handler claims a
source from it and completes it.

The lab's program runs on the bare RISC-V board, whose time is counted in instructions, so every figure is exact and the same
in every run. It works in a loop and is interrupted at odd moments, by each path: taken in M-mode; taken in M-mode and handed
on to S-mode, as firmware does with the machine timer; delegated to S-mode, with the supervisor's own timer (Sstc). Three
delays are counted from the moment that the cause was there: until the handler's first instruction, until it knows the source,
and until it has seen to it.

Look at: with nothing in the way the first delay is none at all. Handing on costs a trap, its handler, and a return. Then the
program does --masked instructions at a time with interrupts off, as kernels do around what must not be interrupted: now the
delay is anything up to that, and the worst case is what real-time systems care about.

Try: --masked=1000. --machine host measures something else that is asynchronous: how long it takes this kernel to get a
running program back from the host's processor (a signal to the thread, its handler, the message to the kernel), in
microseconds. That is how a time slice ends here. --without interrupts leaves them disabled.

Limits: a real processor also has a pipeline to empty and a cache to miss, which this machine does not have.
"""
KICKS_EVERY_NS = 1_000_000


def measure(knobs: Knobs, progress: Progress) -> Figures:
    count, enabled = knobs.number("count"), knobs.on("interrupts")
    if knobs.machine == "host":
        progress("bringing a running program back")
        return {"count": count, "kicks": _kicks(count, enabled)}
    masked, rounds = knobs.number("masked"), (100 if enabled else 5) * count  # more than are needed
    paths = []
    for path in interrupts.PATHS:
        progress(path.name)
        runs = [interrupts.run(path, masked=0, count=count, enabled=enabled, rounds=rounds) for _ in range(2)]
        behind = interrupts.run(path, masked=masked, count=count, enabled=enabled, rounds=rounds)
        paths.append({
            "path": path.name, "forwarded": path.forwarded, "same": runs[0] == runs[1], "taken": len(runs[0]),
            "entry": [each.entry for each in runs[0]], "known": [each.known for each in runs[0]],
            "done": [each.done for each in runs[0]], "masked": [each.entry for each in behind],
        })  # fmt: skip
    return {"count": count, "masked": masked, "paths": paths}


def _kicks(count: int, enabled: bool) -> list[float]:
    """Microseconds from the kernel's wish to have a program back until it has."""
    listener = _Kicks(count, enabled)
    code = x86.X86(TEXT)
    code.label("work")
    code.jump("work")
    guest.run(static("x86_64", code.link()), prepare=listener.attach, take=0, cpus=1)
    return listener.found_us


class _Kicks(Listener):
    """Kicks the program every millisecond, and notes when it comes back; ends it after `count` times."""

    def __init__(self, count: int, enabled: bool) -> None:
        self._left, self._enabled, self._since = count, enabled, 0
        self._kernel: Any = None
        self.found_us: list[float] = []

    def attach(self, kernel: Kernel) -> None:
        self._kernel = kernel
        kernel.subscribe(self)

    def resumed(self, task: Task) -> None:
        if not self._since:
            self._later()

    def _later(self) -> None:
        system = self._kernel.system
        self._since = system.clock.monotonic_ns()
        system.timers.add(self._since + KICKS_EVERY_NS, self._kick)

    def _kick(self) -> None:
        system = self._kernel.system
        self._left -= 1
        if self._left < 0:
            self._kernel.kill_all()
            return
        task = next(iter(system.loop.running), None)
        self._since = system.clock.monotonic_ns()
        if self._enabled and task is not None:
            system.machine.kick(task.ctx)
        else:
            self._later()

    def trapped(self, task: Task) -> None:
        if task.ctx.kind == INTERRUPT and self._left >= 0 and self._enabled:
            self.found_us.append((self._kernel.system.clock.monotonic_ns() - self._since) / 1000)
            self._later()


def draw(figures: Figures) -> list[Chart]:
    if "kicks" in figures:
        kicks = sorted(figures["kicks"])
        parts = (("the fastest", 0.0), ("half are below", 0.5), ("90 % are below", 0.9), ("the slowest", 1.0))
        shares = [(name, round(kicks[round((len(kicks) - 1) * part)], 1)) for name, part in parts] if kicks else []
        return [Bars("From kick to trap", shares, "µs", log=True)]
    rows: list[tuple[str | int, ...]] = [
        (each["path"], *(max(each[key], default=0) for key in ("entry", "known", "done")), max(each["masked"], default=0))
        for each in figures["paths"]
    ]
    heads = ("path", "first instruction", "source known", "seen to", f"first, masked {figures['masked']}")
    bars = [(each["path"], max(each["done"], default=0)) for each in figures["paths"]]
    masked = figures["paths"][3]
    return [
        Table("Instructions since the cause, at worst", heads, rows),
        Bars("Until seen to", bars, "instructions"),
        histogram(f"Delays: {masked['path']}, {figures['masked']} masked at a time", masked["masked"], "instructions"),
    ]


def verdict(figures: Figures) -> Verdict:
    count = figures["count"]
    if "kicks" in figures:
        kicks = figures["kicks"]
        why = f"{len(kicks)} of {count} interrupts brought the program back"
        why += f", in {median(kicks):.0f} µs (median), {max(kicks):.0f} at worst" if kicks else ""
        return supported(why) if len(kicks) == count else refuted(why)
    paths = figures["paths"]
    taken = min(each["taken"] for each in paths)
    if taken < count:
        return refuted(f"of {count} interrupts only {taken} came to their handler")
    direct = max(max(each["entry"]) for each in paths if not each["forwarded"])
    handed = min(min(each["entry"]) for each in paths if each["forwarded"])
    worst = max(max(each["masked"]) for each in paths)
    same = all(each["same"] for each in paths)
    why = (
        f"{direct} instructions to the handler directly, {handed} when firmware hands it on, up to {worst} with "
        f"{figures['masked']} masked; a second run gave {'the same' if same else 'other figures'}"
    )
    return supported(why) if same and direct < handed < worst else refuted(why)


LAB = Lab(
    id="I1", name="latency", title="From an interrupt to its handler",
    question="How late does a handler run, and what decides that?",
    claim="The kernel's handler runs at the next instruction; it is late by what is masked, and by who hands the interrupt on.",
    machines=("board", "host"), seconds=3, off="--without interrupts",
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        number("count", 64, "how many interrupts, by each path", 8, 1000),
        number("masked", 200, "instructions that the program does with interrupts off", 2, 10_000),
        switch("interrupts", "enable them"),
    ),
)  # fmt: skip
