"""C1: a program gives up system calls, and cannot have them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from trapline.abi import seccomp as s
from trapline.abi.arch import ABIS
from trapline.abi.errno import EBADF, EPERM
from trapline.abi.prctl import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
from trapline.abi.signal import SIGKILL, SIGSYS
from trapline.labs.code.kernel import lab_kernel
from trapline.labs.code.program import Cell, Program, Value, run
from trapline.labs.framework.charts import Chart, Steps, Table
from trapline.labs.framework.lab import Figures, Knobs, Lab, Progress, Verdict, refuted, supported, switch

_INSTRUCTION = Struct("<HBBI")  #: struct sock_filter: code, jump if true, jump if false, constant
_PROGRAM = Struct("<HHIQ")  #: struct sock_fprog: how many, padding, where
_NUMBER, _ARCH, _FIRST = 0, 4, 16  #: offsets in struct seccomp_data: of the call, the architecture, its first argument
AF_UNIX, SOCK_STREAM = 1, 1

EXPLAIN = """
A program that has read its configuration and opened its files needs few system calls from then on. With seccomp(2) it
hands the kernel a filter, a small program of classic BPF that is run at every call, before the call: it sees the
number, the architecture and the six arguments as numbers, and its answer is to allow, to refuse with an errno of its
choice, or to kill.

The filter of this lab refuses getuid with EPERM, allows write to descriptor 1 and refuses it to others with EBADF,
kills for socket, and allows the rest. Children try it: the calls themselves; a grandchild, which has inherited it; a
child that installs a second filter that allows everything (all filters are run, and the strictest answer counts, so
nothing comes back); one that calls socket; and one in the older strict mode, which allows read, write, exit and
sigreturn, and kills for anything else.

Why numbers only: a filter that looked at memory (a path, say) would look before the kernel does, and another thread
could change the memory in between. So seccomp narrows the kernel's attack surface, but does not know files; that is
for other mechanisms.

