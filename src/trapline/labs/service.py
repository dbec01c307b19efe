"""Y9: one service, in the kernel and in a process of its own."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.abi import signal as sig
from trapline.embed import Kernel
from trapline.kernel.panic import KernelPanic
from trapline.labs.code.program import PATH, Cell, Program
from trapline.labs.framework.charts import Bars, Chart, Table
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
from trapline.scope.listener import Args, Listener

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

EXPLAIN = """
In a monolithic kernel file systems, protocols and drivers are functions that a system call calls. In a microkernel, as of
MINIX or QNX, they are processes: a program asks by a message, the kernel only carries it, and the service answers by another
one.

The service of this lab adds one to a number. A client makes --requests requests of it. First it is in the kernel: a handler
of this kernel's, in the table of system calls. Then it is a process, and requests and answers go through a pair of sockets.
The service has a bug: after --crash requests it goes wrong. In the kernel that is an exception that nobody expects, in the
process a store to address 0.

Counted for each request: how often somebody enters the kernel, how often the CPU changes from one task to another. In the
kernel it is one entry; as a process it is four (the client's write and read, the service's read and write), and a switch each
way. That is the price, and the reason why most systems do not pay it for everything.

What it buys is seen when the bug strikes. A fault in the kernel is nobody's but the kernel's: it stops, and every program
with it. A process is only a process: it dies of SIGSEGV, whoever watches over it (MINIX calls it the reincarnation server)
tells the client that its request was lost and starts another one; the client asks again, and all requests are answered in the
end.

Try: --crash=1000 never strikes. --without restart: nobody starts the service again, and what is left of the requests is lost.

Limits: this kernel's sockets were not made for short messages; kernels that live by messages (L4, QNX) switch in a few
hundred cycles. And a service that keeps state must find it again after a restart: this one has none.
"""
CALL = "getpgid"  #: the system call in whose place the service is, in the kernel
IN_KERNEL, PROCESS = "in the kernel", "a process"
_AF_UNIX, _SEQPACKET, _LOST = 1, 5, -1
_BY_NAME = ("read", "write", CALL)


class _Client(NamedTuple):
    """Where the client keeps what matters."""

    answered: Cell
    total: Cell


def measure(knobs: Knobs, progress: Progress) -> Figures:
    progress("the service in the kernel")
    rows = [_in_kernel(knobs)]
    progress("the service as a process")
    rows.append(_as_process(knobs))
    return {"requests": knobs.number("requests"), "crash": knobs.number("crash"), "services": rows}


class _Counts(Listener):
    """What client and service ask of the kernel, how often tasks change, who dies; and how far the client has come."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._seen_ns: list[int] = []  # when it was first seen that one request more was answered
        self.entries = self.switches = self.deaths = 0
        self.found: dict[str, int] = {}

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        self.entries += call.name in _BY_NAME
        if call.name in _BY_NAME:
            self._look(task)

    def switched(self, task: Task, cpu: int, before: Task | None, why: str) -> None:
        self.switches += before is not None and before is not task

    def signal(self, task: Task, info: Any) -> None:
        self.deaths += info.signo == sig.SIGSEGV

    def _look(self, task: Task) -> None:
        answered = _read(task, self._client.answered.address)
        if answered > self.found.get("answered", 0):
            self._seen_ns.append(task.kernel.clock.monotonic_ns())
            self.found = {"answered": answered, "total": _read(task, self._client.total.address)}

    @property
    def request_us(self) -> float:
        """From one answered request to the next, half of them."""
        gaps = [after - before for before, after in pairwise(self._seen_ns)]
        return round(median(gaps) / 1000, 1) if gaps else 0


def _read(task: Task, address: int) -> int:
    return int.from_bytes(task.mm.read(address, 8), "little")


def _in_kernel(knobs: Knobs) -> dict[str, Any]:
    program = Program.of(knobs.machine)
    client = _client_cells(program)
    with program.times(knobs.number("requests")):
        program.add(client.total, program.call(CALL, program.sum(client.answered)))
        program.add(client.answered, 1)
    program.call(CALL, 0)
    program.exit(0)
    served = 0

    def serve(task: Task, value: int) -> int:
        nonlocal served
        served += 1
        if served == knobs.number("crash"):
            raise RuntimeError("the service's bug")
        return value + 1

    return _run(knobs, program, client, IN_KERNEL, serve)


def _as_process(knobs: Knobs) -> dict[str, Any]:
    program = Program.of(knobs.machine)
    client = _client_cells(program)
    sockets = program.put(bytes(8))
    message = program.put(bytes(8))
    program.call("socketpair", _AF_UNIX, _SEQPACKET, 0, sockets)
    ask, answer = program.load(sockets, 4), program.load(sockets + 4, 4)
    forked = program.fork()
    asking = program.label()
    program.if_zero(forked, asking)
    _watcher(program, answer, message, knobs)
    program.here(asking)
    program.call("close", answer)
    _asking(program, client, ask, message, knobs.number("requests"))
    return _run(knobs, program, client, PROCESS, None)


def _client_cells(program: Program) -> _Client:
    return _Client(program.cell(), program.cell())


