"""I2: scheduling classes compared, on the same tasks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

from trapline.abi.sched import SCHED_FIFO, SCHED_OTHER, SCHED_RR
from trapline.abi.time import CLOCK_MONOTONIC
from trapline.embed import Kernel
from trapline.kernel.sched.classes import ClassScheduler
from trapline.labs.code import guest
from trapline.labs.code.elf import DATA
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import PATH, Program
from trapline.labs.code.queues import Lottery, RoundRobin
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
)
from trapline.scope.listener import Listener

if TYPE_CHECKING:
    from trapline.kernel.sched.interface import Ordinary
    from trapline.kernel.task.task import Task

EXPLAIN = """
Some tasks want a CPU all the time, one sleeps, does a little, and sleeps again, as an editor does; there is one CPU. Which of
them has it is decided whenever a task stops of itself, wakes up, or has used its slice: then the kernel has it kicked out
(lab I1) and asks the scheduler for another. That decision is the scheduling class, and the trap loop knows it by one
interface (kernel/sched/interface.py), so it can be replaced.

fair: whoever has run least, weighed by its nice value, runs next (SCHED_OTHER; Linux's CFS and EEVDF are of this kind). rr:
real-time round robin, SCHED_RR: in turn, slices of 100 ms. fifo: SCHED_FIFO: who has the CPU keeps it until it sleeps. robin
and lottery are this lab's own classes in the place of the fair one (labs/code/queues.py): robin gives 10 ms to each in turn,
lottery draws a ticket each time, of as many as the task has weight.

Counted are the shares of the CPU, Jain's index of fairness over the tasks that compute (1: all the same; 1/n: one has
everything), how often the interactive task came to run, and how long it stood ready before it did.

The last chart prices a switch: two tasks that only call sched_yield(2) hand the CPU to one another; a round is two such calls
and two switches.

Look at: with fifo the first task has the CPU for ever, and the others never begin. With rr the interactive task waits for
everybody's 100 ms. A lottery is fair on average, and visibly not in the short run.

Try: --class=lottery runs one of them. --nice=5 makes the last task nice: fair and lottery then give it less, robin does not.
--tasks=8 --milliseconds=2000. --class=fifo is a scheduler without preemption, and takes fairness away.

