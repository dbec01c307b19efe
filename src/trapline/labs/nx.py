"""M9: code injected into a data page faults when it is fetched, unless the page may be executed."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import TYPE_CHECKING

from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from trapline.abi.signal import SIGSEGV
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, run
from trapline.labs.code.text import assemble
from trapline.labs.framework.charts import Chart, Table
from trapline.labs.framework.lab import Figures, Knobs, Lab, Progress, Verdict, refuted, supported, switch
from trapline.machine.contract import EXEC, FAULT, READ, WRITE
from trapline.scope.listener import Listener

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

ANSWER = 42
RAN, CAUGHT = 3, 4  #: how the program ends
SEGV_CODES = {1: "SEGV_MAPERR", 2: "SEGV_ACCERR"}
ACCESS = {READ: "load", WRITE: "store", EXEC: "fetch"}

EXPLAIN = """
The program asks for a page of data, writes a function into it, byte by byte as an overflowing buffer would receive
it, and calls it. The function does nothing but put 42 into a register and return.

Permission to execute is a bit of the page's leaf entry: on x86-64 the highest one, NX, which forbids; on RISC-V the
bit X, which permits. The processor looks at it only when it fetches an instruction. So the write succeeds and the
jump succeeds, and the first fetch traps: the table below has the address that the hardware names (it is the
function's own), what the access wanted, and the hardware's error code (x86-64: bit 4 says that it was a fetch;
RISC-V: cause 12, instruction page fault). The kernel finds an area there that does not allow it, and sends SIGSEGV
with si_code SEGV_ACCERR: the page exists, the access is not allowed.

Without the mechanism (`--without nx`) the same page is mapped with PROT_EXEC, and the injected code runs and returns
its 42. Look at `trapline run --dump-pagetables` of any program to see the bit on real pages; no page of it should
have both W and X.

What this does not show: an attacker who injects no code, but returns into code that is there. That is lab C5.
"""


class _Faults(Listener):
    """The fault that ended in a signal."""

    def __init__(self) -> None:
        self.found: list[dict[str, object]] = []

    def fault(self, task: Task, address: int, access: int, served: bool) -> None:
        if not served:
            assert task.ctx.kind == FAULT
            self.found.append({"address": address, "access": ACCESS[access], "error_code": task.ctx.code})


def _function(arch: str) -> bytes:
    """Return ANSWER."""
    if arch == "x86_64":
        return b"\xb8" + ANSWER.to_bytes(4, "little") + b"\xc3"  # mov eax, 42; ret
    return assemble(f"li a0, {ANSWER}\nret", 0).link()


def _program(machine: str, executable: bool) -> tuple[Program, dict[str, Cell]]:
    program = Program.of(machine)
    caught = program.catch(SIGSEGV)
    prot = PROT_READ | PROT_WRITE | (PROT_EXEC if executable else 0)
    page = program.call("mmap", 0, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    for n, byte in enumerate(_function(program.arch)):
        program.store(program.sum(page, n), byte, 1)
    if program.arch == "riscv64":
        program.call("riscv_flush_icache", page, program.sum(page, 4096), 0)
    cells = {"page": page, "written": program.load(page)}
    cells["returned"] = program.jump(page)
    program.exit(RAN)
    program.handler(caught)
    for name, offset in (("signal", 0), ("code", 8), ("address", 16)):  # of siginfo_t
        cells[name] = program.load(program.sum(caught[1], offset), 8 if name == "address" else 4)
    program.exit(CAUGHT)
    return program, cells


def measure(knobs: Knobs, progress: Progress) -> Figures:
    program, cells = _program(knobs.machine, not knobs.on("nx"))
    faults = _Faults()
    with lab_kernel(knobs.machine) as kernel:
        kernel.subscribe(faults)
        progress("injecting code")
        (seen,) = run(kernel, program)
        fmt = kernel.system.machine.arch.paging
    values = {name: seen.unsigned(cell) for name, cell in cells.items()}
    function = _function(program.arch)
    return {
        "format": fmt.name, "executable": not knobs.on("nx"), "status": seen.status >> 8, "page": values["page"],
        "written": values["written"].to_bytes(8, "little")[: len(function)] == function,
        "returned": values["returned"], "signal": values["signal"], "si_code": values["code"], "si_addr": values["address"],
        "faults": faults.found,
    }  # fmt: skip


def draw(figures: Figures) -> Sequence[Chart]:
    rows: list[list[str | int]] = [
        ["the page is mapped", "rwx" if figures["executable"] else "rw-", f"{figures['page']:#x}"],
        ["the function is written", "yes" if figures["written"] else "no", ""],
        ["the function is called and returns", str(figures["returned"]) if figures["status"] == RAN else "no", ""],
    ]
    rows += (
        [f"the hardware traps: {each['access']}", f"error code {each['error_code']:#x}", f"{each['address']:#x}"]
        for each in figures["faults"]
    )
    if figures["signal"]:
        code = SEGV_CODES.get(figures["si_code"], str(figures["si_code"]))
        rows.append(["SIGSEGV", code, f"{figures['si_addr']:#x}"])
    return [Table(f"What became of the injected code ({figures['format']})", ("step", "", "address"), rows)]


def verdict(figures: Figures) -> Verdict:
    fetches = [each for each in figures["faults"] if each["access"] == ACCESS[EXEC] and each["address"] == figures["page"]]
    if figures["status"] == RAN:
        return refuted(f"the injected code ran and returned {figures['returned']}; its page is executable")
    assert figures["written"], "the code never got there"
    return supported(
        f"the write succeeded, the first fetch from {figures['page']:#x} trapped ({len(fetches)} fault of a fetch), "
        f"and the process got signal {figures['signal']}"
    )


LAB = Lab(
    id="M9",
    name="nx",
    title="Code in data",
    question="Does code that is written into a page of data run?",
    claim="No-execute bits mark pages of user space so that code injected into data does not run: the processor's memory "
    "management unit traps the attempt.",
    machines=("host", "riscv"),
    seconds=1,
    knobs=(switch("nx", "the page is data only; off: it is mapped with PROT_EXEC"),),
    off="--without nx",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
