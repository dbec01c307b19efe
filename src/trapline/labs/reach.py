"""M3: user code reaches for the kernel's memory, and what comes back: causes on bare hardware, signals under a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from trapline.typed import Any, NamedTuple

from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE
from trapline.abi.signal import SIGBUS, SIGSEGV
from trapline.labs.code import spaces
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Program, Seen, Value, run
from trapline.labs.code.spaces import FETCH, LOAD, STORE, Probe, World, results
from trapline.labs.framework.charts import Chart, Table
from trapline.labs.framework.lab import Figures, Knobs, Lab, Progress, Verdict, refuted, supported, switch
from trapline.machine.paging.entry import PAGE_SIZE

SECRET = 0x5EC2E7
BASE = 0xFFFF_FFC0_0000_0000
READ_ONLY, NOTHING = 0x3_0000, 0x5_0000  #: pages of user space on the board
CAUSES = {0: "", 2: "illegal instruction", 12: "instruction page fault", 13: "load page fault", 15: "store page fault"}
CODES = {1: "SEGV_MAPERR", 2: "SEGV_ACCERR", 128: "SI_KERNEL"}
#: by architecture: a kernel's address, one that is not canonical, and where the hardware's report is in the ucontext
KERNELS = {"x86_64": (0xFFFF_FFFF_8100_0000, 0x0000_9000_0000_0000), "riscv64": (BASE, 0x0000_0080_0000_0000)}
_ERROR, _TRAP = 40 + 19 * 8, 40 + 20 * 8  #: x86-64: gregs[REG_ERR], gregs[REG_TRAPNO]

EXPLAIN = """
On the board, the lab's own kernel is mapped into the address space of a program (lab M1 shows how), with the bit U of
its pages' entries at 0. The program loads from the kernel's data, stores to it, and jumps to its code; and, for
comparison, does the same where nothing is mapped, and to a page of its own that may only be read. The hardware
reports a cause (12: fetch, 13: load, 15: store) and the address in stval. It reports the same for a page that is the
kernel's and for a page that is not there: what is behind the line cannot even be seen.

`--without supervisor` sets U in the entry of the kernel's data page, one bit. The same load then returns the kernel's
secret, and the store overwrites it; the code beside it stays protected. All that stands between user space and the
kernel's memory is this bit, in each entry.

Under this project's kernel (`--machine host`, `--machine riscv`) a child makes each access in a process of its own,
with a handler that looks at what it is told: si_signo, si_code, si_addr, and on x86-64 the error code that the
processor pushed (bit 0: the page was present, bit 1: a write, bit 2: from user mode, bit 4: a fetch) and the number
of the trap. The address of the kernel is the kernel's half of the real processor on the host machine, so that fault
is the host's own (whose kernel says "present" of all of its half, lest one learn what is there). An address that is
not canonical (its upper bits are neither all 0 nor all 1) is refused before any walk: on x86-64 that is trap 13,
general protection, without an address; on RISC-V a page fault like the others.

