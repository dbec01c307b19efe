"""Accesses to devices' registers from native code, by a short way: what the reference tier does, in one function.

Hot, measured: a store to the serial port costs 2 µs instead of 5. The long way (`Access.load`, `Access.store`) is
the specification: it is taken for the first access to a page, by guests, and while somebody watches accesses.

Bytes that follow one another to a register that only gathers them (`Posting`) need not even come here: after the first, native
code keeps them (*posted stores*), until it leaves for whatever reason.

Invariant: stores are posted only from an access here to the next instruction that the same hart leaves to the reference tier,
and not beyond the end of its run: so nobody has used the device between.
"""

from __future__ import annotations

from array import array
from trapline.typed import TYPE_CHECKING, Any, Protocol

from trapline.machine.contract import READ, WRITE
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.bus import Attention, BusError
from trapline.machine.riscv.code import Place
from trapline.machine.riscv.isa import i as base
from trapline.machine.riscv.jit import state
from trapline.machine.riscv.trap import ACCESS, CAUSES, Trap

if TYPE_CHECKING:
    from trapline.machine.riscv.jit.native import NativeHart

_POSTED_AT, _POSTED_COUNT, _POSTED_ROOM = state.POSTED_AT_WORD, state.POSTED_COUNT_WORD, state.POSTED_ROOM_WORD
_M64 = (1 << 64) - 1
#: The body of an instruction: bytes, the sign bit of what it loads (0: there is none), the kind of access.
_KINDS: dict[Any, tuple[int, int, int]] = {
    base.lb: (1, 0x80, READ), base.lh: (2, 0x8000, READ), base.lw: (4, 0x8000_0000, READ), base.ld: (8, 0, READ),
    base.lbu: (1, 0, READ), base.lhu: (2, 0, READ), base.lwu: (4, 0, READ),
    base.sb: (1, 0, WRITE), base.sh: (2, 0, WRITE), base.sw: (4, 0, WRITE), base.sd: (8, 0, WRITE),
}  # fmt: skip
#: A load or store: its name, bytes, sign bit, kind, register of the address, offset, register of the value, length.
Plain = tuple[str, int, int, int, int, int, int, int]


def plain(place: Place) -> Plain | None:
    """What a decoded place accesses; None if it is no load or store of an integer register."""
    _, i, length = place
    kind = _KINDS.get(i.body) if i.__class__ is not int else None
    if kind is None:
        return None
    return (i.op.name, *kind, i.rs1, i.imm, i.rs2 if kind[2] == WRITE else i.rd, length)


class Posting(Protocol):
    """A device with a register that only gathers bytes, for now."""

    def posts(self, offset: int) -> bool:
        """Whether a byte stored to the register there does nothing but join those before it."""

    def post(self, data: bytes) -> None:
        """Such bytes."""


def access(hart: NativeHart, pc: int, what: Plain) -> bool:
    """Execute the load or store at `pc`, if it goes to a device that was accessed this way before. Raises Trap, Attention."""
    name, size, sign, kind, rs1, offset, register, length = what
    cpu, xs = hart.cpu, hart.xs
    va = xs[rs1] + offset & _M64
    base_of = hart.device_pages.get((va >> 12, kind, cpu[at.PRIV], cpu[at.MSTATUS], cpu[at.SATP]))
    if base_of is None or cpu[at.VIRT] or hart.kept_out or hart.debug is not None:
        return False
    found = hart.bus.page(base_of)
    if found is None or va % size:
        return False
    first, device = found
    where = first + (va & 4095)
    if where + size > device.size:
        return False
    hart.steps[name] += 1
    hart.next = pc + length & _M64  # first: the device may reset the board
    try:
        if kind == READ:
            value = device.read(where, size) & (1 << 8 * size) - 1
            if register:
                xs[register] = (value ^ sign) - sign & _M64
            return True
        lines = cpu[at.LINES]
        device.write(where, size, xs[register] & (1 << 8 * size) - 1)
        if size == 1 and hart.posts_stores:
            _allow(hart, va, where, device)
    except BusError:
        raise Trap(CAUSES[kind, ACCESS], va) from None
    if cpu[at.LINES] != lines or not getattr(device, "quiet", False):
        raise Attention
    return True


def _allow(hart: NativeHart, va: int, where: int, device: Any) -> None:
    """Let native code post further stores to `va`, if they are of that kind."""
    posts = getattr(device, "posts", None)
    if posts is None or not posts(where):
        return
    cpu = hart.cpu
    hart.posting = device.post
    cpu[_POSTED_AT : _POSTED_AT + 4] = memoryview(array("Q", (va, cpu[at.PRIV], cpu[at.MSTATUS], cpu[at.SATP])))
    cpu[_POSTED_ROOM] = state.MOST_POSTED


def take_posted(hart: NativeHart) -> None:
    """Give the device what native code has kept."""
    count = hart.cpu[_POSTED_COUNT]
    data = bytes(hart.bytes_[state.POSTED : state.POSTED + count])
    hart.cpu[_POSTED_COUNT] = 0
    hart.posting(data)
