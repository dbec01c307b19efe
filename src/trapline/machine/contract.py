"""The contract between kernel and machine: Machine, Space, Context, and the kinds of trap.

In a nutshell: the kernel writes page tables into RAM, puts a `Context` (the registers of one thread of user code)
on a CPU with `Machine.resume`, and gets it back, trapped, from `Machine.wait`. A trap is described by plain
fields of the context, so that the hot path allocates nothing.

Invariants:
- A context is either *running* (between `resume` and the `wait` that returns it) or *stopped*. Only a stopped
  context's registers may be read or written, and they are the kernel's own copy: user code cannot change them.
- At most `Machine.cpus` contexts run at once; the kernel keeps count.
- A machine may return a context for no reason (`INTERRUPT`): the kernel simply resumes it.
- Whatever a machine caches of a page table is a TLB: it may be stale until `Space.flush` (or `settle`) returns, never after.
  Frames that are put after `Space.close` are not handed out again (`Frames.set_aside`) while what it had cached is in use.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from trapline.typed import Any, NamedTuple, Protocol

from trapline.machine.paging.entry import Format
from trapline.machine.ram import Ram

# Kinds of trap (Context.kind).
NONE = 0  #: never ran
SYSCALL = 1  #: `entry` says by which instruction; the number and arguments are in `regs`
FAULT = 2  #: page fault: `addr`, `access`, `code` (the hardware's error code, as the kernel's own tables explain it)
EXCEPTION = 3  #: `vector` (the architecture's number), `code` (error code or 0), `addr` where one applies
INTERRUPT = 4  #: timer, kick or nothing at all
DEAD = 5  #: the space is gone (its hardware failed or user code broke the protocol); `reason` says why

# How a system call came in (Context.entry).
ENTRY_SYSCALL = 0
ENTRY_INT80 = 1
ENTRY_VSYSCALL = 2  #: x86-64 vsyscall page; the return address is already popped
ENTRY_ECALL = 3

# What a faulting access wanted (Context.access).
READ, WRITE, EXEC = 1, 2, 4


class Arch(NamedTuple):
    """One user-visible architecture: where its calling convention keeps things in `Context.regs`."""

    name: str  #: as uname(2) reports it: "x86_64", "riscv64"
    paging: Format
    nregs: int
    nr: int  #: index of the register that holds the system-call number
    args: tuple[int, int, int, int, int, int]
    ret: int
    pc: int
    sp: int
    tls: int  #: the register that CLONE_SETTLS sets
    syscall_len: int  #: bytes to step back over the system-call instruction to restart it
    task_size: int  #: first address beyond user space
    fp_size: int  #: bytes of `Context.get_fp()`
    nominal_size: int = 0  #: where user space ends by the architecture's rules, if the machine keeps the top of it for itself
    isa: str = ""  #: riscv64: the instruction set, as /proc/cpuinfo has it: "rv64imafdc_zicsr_..."


class Context:
    """Registers and last trap of one thread of user code. Machines subclass it to add their own state."""

    __slots__ = (
        "access", "addr", "code", "entry", "kind", "owner", "reason", "regs", "space", "vector",
    )  # fmt: skip

    def __init__(self, space: Space, nregs: int) -> None:
        self.space = space
        self.regs: array[int] = array("Q", bytes(8 * nregs))
        self.kind = NONE
        self.entry = ENTRY_SYSCALL
        self.addr = 0
        self.access = 0
        self.code = 0
        self.vector = 0
        self.reason = ""
        self.owner: Any = None  #: whatever the kernel hangs here: its task

    def get_fp(self) -> bytes:
        """The FP/vector state as the architecture's signal frame holds it (x86-64: an XSAVE image)."""
        raise NotImplementedError

    def set_fp(self, image: bytes) -> bool:
        """Load an FP/vector image that user code may have written; False (and no change) if it is malformed."""
        raise NotImplementedError

    def reset_fp(self) -> None:
        """Set the FP/vector state a new program starts with."""
        raise NotImplementedError

    def copy_from(self, other: Context) -> None:
        """Become a copy of the stopped context `other` (registers and FP state), as fork and clone need."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what the machine keeps for this stopped context."""
        raise NotImplementedError


