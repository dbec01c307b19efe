"""I3: from exception to signal to sigreturn, stop by stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.abi import signal as sig
from trapline.abi import x86_64 as pc
from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from trapline.embed import Kernel
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import PATH, Cell, Program
from trapline.labs.framework.charts import Chart, Steps, Table
from trapline.labs.framework.lab import Figures, Knobs, Lab, Progress, Verdict, refuted, supported, switch
from trapline.scope.listener import Listener

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

EXPLAIN = """
The program stores into a page that it may only read. The processor stops before the store and enters the kernel with a page
fault. The kernel finds an area there that forbids writing, so there is nothing to repair, and makes a signal of the fault:
SIGSEGV, with si_code SEGV_ACCERR and the address.

The program has a handler for it. On the way back to user mode the kernel writes a frame to the program's own stack: siginfo,
and a ucontext with every register as it was, floating point too, and the signal mask to restore. Then it changes four or five
registers: the program counter to the handler, the stack pointer to the frame, the arguments to the signal's number and the
two structures. The signal is blocked meanwhile. The processor returns to user mode in another place than it left.

The handler repairs the cause: it makes the page writable by mprotect(2). Then it returns, into a few instructions that call
rt_sigreturn(2) (on x86-64 the C library's sa_restorer, on RISC-V the vDSO). That call takes everything back out of the frame,
program counter and mask included, and so does not return to its caller but to the store, which is executed again and
succeeds.

Look at: the program counter at each stop. First and last are the same instruction. The frame is the program's memory: what a
handler writes there is what is restored, which is why the kernel believes nothing in it without a check.

Try: --machine riscv. --without repair: the handler returns without mending anything, and the store faults again, at the same
place, and again; the lab ends it at the third time. --without handler: the signal's default action is the end of the process.
"""
#: where the frame has things, from its ucontext: (offset of the program counter, of the signal mask)
_OFFSETS = {"x86_64": (40 + 8 * pc.RIP, 40 + 23 * 8 + 8 + 64), "riscv64": (176, 40)}
_TIMES = 3  #: faults at one place after which it is enough


def measure(knobs: Knobs, progress: Progress) -> Figures:
    program, got = _program(knobs.machine, knobs.on("handler"), knobs.on("repair"))
    progress("a store that faults")
    with lab_kernel(knobs.machine) as kernel:
        watch = _Watch(kernel, got.address)
        kernel.add_file(PATH, program.link(), 0o755)
        kernel.subscribe(watch)
        status = kernel.run([PATH], timeout=30)
    return {"machine": knobs.machine, "status": status, "stored": watch.stored, "stops": watch.stops, "frame": watch.frame}


def _program(machine: str, handler: bool, repair: bool) -> tuple[Program, Cell]:
    program = Program.of(machine)
    page = program.call("mmap", 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    caught = program.catch(sig.SIGSEGV) if handler else None
    program.store(page, 0x1234)
    got = program.load(page)
    program.exit(0)
    if caught is not None:
        program.handler(caught)
        if repair:
            program.call("mprotect", page, 4096, PROT_READ | PROT_WRITE)
        program.leave()
    return program, got


class _Watch(Listener):
    """Writes down every stop from the fault on, and looks at the frame when the handler is about to begin."""

    def __init__(self, kernel: Kernel, result: int) -> None:
        self._kernel, self._result = kernel, result
        self._arch = kernel.system.machine.arch
        self.stops: list[dict[str, Any]] = []
        self.frame: list[dict[str, Any]] = []
        self.stored = 0
        self._faults = 0
        self._delivered = False

    def _stop(self, where: str, what: str, task: Task) -> None:
        regs = task.ctx.regs
        self.stops.append(
            {"where": where, "what": what, "pc": regs[self._arch.pc], "sp": regs[self._arch.sp], "blocked": task.blocked}
        )


    def fault(self, task: Task, address: int, access: int, served: bool) -> None:
        if served:
            return
        self._faults += 1
        self._stop("processor", f"page fault at {address:#x}, writing: enters the kernel", task)
        if self._faults == _TIMES:
            self._kernel.kill_all()

    def signal(self, task: Task, info: Any) -> None:
        if info.signo != sig.SIGSEGV:
            return
        code = {sig.SEGV_ACCERR: "SEGV_ACCERR", sig.SEGV_MAPERR: "SEGV_MAPERR"}.get(info.code, str(info.code))
        self._stop("kernel", f"makes it SIGSEGV, {code}, si_addr {info.addr:#x}", task)
        self._delivered = True

    def resumed(self, task: Task) -> None:
        if not self._delivered:
            return
        self._delivered = False
        self._read_frame(task)
        self._stop("kernel", "has put a frame on the stack, and goes to the handler", task)

    def _read_frame(self, task: Task) -> None:
        regs, args = task.ctx.regs, self._arch.args
        signo, info, context = (regs[args[n]] for n in range(3))
        at_pc, at_mask = _OFFSETS[self._arch.name]
        rows = (
            ("1st argument", "number of the signal", signo), ("2nd argument", "address of siginfo", info),
            ("3rd argument", "address of ucontext", context),
        )  # fmt: skip
        self.frame = [{"where": where, "what": what, "value": value} for where, what, value in rows]
        for address, count, what in (
            (info, 4, "si_signo"), (info + 8, 4, "si_code"), (info + 16, 8, "si_addr"),
            (context + at_pc, 8, "program counter to go back to"), (context + at_mask, 8, "signal mask to restore"),
        ):  # fmt: skip
            value = int.from_bytes(task.mm.read(address, count), "little")
            self.frame.append({"where": f"{address:#x}", "what": what, "value": value})

    def enter(self, task: Task, call: SystemCall, args: tuple[int, ...]) -> None:
        if self.stops and call.name != "exit_group":
            self._stop("program", f"calls {call.name}", task)

    def exit(self, task: Task, call: SystemCall, args: tuple[int, ...], result: int) -> None:
        if self.stops and call.name == "rt_sigreturn":
            self._stop("kernel", "has taken everything back out of the frame", task)

    def exiting(self, task: Task) -> None:
        self.stored = int.from_bytes(task.mm.read(self._result, 8), "little")
        self._stop("program", "ends", task)


def draw(figures: Figures) -> list[Chart]:
    lanes = ("program", "processor", "kernel")
    steps = [(lanes.index(each["where"]), each["what"], "") for each in figures["stops"]]
    rows = [(each["what"], f"{each['pc']:#x}", f"{each['sp']:#x}", _names(each["blocked"])) for each in figures["stops"]]
    charts: list[Chart] = [
        Steps("Who does what", lanes, steps), Table("Registers at each stop", ("stop", "pc", "sp", "blocked"), rows),
    ]  # fmt: skip
    if figures["frame"]:
        frame = [(each["where"], each["what"], f"{each['value']:#x}") for each in figures["frame"]]
        charts.append(Table("What the handler is given", ("where", "what", "value"), frame))
    return charts


def _names(mask: int) -> str:
    return " ".join(sig.NAMES[n + 1] for n in range(sig.NSIG) if mask >> n & 1) or "none"


def verdict(figures: Figures) -> Verdict:
    stops, frame = figures["stops"], {each["what"]: each["value"] for each in figures["frame"]}
    faults = [each for each in stops if each["where"] == "processor"]
    if not frame:
        return refuted(f"no handler ran: the process ended with status {figures['status']}")
    back = [each for each in stops if each["what"].startswith("has taken")]
    handled = [each for each in stops if each["what"].startswith("has put")]
    same = bool(back) and back[0]["pc"] == faults[0]["pc"] == frame["program counter to go back to"]
    masked = handled[0]["blocked"] == sig.bit(sig.SIGSEGV) and bool(back) and back[0]["blocked"] == faults[0]["blocked"] == 0
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    why = (
        f"{count} at {faults[0]['pc']:#x}; sigreturn went back to {back[0]['pc'] if back else 0:#x}; "
        f"the page held {figures['stored']:#x} at the end"
    )
    good = same and masked and len(faults) == 1 and figures["stored"] == 0x1234 and figures["status"] == 0
    return supported(why) if good else refuted(why)


LAB = Lab(
    id="I3", name="sigreturn", title="From exception to signal to sigreturn",
    question="How can a program repair what the processor refused, and go on as if nothing had happened?",
    claim="An exception becomes a call of the program's own handler; sigreturn goes back to the instruction that raised it.",
    machines=("host", "riscv"), seconds=1, off="--without handler",
    explain=EXPLAIN, measure=measure, draw=draw, verdict=verdict,
    knobs=(
        switch("handler", "give SIGSEGV a handler"),
        switch("repair", "let the handler make the page writable"),
    ),
)  # fmt: skip