Limits: delays are in real time, on a computer with other things to do. Shares are what this kernel counts as user time.
"""
CLASSES = ("fair", "robin", "lottery", "rr", "fifo")
_POLICIES = {"rr": SCHED_RR, "fifo": SCHED_FIFO}
_ORDINARY: dict[str, Callable[[], Ordinary]] = {"robin": RoundRobin, "lottery": Lottery}
NAP_NS = 4_000_000
YIELDS, RUNS = 100, 3
FAIR, UNFAIR = 0.7, 0.6  #: between 1 and, of three tasks, 1/3; a busy computer disturbs


def measure(knobs: Knobs, progress: Progress) -> Figures:
    wanted = CLASSES if knobs.text("class") == "all" else (knobs.text("class"),)
    rows = []
    for name in wanted:
        progress(f"{name}: {knobs.number('milliseconds')} ms")
        rows.append(_run(name, knobs))
    progress("the price of a switch")
    alone, together = (min(_yield_us(knobs.machine, tasks) for _ in range(RUNS)) for tasks in (1, 2))
    return {
        "tasks": knobs.number("tasks"), "nice": knobs.number("nice"), "classes": rows,
        "yield_us": round(alone, 2), "round_of_two_us": round(together, 2),
    }  # fmt: skip


def _yield_us(machine: str, tasks: int) -> float:
    """What one sched_yield(2) takes, of one task alone or of two that give the only CPU to one another."""
    program = Program.of(machine)
    begin, end = program.put(bytes(16)), program.put(bytes(16))
    child = program.label()
    if tasks == 2:
        program.if_zero(program.fork(), child)
    program.call("clock_gettime", CLOCK_MONOTONIC, begin)
    with program.times(YIELDS):
        program.call("sched_yield")
    program.call("clock_gettime", CLOCK_MONOTONIC, end)
    program.exit(0)
    program.here(child)
    again = program.here()
    program.call("sched_yield")
    program.goto(again)
    out = guest.run(program.link(), machine=machine, take=program.data_bytes, cpus=1)
    times: list[tuple[int, int]] = [struct.unpack_from("<2q", out.data, where - DATA) for where in (begin, end)]
    begun, ended = (seconds * 10**9 + ns for seconds, ns in times)
    return (ended - begun) / YIELDS / 1000


def _program(machine: str, tasks: int, nice: int) -> Program:
    """`tasks` processes that compute for ever, the first of them the parent of all, and one that sleeps and wakes."""
    program = Program.of(machine)
    compute, interactive = program.label(), program.label()
    for n in range(tasks):
        child = program.fork()
        if n == 0:
            program.if_zero(child, interactive)
        elif n < tasks - 1:
            program.if_zero(child, compute)
        else:
            other = program.label()
            parent = program.label()
            program.if_zero(child, other)
            program.goto(parent)
            program.here(other)
            program.call("setpriority", 0, 0, nice)
            program.goto(compute)
            program.here(parent)
    program.here(compute)
    program.goto(compute)
    program.here(interactive)
    nap = program.put(struct.pack("<qq", 0, NAP_NS))
    again = program.here()
    program.call("nanosleep", nap, 0)
    program.goto(again)
    return program


class _Watch(Listener):
    """Who there is, and how long the interactive task stands ready before it runs."""

    def __init__(self, kernel: Kernel, policy: int) -> None:
        self._system, self._policy = kernel.system, policy
        self.tasks: list[Task] = []
        self._ready_ns: dict[Task, int] = {}
        self.delays_us: list[float] = []

    def spawned(self, task: Task) -> None:
        if self._policy != SCHED_OTHER:
            self._system.sched.set_policy(task, self._policy, 1)

    def started(self, task: Task) -> None:
        self.tasks.append(task)

    def continues(self, task: Task) -> None:
        self._ready_ns[task] = self._system.clock.monotonic_ns()

    def resumed(self, task: Task) -> None:
        since = self._ready_ns.pop(task, None)
        if since is not None:
            self.delays_us.append((self._system.clock.monotonic_ns() - since) / 1000)


def _run(name: str, knobs: Knobs) -> dict[str, Any]:
    tasks = knobs.number("tasks")
    program = _program(knobs.machine, tasks, knobs.number("nice"))
    with lab_kernel(knobs.machine, cpus=1) as kernel:
        system = kernel.system
        ordinary = _ORDINARY[name]() if name in _ORDINARY else None
        system.sched = ClassScheduler(system.clock.monotonic_ns, ordinary)
        watch = _Watch(kernel, _POLICIES.get(name, SCHED_OTHER))
        kernel.subscribe(watch)
        kernel.add_file(PATH, program.link(), 0o755)
        used: list[int] = []

        def stop() -> None:
            now_ns = system.clock.monotonic_ns()
            used.extend(each.utime_ns + (now_ns - each.user_since_ns if each.on_cpu else 0) for each in watch.tasks)
            kernel.kill_all()

        system.timers.add(system.clock.monotonic_ns() + knobs.number("milliseconds") * 1_000_000, stop)
        kernel.run([PATH], timeout=60)
    # the parent, the interactive task, and the others in the order in which they were forked
    computing = [used[0], *used[2:]] + [0] * (tasks - max(1, len(used) - 1))
    return {
        "class": name, "used_ms": [round(each / 1e6, 1) for each in computing], "fairness": _jain(computing),
        "woken": len(watch.delays_us), "delay_us": round(median(watch.delays_us), 1) if watch.delays_us else None,
        "worst_us": round(max(watch.delays_us), 1) if watch.delays_us else None,
    }  # fmt: skip


def _jain(shares: list[int]) -> float:
    """Jain, Chiu and Hawe, 1984: (sum x)^2 / (n sum x^2)."""
    squares = len(shares) * sum(each * each for each in shares)
    return round(sum(shares) ** 2 / squares, 3) if squares else 0.0


def draw(figures: Figures) -> list[Chart]:
    charts: list[Chart] = [
        Bars(f"{each['class']}: user time", [(f"task {n}", ms) for n, ms in enumerate(each["used_ms"], 1)], "ms")
        for each in figures["classes"]
    ]
    rows = [
        (each["class"], each["fairness"], each["woken"], _time(each["delay_us"]), _time(each["worst_us"]))
        for each in figures["classes"]
    ]
    heads = ("class", "fairness", "interactive ran", "ready for, median", "at worst")
    price = (("one task", figures["yield_us"]), ("two: and two switches", figures["round_of_two_us"]))
    return [*charts, Table("Fairness and delay", heads, rows), Bars("Each task yields once", price, "µs")]


def _time(microseconds: float | None) -> str:
    if microseconds is None:
        return "never ran"
    return f"{microseconds / 1000:.1f} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"


def verdict(figures: Figures) -> Verdict:
    by_name = {each["class"]: each for each in figures["classes"]}
    parts = [f"{name}: fairness {each['fairness']}, interactive ran {each['woken']} times" for name, each in by_name.items()]
    judged = [each for name, each in by_name.items() if name == "fair" or len(by_name) == 1]
    holds = all(each["fairness"] > FAIR and each["woken"] for each in judged)
    if len(by_name) > 1:
        holds = holds and by_name["fifo"]["fairness"] < UNFAIR and not by_name["fifo"]["woken"]
    why = "; ".join(parts)
    return supported(why) if holds else refuted(why)


LAB = Lab(
    id="I2", name="schedulers", title="Schedulers compared",
    question="What does the scheduling class decide, and what if it is another one?",
    claim="Tasks that compute share the CPU fairly, as the kernel takes it from them; the class that decides can be replaced.",
    machines=("host", "riscv"), seconds=3, off="--class=fifo",
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        choice("class", "all", "the scheduling class of all tasks", "all", *CLASSES),
        number("tasks", 3, "tasks that compute", 2, 16),
        number("milliseconds", 500, "how long each class is watched", 50, 60_000),
        number("nice", 0, "nice value of the last of them", 0, 19),
    ),
)  # fmt: skip