class NoRoom(Exception):
    """The machine cannot run one more address space now; the text says why."""


class Stay(NamedTuple):
    """One stay in user mode, as the machine measured it. Times are nanoseconds; what is not known is -1."""

    late_ns: int  #: so long ago it ended: what lies between is the machine's own
    user_ns: int  #: so long it was
    instructions: int  #: that were executed
    cycles: int  #: of the CPU's clock, or of the counter that stands for it


class Space(Protocol):
    """One address space as the machine sees it: a root table and what is cached of it."""

    root: int  #: frame number of the top-level table

    def flush(self, start: int, end: int, *, downgrade: bool = False) -> None:
        """Forget what is cached of [start, end); on return no CPU uses a stale entry.

        downgrade: the entries there only lost write permission (copy-on-write, write-protect), so a machine
        may keep them, read-only.
        """

    def reload(self, start: int, end: int) -> None:
        """`flush`, where other entries stand in place of those that were there: a machine may load them at once."""

    def hint(self, start: int, end: int, leaf: int = 0) -> None:
        """The kernel expects [start, end) to be used soon: a machine may load its entries early.

        leaf: the entry of the page at `start`, if the entries of all the pages map the frames that follow its own, with the
        same rights; 0: look them up.
        """

    def hint_like(self, other: Any, again: bool) -> None:
        """This is a copy of `other`, a space of the same machine: what that has loaded to read or run is needed here too.

        `again`: neither the leaves of `other` have changed since the last copy, nor which of them a copy has too.
        """

    def secure(self) -> None:
        """Have what it takes to run in this space, while the caller can still refuse. Raises NoRoom.

        A machine that has no cause to doubt may put it off to the first `resume`; what fails there comes back as DEAD.
        """

    def close(self) -> None:
        """The space is gone; none of its contexts is running. What it had cached may be in use until `settle` returns,
        and frames that it mapped may be put nevertheless."""

    def settle(self) -> None:
        """After `close`: return when nothing that was cached can be used any more."""


class Machine(Protocol):
    arch: Arch
    ram: Ram
    cpus: int
    prefers_runs: bool  #: pages that lie together in RAM are faster to use than scattered ones
    roomy: int  #: so many contexts run without taking the CPU that the kernel itself runs on
    ready: list[tuple[int, int]]  #: (fd, epoll mask) that `wait` found ready; the kernel takes and clears it
    #: told, inside any call of the machine's, which space is gone and why, then `wait` returns soon; its running contexts come
    #: back as DEAD besides. It must only take note
    on_lost: Callable[[Space, str], None] | None

    def new_space(self, root: int) -> Space: ...

    def new_context(self, space: Space) -> Context: ...

    def resume(self, context: Context) -> None:
        """Run `context` in user mode. Never waits and never fails: what goes wrong comes back as a trap."""

    def wait(self, deadline_ns: int | None) -> Context | None:
        """The next context that trapped, or None when the deadline (CLOCK_MONOTONIC, ns) has passed, or
        when a watched host descriptor became ready (see `ready`). A deadline of 0 only looks."""

    def kick(self, context: Context) -> None:
        """Make a running context trap soon with INTERRUPT; no effect, or one spurious trap, if it has already."""

    def watch(self, fd: int, mask: int) -> None:
        """Let readiness of a host descriptor end `wait` (epoll mask, edge-triggered); mask 0 stops watching."""

    def ring(self) -> None:
        """Make a `wait` in progress, or the next one, return soon. Safe from signal handlers and threads."""

    def measure(self, on: bool) -> None:
        """Measure stays in user mode from now on, or no longer: it costs a little."""

    def stay(self, context: Context) -> Stay | None:
        """The stay that ended with the trap of `context`, which `wait` has just returned: ask once, and before `resume`.

        None: it was not measured.
        """

    def describe(self) -> Sequence[tuple[str, str]]:
        """(what, value) lines for people: the machine's name, its user mode, its caches."""

    def close(self) -> None:
        """End everything the machine started. Idempotent."""
