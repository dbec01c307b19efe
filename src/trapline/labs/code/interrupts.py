"""Programs for the bare board that are interrupted again and again, and note how long after the cause each step comes.

A log of three numbers for each interrupt, all counts of instructions retired: at the first instruction of the handler that is
to have it, when that knows where it came from, and when it has seen to it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from trapline.labs.code import bare
from trapline.labs.code.text import assemble
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.addresses import RAM_BASE
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.devices.registers import words

LOG, BELL, SOURCE = RAM_BASE + 0x10_0000, 0x1100_0000, 20
TIMER, EXTERNAL = "timer", "device"
_ENTRY = 24


class Path(NamedTuple):
    """From the cause to the handler. `forwarded`: M-mode takes it and hands it to S-mode by setting a bit of mip."""

    name: str
    cause: str
    mode: str
    forwarded: bool = False


PATHS = (
    Path("timer, taken in M", TIMER, "m"), Path("timer, M hands it to S", TIMER, "s", True),
    Path("timer of S (Sstc)", TIMER, "s"),
    Path("device, taken in M", EXTERNAL, "m"), Path("device, M hands it to S", EXTERNAL, "s", True),
    Path("device, delegated to S", EXTERNAL, "s"),
)  # fmt: skip


class Interrupt(NamedTuple):
    """Instructions from the moment that the cause was there."""

    entry: int
    known: int
    done: int


class Bell:
    """A device that raises its line at irregular times, until it is written to. It keeps the count of instructions at each."""

    size = 0x1000

    def __init__(self, board: Board) -> None:
        self._board = board
        self._wire = board.wire(SOURCE)
        self._next, self._count = 40, 0
        self._up = False
        self.rung: list[int] = []
        board.harts.deadlines.append(lambda: None if self._up else self._next)
        board.harts.advance.append(self._look)

    def _look(self) -> None:
        if not self._up and self._board.harts.now() >= self._next:
            self._up = True
            self.rung.append(self._board.harts.each[0].cpu[at.INSTRET])
            self._wire(True)

    def read(self, offset: int, size: int) -> int:
        words(offset, size)
        return int(self._up)

    def write(self, offset: int, size: int, value: int) -> None:
        words(offset, size)
        self._up = False
        self._wire(False)
        self._count += 1
        self._next = self._board.harts.now() + 9 + self._count * 5 % 11


class Alarm:
    """Notes the count of instructions at which a timer becomes due: the machine's (its line), or Sstc's."""

    def __init__(self, board: Board) -> None:
        self._board, self._due = board, False
        self.rung: list[int] = []
        board.harts.advance.append(self._look)

    def _look(self) -> None:
        harts = self._board.harts
        cpu = harts.each[0].cpu
        sstc = cpu[at.MENVCFG] & st.STCE and harts.now() >= cpu[at.STIMECMP]
        due = bool(sstc or cpu[at.LINES] >> t.MTI & 1)
        if due and not self._due:
            self.rung.append(cpu[at.INSTRET])
        self._due = due


_START = """
    la t0, machine_trap
    csrw mtvec, t0
    la t0, supervisor_trap
    csrw stvec, t0
    li s11, LOG
    li t0, -1
    csrw pmpaddr0, t0
    li t0, 31
    csrw pmpcfg0, t0
    li t0, -1
    csrw mcounteren, t0
    li t0, DELEGATED
    csrw mideleg, t0
    li t0, STCE
    csrw menvcfg, t0
    li t0, PLIC + SOURCE_PRIORITY
    li t1, 1
    sw t1, 0(t0)
    li t0, PLIC + ENABLES
    li t1, SOURCE_BIT
    sw t1, 0(t0)
    li t0, ENABLED
    csrw mie, t0
    li s9, BELL
    li s8, PLIC + CLAIM   # claim and complete
    li s7, MTIMECMP
    li s6, MTIME
    SET_TIMER
    la t0, loop
    csrw mepc, t0
    li t0, STATUS
    csrw mstatus, t0
    li s10, ROUNDS
    li s5, COUNT
    mret
loop:
    MASK
    li t1, MASKED
masked: addi t1, t1, -1
    bgtz t1, masked
    UNMASK
    li t1, 8
open: addi t1, t1, -1
    bgtz t1, open
    addi s10, s10, -1
    bnez s10, loop
finish:
    li t0, FINISHER
    li t1, PASS
    sw t1, 0(t0)
.align 4
machine_trap:
    MACHINE
.align 4
supervisor_trap:
    HANDLE
"""
#: t6, t5, t4 are the handlers' own, so that nothing need be saved
_TIMER = """
    csrr t6, {counter}
    csrr t5, {mode}cause
    csrr t5, {counter}
    SET_TIMER
    {clear}
    csrr t4, {counter}
"""
_EXTERNAL = """
    csrr t6, {counter}
    csrr t5, {mode}cause
    lw t3, 0(s8)                # claim: which source?
    csrr t5, {counter}
    sw zero, 0(s9)              # the device lets go of its line
    sw t3, 0(s8)                # complete
    {clear}
    csrr t4, {counter}
