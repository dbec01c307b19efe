"""Instruction traces of the RISC-V computer: what each instruction was, and what it did.

In a nutshell: a `Tracer` is the observer of a board's harts (machine/riscv/debug.py), called before each instruction. It notes
where the hart is; when it is called again it sees what has changed: registers written, a trap taken (an interrupt, if its cause
has the highest bit, comes behind the instruction). Accesses are told by the instruction's operands. As text, one line each:

    hart mode pc           bits      text                     registers, access, trap
    0 M 0000000000001008 f1402573 csrrs a0,mhartid,zero                  ; a0=0x1
    0 S 0000000080000962 7108     c.ld a0,32(a0)                         ; a0=0x3 ; load [0x80008158]8

Text is what `disasm.py` says; JSON has the same in the fields hart, mode, pc, bits, text, registers, memory, trap.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.code import raw_at
from trapline.machine.riscv.debug import Debug
from trapline.machine.riscv.disasm import F_NAMES, X_NAMES, disassemble
from trapline.machine.riscv.isa.decode import decode
from trapline.machine.riscv.trap import Trap

if TYPE_CHECKING:
    from trapline.machine.riscv.board import Board
    from trapline.machine.riscv.hart import Hart

MODES = {0: "U", 1: "S", 3: "M"}
_LOADS = {"lb": 1, "lbu": 1, "lh": 2, "lhu": 2, "lw": 4, "lwu": 4, "ld": 8, "flw": 4, "fld": 8, "lr.w": 4, "lr.d": 8}
_STORES = {"sb": 1, "sh": 2, "sw": 4, "sd": 8, "fsw": 4, "fsd": 8, "sc.w": 4, "sc.d": 8}
_COMPRESSED = {"lwsp": "lw", "ldsp": "ld", "fldsp": "fld", "swsp": "sw", "sdsp": "sd", "fsdsp": "fsd"}


class Filter(NamedTuple):
    """What to trace: pcs in [start, end), one hart or all (-1), these modes, at most `limit` instructions (-1: all)."""

    start: int = 0
    end: int = 1 << 64
    hart: int = -1
    modes: str = "USM"
    limit: int = -1


EVERYTHING = Filter()


def access(hart: Hart, raw: int) -> tuple[str, int, int] | None:
    """(kind, address, size) of the access that an instruction would make now; None if it makes none."""
    i = decode(raw)
    if i is None:
        return None
    name = i.op.name.removeprefix("c.")
    name = _COMPRESSED.get(name, name)
    address = hart.xs[i.rs1] + i.imm & st.MASK
    if name.startswith("amo"):
        return "amo", hart.xs[i.rs1], {"b": 1, "h": 2, "w": 4}.get(name[-1], 8)
    if name in _LOADS:
        return "load", address, _LOADS[name]
    return ("store", address, _STORES[name]) if name in _STORES else None


class Tracer:
    """`write(line)` gets each line, `text` or JSON."""

    def __init__(
        self, board: Board, write: Callable[[str], object], *, wanted: Filter = EVERYTHING, as_json: bool = False
    ) -> None:
        self._board, self._write, self._wanted, self._json = board, write, wanted, as_json
        self._left = wanted.limit
        #: of each hart, the instruction that it executes: what is known of it, the registers and the count of traps before it
        self._begun: list[tuple[dict[str, Any], bytes, int] | None] = [None] * len(board.harts.each)

    def start(self) -> None:
        """Look at every instruction from now on."""
        debug = Debug(trace=self._before)
        for hart in self._board.harts.each:
            hart.observe(debug)

    def stop(self) -> None:
        """Write what is not written, and look no more."""
        for hart in self._board.harts.each:
            self._finish(hart)
            hart.observe(None)

    def _before(self, hart: Hart) -> None:
        self._finish(hart)
        cpu, wanted = hart.cpu, self._wanted
        pc = hart.next & st.MASK
        mode = ("V" if cpu[at.VIRT] else "") + MODES[cpu[at.PRIV]]
        number = cpu[at.HARTID]
        here = wanted.start <= pc < wanted.end and mode[-1] in wanted.modes and wanted.hart in (-1, number)
        if not here or not self._left:
            return
        self._left -= 1
        known: dict[str, Any] = {"hart": number, "mode": mode, "pc": pc}
        try:
            raw = raw_at(hart, pc)
        except Trap:
            known |= {"bits": None, "text": "(cannot be fetched)"}
        else:
            known |= {"bits": raw, "text": disassemble(raw, pc)}
            found = access(hart, raw)
            if found is not None:
                known["memory"] = found
        self._begun[number] = known, hart.bytes_[8 * at.X : 8 * (at.F + 32)].tobytes(), cpu[at.TRAPS]

    def _finish(self, hart: Hart) -> None:
        """The instruction that was begun is done."""
        cpu = hart.cpu
        begun = self._begun[cpu[at.HARTID]]
        if begun is None:
            return
        self._begun[cpu[at.HARTID]] = None
        known, before, traps = begun
        old = memoryview(before).cast("Q")
        known["registers"] = {
            **{X_NAMES[n]: cpu[at.X + n] for n in range(1, 32) if cpu[at.X + n] != old[n]},
            **{F_NAMES[n]: cpu[at.F + n] for n in range(32) if cpu[at.F + n] != old[at.F - at.X + n]},
        }
        if cpu[at.TRAPS] != traps:
            supervisors = cpu[at.PRIV] == st.S
            known["trap"] = cpu[at.SCAUSE if supervisors else at.MCAUSE], cpu[at.STVAL if supervisors else at.MTVAL]
        self._write(json.dumps(known) if self._json else line(known))


def line(known: dict[str, Any]) -> str:
    """An instruction as text."""
    bits = "--------" if known["bits"] is None else f"{known['bits']:0{8 if known['bits'] & 3 == 3 else 4}x}"
    parts = [f"{name}={value:#x}" for name, value in known["registers"].items()]
    if "memory" in known:
        kind, address, size = known["memory"]
        parts.append(f"{kind} [{address:#x}]{size}")
    if "trap" in known:
        cause, value = known["trap"]
        parts.append(f"trap {cause:x} {value:x}")
    head = f"{known['hart']} {known['mode']} {known['pc']:016x} {bits:<8} {known['text']}"
    return f"{head:<60} ; {' ; '.join(parts)}" if parts else head


def parse_filter(text: str) -> Filter:
    """`from=ADDRESS,to=ADDRESS,hart=N,modes=USM,limit=N`. Raises ValueError."""
    found: dict[str, Any] = {}
    for each in text.split(",") if text else ():
        name, _, value = each.partition("=")
        if name == "modes" and value and not set(value) - set("USM"):
            found["modes"] = value
        elif name in ("from", "to", "hart", "limit"):
            found[{"from": "start", "to": "end"}.get(name, name)] = int(value, 0)
        else:
            raise ValueError(f"{each}: write from=ADDRESS, to=ADDRESS, hart=N, modes=USM or limit=N")
    return Filter(**found)
