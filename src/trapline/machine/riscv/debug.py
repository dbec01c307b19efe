"""What somebody outside wants to see of the harts: where to stop, which accesses to stop after, each instruction.

A hart without an observer pays nothing. With one, the reference tier looks before each instruction. Native tiers go on running:
the records of instructions to stop at lead out of native code, pages with watched bytes are kept out of the translation arrays,
and all misses of the arrays are served by the reference tier, so that it sees every page that is mapped. Tracing is the
reference tier's alone.

A stop leaves the instruction unexecuted, for an access too. What devices and page walks do to memory is not seen. Nothing is
written to guest memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.machine.contract import EXEC
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Held

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart


class Watch(NamedTuple):
    """Virtual addresses [start, end), and the kinds of access to stop before: READ | WRITE."""

    start: int
    end: int
    access: int


class Hit(NamedTuple):
    """An access that a watch has waited for."""

    watch: Watch
    address: int  #: the first byte of both


class Debug:
    """An observer of all harts. `breaks`: virtual addresses of instructions."""

    def __init__(
        self, breaks: Iterable[int] = (), watches: Iterable[Watch] = (), trace: Callable[[Hart], None] | None = None
    ) -> None:
        self.breaks = self.known = frozenset(breaks)  #: `breaks` may be made fewer while it is in use
        self.watches = tuple(watches)
        self.trace = trace  #: called before each instruction, at `hart.next`
        self.pages = frozenset(
            page for each in self.watches for page in range(each.start & -4096, each.end, 4096)
        )  #: kept out of the translation arrays
        self.passing: tuple[int, int] | None = None  #: (hart, pc) of an instruction to execute whatever it is
        self._exempt = False  # the present instruction is that one
        self.hit: Hit | None = None
        self.quiet = False  #: look at nothing for now
        self._records: dict[int, frozenset[int]] = {}
        for pc in self.breaks:
            page = pc & -4096
            self._records[page] = self._records.get(page, frozenset()) | {(pc & 4095) >> 1}

    def records(self, page: int) -> frozenset[int]:
        """The half-words of a page at which instructions are to stop."""
        return self._records.get(page, frozenset())

    def stops(self, hart: Hart, pc: int) -> bool:
        """Whether to stop before the instruction at `pc`."""
        passing, self.passing = self.passing, None
        self._exempt = passing == (hart.cpu[at.HARTID], pc)
        return pc in self.breaks and not self._exempt and not self.quiet

    def access(self, address: int, size: int, access: int) -> None:
        """An access is about to be made. Raises Held, if that is what is waited for; `hit` says why."""
        if access & EXEC or self.quiet or self._exempt:
            return
        for each in self.watches:
            if address < each.end and each.start < address + size and access & each.access:
                self.hit = Hit(each, max(address, each.start))
                raise Held
