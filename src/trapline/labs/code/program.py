"""Little user programs without a compiler: described once, made into an ELF file for either architecture.

    program = Program("x86_64")
    page = program.call("mmap", 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    program.store(page, 7)
    got = program.load(page)
    program.exit(0)
    seen = run(kernel, program)      # the cells of every process, as they were when it ended
    seen[0][got]

Every value lives in a `Cell`, eight bytes of the program's data, to which the code goes back at each step: slow, and plain to
read. Code is at TEXT (readable, executable), data at DATA (readable, writable). Arguments and addresses are numbers or cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.abi.arch import ABIS
from trapline.abi.signal import SA_RESTORER, SA_SIGINFO, SIGCHLD
from trapline.labs.code.elf import DATA, TEXT, static
from trapline.labs.code.emit import EMITTERS, Emitter
from trapline.scope.listener import Args, Listener

if TYPE_CHECKING:
    from trapline.embed import Kernel
    from trapline.kernel.mm.policy import Policy
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task

PATH = "/tmp/lab"
MARK = "sched_get_priority_max"  #: a call that does nothing with a number that means nothing
MARKED = 1000
ARCHITECTURES = {"host": "x86_64", "riscv": "riscv64"}  #: of the machines, by their names in `machines` of a lab


class Cell(NamedTuple):
    """Eight bytes of the program's data."""

    address: int


Value = int | Cell


class Program:
    """One program. Its methods append code; `call`, `load` and `cell` return the cell that will hold the value."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self._abi = ABIS[arch]
        self._emit: Emitter = EMITTERS[arch](TEXT)
        self._data = bytearray()
        self._labels = 0

    @classmethod
    def of(cls, machine: str) -> Program:
        """A program for what a machine runs."""
        return cls(ARCHITECTURES[machine])

    # ---- data

    def cell(self, value: int = 0) -> Cell:
        return Cell(self.put((value & (1 << 64) - 1).to_bytes(8, "little")))

    def put(self, data: bytes, align: int = 8) -> int:
        """Put bytes into the data; their address."""
        self._data += bytes(-len(self._data) % align)
        self._data += data
        return DATA + len(self._data) - len(data)

    @property
    def data_bytes(self) -> int:
        return len(self._data)

    # ---- code

    def set(self, cell: Cell, value: Value) -> None:
        self._get(0, value)
        self._emit.put(cell.address, 0)

    def add(self, cell: Cell, value: Value) -> None:
        self._get(0, cell)
        self._get(1, value)
        self._emit.add(0, 1)
        self._emit.put(cell.address, 0)

    def load(self, address: Value, size: int = 8) -> Cell:
        """Read memory."""
        cell = self.cell()
        self._get(1, address)
        self._emit.load(0, 1, size)
        self._emit.put(cell.address, 0)
        return cell

    def store(self, address: Value, value: Value, size: int = 8) -> None:
        self._get(0, value)
        self._get(1, address)
        self._emit.store(1, 0, size)

    def call(self, name: str, *arguments: Value) -> Cell:
        """A system call; its result, negative errno if it failed."""
        cell = self.cell()
        for n, each in enumerate(arguments):
            self._get(0, each)
            self._emit.argument(n, 0)
        self._emit.system_call(self._abi.numbers[name])
        self._emit.put(cell.address, 0)
        return cell

    def child(self) -> Child:
        """`with program.child() as status:`: what is inside is done by a child, and waited for; `status` is wait(2)'s."""
        return Child(self)

    def mark(self, number: int) -> None:
        """Tell `run`'s `marks` that the program has come here."""
        self.call(MARK, MARKED + number)

    def stack(self) -> Cell:
        """The stack pointer."""
        cell = self.cell()
        self._emit.stack(0)
        self._emit.put(cell.address, 0)
        return cell

    def fork(self) -> Cell:
        """As `call`: the child's number, 0 in the child."""
        return self.call("clone", SIGCHLD, 0, 0, 0, 0)

    def call_number(self, number: Cell, *arguments: Value) -> Cell:
        """A system call whose number is known when the program runs."""
        cell = self.cell()
        for n, each in enumerate(arguments):
            self._get(0, each)
            self._emit.argument(n, 0)
        self._get(0, number)
        self._emit.system_call_by(0)
        self._emit.put(cell.address, 0)
        return cell

    def jump(self, address: Value) -> Cell:
        """Call code; what it returns, if it returns."""
        cell = self.cell()
        self._get(0, address)
        self._emit.call(0)
        self._emit.put(cell.address, 0)
        return cell

    def sum(self, *values: Value) -> Cell:
        """A new cell."""
        cell = self.cell()
        self.set(cell, values[0])
        for each in values[1:]:
            self.add(cell, each)
        return cell

    def label(self) -> str:
        """A place that `here` will define."""
        self._labels += 1
        return f"label {self._labels}"

    def here(self, label: str | None = None) -> str:
        label = label or self.label()
        self._emit.code.label(label)
        return label

    def goto(self, label: str) -> None:
        self._emit.goto(label)

    def if_zero(self, value: Value, label: str) -> None:
        """Go on at `label` if the value is zero."""
        self._get(0, value)
        self._emit.if_zero(0, label)

    def times(self, count: int) -> Loop:
        """`with program.times(100):`: repeat what is inside."""
        return Loop(self, count)

    def exit(self, status: Value = 0) -> None:
        self.call("exit_group", status)

    def catch(self, signo: int) -> tuple[str, Cell, Cell]:
        """From here on, `signo` goes to (label, where struct siginfo will be, where the ucontext will be).

        The code from `here(label)` on is the handler: it begins by `handler`, and may return with `leave`.
        """
        label = self.label()
        restorer = self.label()
        flags = SA_SIGINFO | (SA_RESTORER if self._abi.restorer else 0)
        action = self.put(self._abi.pack_sigaction(0, flags, 0, 0))
        self._emit.address_of(0, label)
        self._emit.put(action, 0)
        if self._abi.restorer:
            after = self.label()
            self._emit.address_of(0, restorer)
            self._emit.put(action + 16, 0)
            self.goto(after)
            self.here(restorer)
            self._emit.system_call(self._abi.numbers["rt_sigreturn"])
            self.here(after)
        self.call("rt_sigaction", signo, action, 0, 8)
        return label, self.cell(), self.cell()

    def handler(self, caught: tuple[str, Cell, Cell]) -> None:
        """The beginning of a handler."""
        label, info, context = caught
        self.here(label)
        self._emit.enter(info.address, context.address)

    def leave(self) -> None:
        """The end of a handler: back to where the signal came."""
        self._emit.leave()

    def _get(self, register: int, value: Value) -> None:
        if isinstance(value, Cell):
            self._emit.get(register, value.address)
        else:
            self._emit.constant(register, value)

    # ---- the file

    def link(self) -> bytes:
        """The ELF file."""
        return static(self.arch, self._emit.code.link(), data_bytes=len(self._data) or 8, data=bytes(self._data))