def _watcher(program: Program, answer: Cell, message: int, knobs: Knobs) -> None:
    """Starts the service, and again when it has died, with word to the client; ends when it ends well."""
    status = program.put(bytes(8))
    again = program.here()
    serving, over = program.label(), program.label()
    service = program.fork()
    program.if_zero(service, serving)
    program.call("wait4", service, status, 0, 0)
    program.if_zero(program.load(status, 4), over)
    if knobs.on("restart"):
        program.store(message, _LOST)
        program.call("write", answer, message, 8)
        program.goto(again)
    program.here(over)
    program.exit(0)
    program.here(serving)
    _service(program, answer, message, knobs.number("crash"))


def _service(program: Program, answer: Cell, message: int, crash: int) -> None:
    """Answers requests; a request for -1 ends it."""
    left = program.cell(crash)
    again = program.here()
    stop, fault = program.label(), program.label()
    program.call("read", answer, message, 8)
    value = program.load(message)
    program.add(value, 1)
    program.if_zero(value, stop)
    program.add(left, -1)
    program.if_zero(left, fault)
    program.store(message, value)
    program.call("write", answer, message, 8)
    program.goto(again)
    program.here(fault)
    program.store(0, 1)
    program.here(stop)
    program.exit(0)


def _asking(program: Program, client: _Client, ask: Cell, message: int, requests: int) -> None:
    """The client: asks for each number until it has an answer, and gives up when nobody is there any more."""
    done = program.label()
    with program.times(requests):
        again = program.here()
        program.store(message, client.answered)
        program.call("write", ask, message, 8)
        program.if_zero(program.call("read", ask, message, 8), done)
        value = program.load(message)
        program.if_zero(program.sum(value, -_LOST), again)
        program.add(client.total, value)
        program.add(client.answered, 1)
    program.here(done)
    program.store(message, _LOST)
    program.call("write", ask, message, 8)
    program.exit(0)


def _run(knobs: Knobs, program: Program, client: _Client, where: str, serve: Any) -> dict[str, Any]:
    counts, died = _Counts(client), False
    with Kernel(machine=knobs.machine, stdio=(-1, -1, -1), memory=64 << 20, cpus=1) as kernel:
        if serve is not None:
            kernel.replace(CALL, serve)
        kernel.subscribe(counts)
        kernel.add_file(PATH, program.link(), 0o755)
        try:
            kernel.run([PATH], timeout=60)
        except KernelPanic:
            died = True
    answered = counts.found.get("answered", 0)
    return {
        "service": where, "answered": answered,
        "right": counts.found.get("total", 0) == answered * (answered + 1) // 2, "entries": counts.entries,
        "switches": counts.switches, "deaths": counts.deaths, "kernel died": died, "request_us": counts.request_us,
    }  # fmt: skip


def draw(figures: Figures) -> list[Chart]:
    rows = figures["services"]
    each_request = [(row["service"], _each(row, "entries"), _each(row, "switches")) for row in rows]
    fates = ["died, with all programs" if row["kernel died"] else "lives" for row in rows]
    ends = [(row["service"], row["answered"], row["deaths"], fate) for row, fate in zip(rows, fates, strict=True)]
    return [
        Bars("Entries into the kernel for each request", [(name, entries) for name, entries, _ in each_request]),
        Bars("Switches from one task to another for each", [(name, switches) for name, _, switches in each_request]),
        Bars("Time for each request, watched: median", [(row["service"], row["request_us"]) for row in rows], "µs"),
        Table(f"With a bug after {figures['crash']} requests", ("service", "answered", "times it died", "the kernel"), ends),
    ]


def _each(row: dict[str, Any], what: str) -> float:
    return round(row[what] / row["answered"], 2) if row["answered"] else 0


def verdict(figures: Figures) -> Verdict:
    inside, outside = figures["services"]
    wanted, strikes = figures["requests"], figures["crash"] <= figures["requests"]
    why = (
        f"in the kernel {_each(inside, 'entries')} entries a request, as a process {_each(outside, 'entries')} and "
        f"{_each(outside, 'switches')} switches; of {wanted} requests {inside['answered']} and {outside['answered']} were "
        f"answered, while the service died {outside['deaths']} times as a process"
    )
    dearer = _each(outside, "entries") > 3 * _each(inside, "entries") and _each(outside, "switches") > 1
    survived = outside["answered"] == wanted and (outside["deaths"] > 0) == strikes and not outside["kernel died"]
    lost = inside["kernel died"] == strikes and (inside["answered"] < wanted) == strikes
    good = dearer and survived and lost and inside["right"] and outside["right"]
    return supported(why) if good else refuted(why)


LAB = Lab(
    id="Y9", name="service", title="A service in the kernel, and as a process",
    question="What does it cost to keep a service out of the kernel, and what does it buy?",
    claim="A service that is a process costs more crossings for each request, but its crash is survived.",
    machines=("host", "riscv"), seconds=1, off="--without restart",
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        number("requests", 100, "requests of the client", 10, 10_000),
        number("crash", 40, "after so many requests the service goes wrong", 2, 100_000),
        switch("restart", "start the service again when it has died"),
    ),
)  # fmt: skip
