"""A network card for the bare board, and three drivers for it: by polling, by interrupts, and by NAPI's hybrid of both.

The card's registers, words: 0 how many packets wait in it; 4 take one (its number from 1; 0: none); 8 whether it may interrupt;
12 written by the application with the number of a packet that it is done with. Its line is high while packets wait and it may.

A driver does its packets' work in the main loop. What is left goes to other work, which is counted.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from trapline.labs.code import bare
from trapline.labs.code.text import assemble
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.addresses import PLIC, RAM_BASE
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.devices.registers import words
from trapline.machine.riscv.harts import PER_TICK

CARD, SOURCE, QUEUE, STACK = 0x1100_0000, 20, RAM_BASE + 0x10_0000, RAM_BASE + 0x20_0000
RING = 64  #: packets that the card holds; more are lost. So does the interrupt driver's queue
POLLING, INTERRUPTS, HYBRID = "polling", "interrupts", "hybrid"
TURN = 20  #: instructions of other work when the hybrid driver has used its budget up


class Load(NamedTuple):
    """`rate`: packets in 10 000 instructions; `work`: instructions that the application spends on each."""

    rate: int
    work: int
    units: int


class Outcome(NamedTuple):
    offered: int  #: packets that came
    delivered: int  #: that the application was done with
    latency: list[int]  #: of each of those, instructions from its arrival
    interrupts: int
    other: int  #: instructions of other work


class Card:
    size = 0x1000

    def __init__(self, board: Board, rate: int) -> None:
        self._board, self._wire = board, board.wire(SOURCE)
        self._gap = 10_000 / rate
        self._seed, self._next = 1, self._gap
        self._ring: deque[int] = deque()
        self._may = False
        self._arrived: list[int] = []  # of each packet that came: the count of instructions
        self.latency: list[int] = []
        board.bus.attach(CARD, self)
        board.harts.deadlines.append(lambda: int(self._next) // PER_TICK + 1)
        board.harts.advance.append(self._receive)

    @property
    def offered(self) -> int:
        return len(self._arrived)

    def _retired(self) -> int:
        return self._board.harts.each[0].instret()

    def _receive(self) -> None:
        """What has come in the time that has passed: at irregular times, half of the mean distance to one and a half."""
        now = self._board.harts.now() * PER_TICK
        while self._next < now:
            self._arrived.append(self._board.harts.each[0].cpu[at.INSTRET])
            if len(self._ring) < RING:
                self._ring.append(len(self._arrived))
                self._store(len(self._arrived))
            self._seed = self._seed * 1103515245 + 12345 & 0x7FFF_FFFF
            self._next += self._gap * (0.5 + self._seed / 0x8000_0000)
        self._drive()

    def _store(self, packet: int) -> None:
        """A packet is taken in: its content is of no interest here."""

    def _drive(self) -> None:
        self._wire(self._may and bool(self._ring))

    def read(self, offset: int, size: int) -> int:
        words(offset, size)
        if offset == 4 and self._ring:
            packet = self._ring.popleft()
            self._drive()
            return packet
        return len(self._ring) if offset == 0 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        words(offset, size)
        if offset == 8:
            self._may = bool(value & 1)
            self._drive()
        elif offset == 12 and 0 < value <= len(self._arrived):
            self.latency.append(self._retired() - self._arrived[value - 1])


_START = """
    la t0, trap
    csrw mtvec, t0
    li sp, STACK
    li s0, CARD
    li s2, QUEUE                # tail, head or flag, then the packets
    li s3, 0                    # head
    li s1, 0                    # rounds of other work
    li s4, PLIC + CLAIM
    li t0, PLIC + PRIORITY
    li t1, 1
    sw t1, 0(t0)
    li t0, PLIC + ENABLES
    li t1, SOURCE_BIT
    sw t1, 0(t0)
    li t0, MEIE
    csrw mie, t0
    li t0, MAY_INTERRUPT
    sw t0, 8(s0)
    csrsi mstatus, 8
"""
_WORK = """
work:                           # on the packet in a0
    li t1, HALF_WORK
working: addi t1, t1, -1
    bgtz t1, working
    sw a0, 12(s0)
    ret
some:                           # some other work, then back
    li t1, HALF_OTHER
elsewhere: addi t1, t1, -1
    addi s1, s1, 1
    bgtz t1, elsewhere
    j main