"""
_NOTE = """
    sd t6, 0(s11)
    sd t5, 8(s11)
    sd t4, 16(s11)
    addi s11, s11, 24
    addi s5, s5, -1
    beqz s5, finish
    {mode}ret
"""
_SET_TIMER = {"m": "ld t3, 0(s6)\n addi t3, t3, 13\n sd t3, 0(s7)", "s": "csrr t3, time\n addi t3, t3, 13\n csrw stimecmp, t3"}
#: M-mode hands an interrupt on: it silences the cause, as S-mode cannot, and sets S-mode's bit
_HAND_TIMER = "csrw mscratch, t3\n li t3, -1\n sd t3, 0(s7)\n li t3, STIP\n csrs mip, t3\n csrr t3, mscratch\n mret"
_HAND_DEVICE = "csrw mscratch, t3\n li t3, MEIE\n csrc mie, t3\n li t3, SEIP\n csrs mip, t3\n csrr t3, mscratch\n mret"
#: a call from S-mode takes its bit back, and opens the cause again
_TAKE_BACK = """
    csrw mscratch, t3
    csrr t3, mcause
    bltz t3, hand
    li t3, STIP + SEIP
    csrc mip, t3
    li t3, MEIE
    csrs mie, t3
    csrr t3, mepc
    addi t3, t3, 4
    csrw mepc, t3
    csrr t3, mscratch
    mret
hand: csrr t3, mscratch
"""


def run(path: Path, *, masked: int, count: int, enabled: bool = True, rounds: int = 40_000) -> list[Interrupt]:
    """Let the board be interrupted `count` times, unless interrupts are not `enabled`; `masked`: how many instructions at a
    time its program does with interrupts off."""
    device = path.cause == EXTERNAL
    made = assemble(_text(path, masked), RAM_BASE, bare.PLACES | _names(path, masked, count, enabled, rounds))
    bells: list[Bell | Alarm] = []

    def prepare(board: Board) -> None:
        bells.append(Bell(board) if device else Alarm(board))
        if device:
            board.bus.attach(BELL, bells[0])  # type: ignore[arg-type]  # it is the bell

    memory, _ = bare.run(made, most=80 * rounds + rounds * masked, prepare=prepare)
    at_log = LOG - RAM_BASE
    log = [entry for entry in struct.iter_unpack("<3Q", memory[at_log : at_log + _ENTRY * count]) if entry[0]]
    return [Interrupt(*(each - cause for each in entry)) for cause, entry in zip(bells[0].rung, log, strict=False)]


def _text(path: Path, masked: int) -> str:
    mode, device = path.mode, path.cause == EXTERNAL
    counter = "minstret" if mode == "m" else "instret"
    clear = "ecall" if path.forwarded else ""
    handler = (_EXTERNAL if device else _TIMER).format(mode=mode, counter=counter, clear=clear) + _NOTE.format(mode=mode)
    machine = _TAKE_BACK + (_HAND_DEVICE if device else _HAND_TIMER) if path.forwarded else handler
    timer = _SET_TIMER["s" if mode == "s" and not path.forwarded else "m"] if not device else ""
    status = "mstatus" if mode == "m" else "sstatus"
    text = _START.replace("UNMASK", f"csrsi {status}, {8 if mode == 'm' else 2}" if masked else "")
    text = text.replace(" MASK\n", f" csrci {status}, {8 if mode == 'm' else 2}\n" if masked else "\n")
    text = text.replace("MACHINE", machine if mode == "m" or path.forwarded else "mret")
    return text.replace("HANDLE", handler if mode == "s" else "sret").replace("SET_TIMER", timer)


def _names(path: Path, masked: int, count: int, enabled: bool, rounds: int) -> dict[str, int]:
    straight_to_s = path.mode == "s" and not path.forwarded
    to_s = st.STIP | st.SEIP
    wanted = to_s | (0 if straight_to_s else 1 << t.MTI | 1 << t.MEI)
    status = st.MPIE | (3 << st.MPP_SHIFT if path.mode == "m" else st.S << st.MPP_SHIFT | st.SIE)
    return {
        "LOG": LOG, "BELL": BELL, "SOURCE_BIT": 1 << SOURCE, "SOURCE_PRIORITY": 4 * SOURCE,
        "DELEGATED": to_s if path.mode == "s" else 0, "STCE": st.STCE if straight_to_s else 0,
        "ENABLED": wanted if enabled else 0, "STATUS": status, "ROUNDS": rounds, "COUNT": count,
        "MASKED": masked // 2, "STIP": st.STIP, "SEIP": st.SEIP, "MEIE": 1 << t.MEI,
        "ENABLES": 0x2000 + 0x80 * straight_to_s, "CLAIM": 0x20_0004 + 0x1000 * straight_to_s,
    }  # fmt: skip