`--without filter` lets the children make the same calls without installing anything.
"""
#: what is tried: name -> (in words, the result with the filter; None: whatever is not negative)
TRIES = {
    "getuid": ("getuid()", -EPERM.number),
    "out": ("write(1, ...)", 1),
    "err": ("write(2, ...)", -EBADF.number),
    "other": ("getppid()", None),
    "inherited": ("getuid() in a grandchild", -EPERM.number),
    "loosened": ("getuid() after a filter that allows all", -EPERM.number),
}


def bpf(arch: str) -> bytes:
    """The filter."""
    numbers, audit = ABIS[arch].numbers, ABIS[arch].audit
    load, equal, answer = s.BPF_LD | s.BPF_W | s.BPF_ABS, s.BPF_JMP | s.BPF_JEQ | s.BPF_K, s.BPF_RET | s.BPF_K
    lines = [
        (load, 0, 0, _ARCH), (equal, 1, 0, audit), (answer, 0, 0, s.SECCOMP_RET_KILL_PROCESS),
        (load, 0, 0, _NUMBER),
        (equal, 0, 1, numbers["getuid"]), (answer, 0, 0, s.SECCOMP_RET_ERRNO | EPERM.number),
        (equal, 0, 1, numbers["socket"]), (answer, 0, 0, s.SECCOMP_RET_KILL_PROCESS),
        (equal, 0, 3, numbers["write"]), (load, 0, 0, _FIRST), (equal, 1, 0, 1),
        (answer, 0, 0, s.SECCOMP_RET_ERRNO | EBADF.number),
        (answer, 0, 0, s.SECCOMP_RET_ALLOW),
    ]  # fmt: skip
    return b"".join(_INSTRUCTION.pack(*each) for each in lines)


class _Children:
    """The program: children, each of which leaves what it saw in cells of its own."""

    def __init__(self, machine: str, on: bool) -> None:
        self.program = Program.of(machine)
        self._on = on
        code = bpf(self.program.arch)
        self._filter = self._put(code)
        self._all = self._put(_INSTRUCTION.pack(s.BPF_RET | s.BPF_K, 0, 0, s.SECCOMP_RET_ALLOW))
        self._text = self.program.put(b".")
        self.results: dict[str, Cell] = {}
        bodies = {
            "calls": self._calls, "forks": self._forks, "loosens": self._loosens, "socket": self._socket,
            "strict": self._strict,
        }  # fmt: skip
        self.ends = {name: self._child(body) for name, body in bodies.items()}
        self.program.exit(0)

    def _put(self, code: bytes) -> int:
        where = self.program.put(code)
        return self.program.put(_PROGRAM.pack(len(code) // _INSTRUCTION.size, 0, 0, where))

    def _child(self, body: Callable[[], None]) -> Cell:
        """Its wait(2) status."""
        with self.program.child() as status:
            body()
        return status

    def _install(self, what: int) -> None:
        if self._on:
            self.program.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            self.program.call("seccomp", s.SECCOMP_SET_MODE_FILTER, 0, what)

    def _try(self, name: str, call: str, *arguments: Value) -> None:
        self.results[name] = self.program.call(call, *arguments)

    def _calls(self) -> None:
        self._install(self._filter)
        self._try("getuid", "getuid")
        self._try("out", "write", 1, self._text, 1)
        self._try("err", "write", 2, self._text, 1)
        self._try("other", "getppid")

    def _forks(self) -> None:
        self._install(self._filter)
        self._child(lambda: self._try("inherited", "getuid"))

    def _loosens(self) -> None:
        self._install(self._filter)
        self._install(self._all)
        self._try("loosened", "getuid")

    def _socket(self) -> None:
        self._install(self._filter)
        self.program.call("socket", AF_UNIX, SOCK_STREAM, 0)

    def _strict(self) -> None:
        if self._on:
            self.program.call("prctl", PR_SET_SECCOMP, s.SECCOMP_MODE_STRICT, 0, 0, 0)
        self.program.call("write", 1, self._text, 1)
        self.program.call("getppid")


def measure(knobs: Knobs, progress: Progress) -> Figures:
    children = _Children(knobs.machine, knobs.on("filter"))
    with lab_kernel(knobs.machine) as kernel:
        progress("children try")
        *others, parent = run(kernel, children.program)
    results = {}
    for name, cell in children.results.items():
        values = [each[cell] for each in others if each[cell]]  # the child that made the call, and its own children
        results[name] = values[0] if values else 0
    ends = {name: parent[cell] for name, cell in children.ends.items()}
    length = len(bpf(children.program.arch)) // _INSTRUCTION.size
    return {"filter": knobs.on("filter"), "length": length, "results": results, "ends": ends}


def draw(figures: Figures) -> Sequence[Chart]:
    rows = []
    for name, (what, _) in TRIES.items():
        result = figures["results"][name]
        error = {-EPERM.number: "EPERM", -EBADF.number: "EBADF"}.get(result)
        rows.append([what, error or str(result)])
    ends = figures["ends"]
    rows += [["socket()", _end(ends["socket"])], ["strict mode: write, then getppid()", _end(ends["strict"])]]
    steps = [
        (0, "write(2, ...)", ""), (1, "filter: the number is write, the argument not 1", "RET_ERRNO EBADF"),
        (0, "gets EBADF", ""),
    ] if figures["filter"] else [(0, "write(2, ...)", ""), (1, "the handler runs", ""), (0, "gets 1", "")]  # fmt: skip
    title = f"A filter of {figures['length']} instructions" if figures["filter"] else "No filter"
    return [Table(title, ("call", "result"), rows), Steps("", ("program", "kernel"), steps)]


def _end(status: int) -> str:
    return {SIGSYS: "killed: SIGSYS", SIGKILL: "killed: SIGKILL"}.get(status & 0x7F, "lives" if not status else hex(status))


def verdict(figures: Figures) -> Verdict:
    results, ends = figures["results"], figures["ends"]
    wrong = [what for name, (what, wanted) in TRIES.items() if wanted is not None and results[name] != wanted]
    if wrong:
        return refuted(f"not refused: {', '.join(wrong)}")
    if ends["socket"] & 0x7F != SIGSYS or ends["strict"] & 0x7F != SIGKILL or results["other"] < 0:
        return refuted(f"the children ended with {ends}")
    return supported(
        "calls were refused by number and by argument, in a grandchild too, and after a second filter that allows all; a "
        "forbidden call killed (SIGSYS), and strict mode killed for everything else (SIGKILL)"
    )


LAB = Lab(
    id="C1",
    name="seccomp",
    title="A program gives up system calls",
    question="Can a program make its own way into the kernel narrower, for good?",
    claim="Seccomp lets a process restrict the system calls that it may make, by filters of its own that the kernel runs at "
    "each call.",
    machines=("host", "riscv"),
    seconds=1,
    knobs=(switch("filter", "off: nothing is installed"),),
    off="--without filter",
    explain=EXPLAIN,
    measure=measure,
    draw=draw,
    verdict=verdict,
)