other:                          # other work, until an interrupt ends it
    csrsi mstatus, 8
otherwise: addi s1, s1, 1
    j otherwise
other_end:
"""
#: on the way out of the handler: what was other work is not gone on with, there is something to do for `main`
_RESCHEDULE = """
    csrr t0, mepc
    la t1, other
    bltu t0, t1, leave
    la t1, other_end
    bgeu t0, t1, leave
    la t1, main
    csrw mepc, t1
leave:
"""
_SAVED = tuple(enumerate(("t0", "t1", "t2", "t3", "a0", "a1", "ra")))
_SAVE = "addi sp, sp, -64\n" + "".join(f" sd {name}, {8 * n}(sp)\n" for n, name in _SAVED)
_RESTORE = "".join(f" ld {name}, {8 * n}(sp)\n" for n, name in _SAVED) + " addi sp, sp, 64\n mret"
_DRIVERS = {
    POLLING: """
main:
    lw t0, 0(s0)                # does anything wait?
    beqz t0, some
    lw a0, 4(s0)
    call work
    j main
trap: mret
""",
    INTERRUPTS: f"""
main:
    csrci mstatus, 8
    ld t0, 0(s2)
    beq s3, t0, other           # the queue is empty
    csrsi mstatus, 8
    andi t1, s3, RING - 1
    slli t1, t1, 3
    add t1, t1, s2
    ld a0, 64(t1)
    addi s3, s3, 1
    sd s3, 8(s2)
    call work
    j main
trap:
    {_SAVE}
    lw t0, 0(s4)                # claim
    lw a0, 4(s0)                # take a packet
    beqz a0, drop
    ld t1, 0(s2)
    ld t2, 8(s2)
    sub t2, t1, t2
    li t3, RING
    bgeu t2, t3, drop           # nobody takes them out
    andi t2, t1, RING - 1
    slli t2, t2, 3
    add t2, t2, s2
    sd a0, 64(t2)
    addi t1, t1, 1
    sd t1, 0(s2)
drop:
    sw t0, 0(s4)                # complete
    {_RESCHEDULE}
    {_RESTORE}
""",
    HYBRID: f"""
main:
    csrci mstatus, 8
    ld t0, 0(s2)
    beqz t0, other              # not polling
    csrsi mstatus, 8
    li s5, BUDGET
poll:
    lw t0, 0(s0)
    beqz t0, quiet
    lw a0, 4(s0)
    call work
    addi s5, s5, -1
    bnez s5, poll
    j some                      # the budget is used up: others have a turn
quiet:
    sd zero, 0(s2)              # back to interrupts
    li t0, 1
    sw t0, 8(s0)
    j main
trap:
    {_SAVE}
    lw t0, 0(s4)
    sw zero, 8(s0)              # no more interrupts: from now on, look
    li t1, 1
    sd t1, 0(s2)
    sw t0, 0(s4)
    {_RESCHEDULE}
    {_RESTORE}
""",
}


def run(driver: str, load: Load, *, every: int, budget: int) -> Outcome:
    """`every`: instructions of other work between two looks of the polling driver; `budget`: packets in one turn."""
    other = every if driver == POLLING else TURN
    count = 3 if driver == POLLING else 2  # instructions in which other work is counted by one
    names = {
        "STACK": STACK, "CARD": CARD, "QUEUE": QUEUE, "PLIC": PLIC, "CLAIM": 0x20_0004,
        "PRIORITY": 4 * SOURCE, "ENABLES": 0x2000,
        "SOURCE_BIT": 1 << SOURCE, "MEIE": 1 << t.MEI, "MAY_INTERRUPT": int(driver != POLLING), "HALF_WORK": load.work // 2,
        "HALF_OTHER": other // 3, "RING": RING, "BUDGET": budget,
    }  # fmt: skip
    cards: list[Card] = []
    interrupts: list[int] = []

    def prepare(board: Board) -> None:
        cards.append(Card(board, load.rate))
        hart = board.harts.each[0]
        board.harts.flush.append(lambda: interrupts.append(hart.cpu[at.TRAPS]))

    registers = bare.span(assemble(_START + _DRIVERS[driver] + _WORK, RAM_BASE, names), load.units, prepare)
    card = cards[0]
    return Outcome(card.offered, len(card.latency), card.latency, interrupts[-1], registers[9] * count)
