"""A program that maps a file twice, and shares memory with its child: which faults are major, whose frames are whose."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.fcntl import AT_FDCWD, O_RDONLY
from trapline.abi.mman import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from trapline.kernel.mm.policy import Policy
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, run
from trapline.machine.paging.walk import walk

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

FILE = b"/etc/passwd"  #: a file of the host's that every root shows
PAGE, WORD = 4096, 0x5A
STAGES = ("mapped", "read", "mapped again and read", "written by the child")


def share(machine: str, policy: Policy) -> list[dict[str, int | str]]:
    """What each stage added: minor and major faults, pages copied; and whether what it maps is the frame that is expected."""
    program, cells = _program(machine)
    seen: list[tuple[int, int, int]] = []
    frames: list[dict[str, int]] = []

    def mark(task: Task, stage: int) -> None:
        mm = task.mm
        seen.append((mm.minflt, mm.majflt, mm.cow_pages))
        frames.append({name: _frame(task, cell) for name, cell in cells.items()})

    with lab_kernel(machine) as kernel:
        _, parent = run(kernel, program, marks=mark, policy=policy)
    rows: list[dict[str, int | str]] = []
    for n, stage in enumerate(STAGES[1:], 1):
        own = n < 3  # the last mark is the child's, whose counts begin with its fork
        minor, major, copied = (now - (before if own else 0) for now, before in zip(seen[n], seen[n - 1], strict=True))
        rows.append({"stage": stage, "minor": minor, "major": major, "copied": copied})
    rows[1]["same"] = int(frames[2]["first"] == frames[2]["second"] != -1)
    rows[2]["same"] = int(frames[3]["shared"] == frames[2]["shared"] != -1 and parent[cells["result"]] == WORD)
    return rows


def _frame(task: Task, cell: Cell) -> int:
    """The frame behind the address that a cell holds; -1: none."""
    mm = task.mm
    address = int.from_bytes(mm.read(cell.address, 8), "little")
    found = walk(mm.ram.words, mm.tables.root, address, mm.tables.fmt)
    return mm.tables.fmt.pfn(found.entry) if found is not None else -1


def _program(machine: str) -> tuple[Program, dict[str, Cell]]:
    program = Program.of(machine)
    cells = {name: program.cell() for name in ("first", "second", "shared", "result")}
    shared = program.call("mmap", 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
    program.set(cells["shared"], shared)
    program.store(shared, 1)
    fd = program.call("openat", AT_FDCWD, program.put(FILE + b"\0"), O_RDONLY, 0)
    program.set(cells["first"], program.call("mmap", 0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0))
    program.mark(0)
    program.load(cells["first"])
    program.mark(1)
    program.set(cells["second"], program.call("mmap", 0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0))
    program.load(cells["second"])
    program.mark(2)
    child = program.label()
    program.if_zero(program.fork(), child)
    program.call("wait4", -1, 0, 0, 0)
    program.set(cells["result"], program.load(shared))
    program.exit(0)
    program.here(child)
    program.store(shared, WORD)
    program.mark(3)
    program.exit(0)
    return program, cells