class Loop:
    """The body of `Program.times`."""

    def __init__(self, program: Program, count: int) -> None:
        self._program, self._left = program, program.cell()
        program.set(self._left, count)
        self._begin, self._end = program.here(), program.label()
        program.if_zero(self._left, self._end)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *unused: object) -> None:
        self._program.add(self._left, -1)
        self._program.goto(self._begin)
        self._program.here(self._end)


class Child:
    """The body of `Program.child`."""

    def __init__(self, program: Program) -> None:
        self._program, self._status = program, program.cell()
        self._after = program.label()

    def __enter__(self) -> Cell:
        program, body = self._program, self._program.label()
        forked = program.fork()
        program.if_zero(forked, body)
        program.call("wait4", forked, self._status.address, 0, 0)
        program.goto(self._after)
        program.here(body)
        return self._status

    def __exit__(self, *unused: object) -> None:
        self._program.exit(0)
        self._program.here(self._after)


@dataclass(frozen=True)
class Seen:
    """A process at its end: `data` are the bytes of its program's data."""

    pid: int
    status: int  #: as wait(2) has it
    data: bytes

    def __getitem__(self, cell: Cell) -> int:
        """The value of a cell, as a signed number."""
        return self.unsigned(cell) - (self.unsigned(cell) >> 63 << 64)

    def unsigned(self, cell: Cell) -> int:
        return int.from_bytes(self.at(cell.address, 8), "little")

    def at(self, address: int, count: int) -> bytes:
        return self.data[address - DATA : address - DATA + count]


Marks = Callable[["Task", int], object]


class _Ends(Listener):
    """Keeps the data of every process that ends, and hears of marks."""

    def __init__(self, length: int, marks: Marks | None, policy: Policy | None) -> None:
        self._length, self._marks, self._policy = length, marks, policy
        self._data: dict[int, bytes] = {}
        self.seen: list[Seen] = []

    def spawned(self, task: Task) -> None:
        if self._policy is not None:
            task.mm.policy = self._policy

    def enter(self, task: Task, call: SystemCall, args: Args) -> None:
        if call.name == MARK and self._marks is not None and args[0] >= MARKED:
            self._marks(task, args[0] - MARKED)

    def exiting(self, task: Task) -> None:
        if task.mm is not None and task.tid == task.group.pid:
            self._data[task.tid] = task.mm.read(DATA, self._length)

    def exited(self, task: Task, status: int) -> None:
        if task.tid in self._data:
            self.seen.append(Seen(task.tid, status, self._data.pop(task.tid)))


def run(
    kernel: Kernel, program: Program, *, marks: Marks | None = None, policy: Policy | None = None, timeout: float = 60
) -> list[Seen]:
    """Run a program; every process of it, in the order in which they ended.

    marks: called with the task and the number of each `mark`, before the program goes on. policy: of its address space,
    which its children inherit. Raises TimeoutError.
    """
    return run_image(kernel, program.link(), program.data_bytes, marks=marks, policy=policy, timeout=timeout)


def run_image(
    kernel: Kernel, image: bytes, take: int = 8, *, marks: Marks | None = None, policy: Policy | None = None,
    timeout: float = 60,
) -> list[Seen]:  # fmt: skip
    """The same with an ELF file made elsewhere; `take`: how many bytes of DATA are wanted."""
    kernel.add_file(PATH, image, 0o755)
    ends = _Ends(take, marks, policy)
    kernel.subscribe(ends)
    try:
        kernel.run([PATH], timeout=timeout)
    finally:
        kernel.unsubscribe(ends)
    if kernel.timed_out:
        raise TimeoutError(f"the lab's program did not end in {timeout:g} s")
    return ends.seen