What this does not show: what a processor does with the forbidden value before the fault is taken (Meltdown).
"""


class _Reach(NamedTuple):
    name: str
    probe: Probe


def measure(knobs: Knobs, progress: Progress) -> Figures:
    if knobs.machine == "board":
        return _on_board(knobs.on("supervisor"))
    progress("children reach out")
    return _under_kernel(knobs.machine)


# ---- the board


def _on_board(supervisor: bool) -> Figures:
    world = World(BASE, supervisor=supervisor)
    frames = world.frames
    page = frames.alloc((7).to_bytes(8, "little"))
    for root in world.roots:
        frames.map(root, READ_ONLY, page, spaces.READ | spaces.USER)
    reaches = [
        _Reach("the kernel's data", Probe(LOAD, world.data + 8)), _Reach("the kernel's data", Probe(STORE, world.data + 8)),
        _Reach("the kernel's code", Probe(LOAD, BASE)), _Reach("the kernel's code", Probe(FETCH, BASE)),
        _Reach("nothing", Probe(LOAD, NOTHING)), _Reach("nothing", Probe(STORE, NOTHING)),
        _Reach("nothing", Probe(FETCH, NOTHING)), _Reach("its own page", Probe(LOAD, READ_ONLY)),
        _Reach("its own page, read-only", Probe(STORE, READ_ONLY)), _Reach("its own page, not code", Probe(FETCH, READ_ONLY)),
    ]  # fmt: skip
    ran = world.run([each.probe for each in reaches], SECRET)
    rows = []
    for reach, (fault, value) in zip(reaches, results(ran, world.satp(0), len(reaches)), strict=True):
        cause, told = (fault.cause, fault.value) if fault else (0, 0)
        kind, address = reach.probe
        rows.append({"what": reach.name, "kind": kind, "address": address, "cause": cause, "value": told, "got": value})
    return {"machine": "board", "rows": rows}


# ---- under the kernel


def _under_kernel(machine: str) -> Figures:
    program = Program.of(machine)
    kernel_address, strange = KERNELS[program.arch]
    rights, flags = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    readable = program.call("mmap", 0, PAGE_SIZE, PROT_READ, flags, -1, 0)
    forbidden = program.call("mmap", 0, PAGE_SIZE, PROT_NONE, flags, -1, 0)
    own = program.call("mmap", 0, PAGE_SIZE, rights, flags, -1, 0)
    reaches: list[tuple[str, str, Value]] = [
        ("the kernel's half", LOAD, kernel_address), ("the kernel's half", STORE, kernel_address),
        ("the kernel's half", FETCH, kernel_address), ("not canonical", LOAD, strange), ("nothing, null", LOAD, 8),
        ("nothing", STORE, 0x1234_5000), ("its own page, read-only", STORE, readable),
        ("its own page, PROT_NONE", LOAD, forbidden), ("its own page, not code", FETCH, own), ("its own page", LOAD, own),
    ]  # fmt: skip
    caught = {signo: program.catch(signo) for signo in (SIGSEGV, SIGBUS)}
    kind, address = program.cell(), program.cell()
    for n, (_, _, place) in enumerate(reaches):
        with program.child():
            program.set(kind, n)
            program.set(address, place)
            _access(program, reaches[n][1], place)
    program.exit(0)
    told = {}
    for signo, handler in caught.items():
        program.handler(handler)
        told[signo] = [
            program.load(program.sum(handler[1], 0), 4), program.load(program.sum(handler[1], 8), 4),
            program.load(program.sum(handler[1], 16)),
            *(program.load(program.sum(handler[2], offset)) for offset in (_ERROR, _TRAP)),
        ]  # fmt: skip
        program.exit(1)
    with lab_kernel(machine) as kernel:
        *children, _ = run(kernel, program)
    rows = []
    for seen in children:
        name, what, _ = reaches[seen[kind]]
        rows.append({"what": name, "kind": what, "address": seen.unsigned(address), **_told(seen, told, program.arch)})
    return {"machine": machine, "rows": rows}


def _access(program: Program, kind: str, place: Value) -> None:
    if kind == STORE:
        program.store(place, 1)
    elif kind == LOAD:
        program.load(place)
    else:
        program.jump(place)


def _told(seen: Seen, told: dict[int, list[Any]], arch: str) -> dict[str, int]:
    """What the handler that ran was told; zeroes if none did."""
    cells = next((each for each in told.values() if seen[each[0]]), None)
    if cells is None:
        return dict.fromkeys(("signal", "code", "told", "error", "trap"), 0)
    signo, code, address, error, trap = (seen.unsigned(each) for each in cells)
    here = arch == "x86_64"
    return {"signal": signo, "code": code, "told": address, "error": error if here else 0, "trap": trap if here else 0}


# ---- what it shows


def draw(figures: Figures) -> Sequence[Chart]:
    rows: list[list[str | int]] = []
    if figures["machine"] == "board":
        for row in figures["rows"]:
            fault = CAUSES.get(row["cause"], str(row["cause"]))
            done = "done" if row["kind"] == STORE else f"done: {row['got']:#x}"
            rows.append([row["kind"], row["what"], f"{row['address']:#x}", fault or done])
        return [Table("What user mode may reach", ("access", "to", "at", "the hardware says"), rows)]
    x86 = figures["machine"] == "host"
    for row in figures["rows"]:
        if not row["signal"]:
            rows.append([row["kind"], row["what"], f"{row['address']:#x}", "done", "", *([""] if x86 else [])])
            continue
        error = [f"{row['trap']}: {row['error']:#x}"] if x86 else []
        code = CODES.get(row["code"], str(row["code"]))
        told = "the same" if row["told"] == row["address"] else f"{row['told']:#x}"
        rows.append([row["kind"], row["what"], f"{row['address']:#x}", code, told, *error])
    heads = ("access", "to", "at", "si_code", "si_addr", *(["trap: error"] if x86 else []))
    return [Table("What a handler of SIGSEGV is told", heads, rows)]


def verdict(figures: Figures) -> Verdict:
    rows = figures["rows"]
    kernels = [row for row in rows if row["what"].startswith("the kernel's")]
    if figures["machine"] == "board":
        leaked = [row for row in kernels if not row["cause"]]
        if leaked:
            return refuted(f"user mode had its way {len(leaked)} times; a load from the kernel returned {leaked[0]['got']:#x}")
        exact = all(row["value"] == row["address"] for row in kernels)
    else:
        exact = all(row["signal"] == SIGSEGV and row["told"] == row["address"] and row["code"] == 1 for row in kernels)
    own = [row for row in rows if row["what"] == "its own page"]
    if not exact or any(row.get("cause") or row.get("signal") for row in own):
        return refuted("the faults are not those of these accesses")
    return supported(
        f"all {len(kernels)} accesses to the kernel's memory faulted, and were reported with the address that was touched; "
        "the program's own page could be read"
    )


LAB = Lab(
    id="M3",
    name="reach",
    title="Touching the kernel from user mode",
    question="What happens to a program that reads, writes or runs the kernel's memory?",
    claim="Pages of the kernel are for supervisor mode only: an attempt of user mode to access kernel space makes the hardware "
    "raise a fault, and the kernel's memory stays whole.",
    machines=("board", "host", "riscv"),
    seconds=1,
    knobs=(switch("supervisor", "board: off lets user mode into the page of the kernel's data"),),
    off="--without supervisor",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
