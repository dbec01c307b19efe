"""Two ways for a program in user mode to get packets from a network card: by a kernel, or with the card mapped into it.

The card (packets.Card) writes the content of packets, SIZE bytes each, to the slots of a ring in memory, one after the other;
its register 4 gives the number of the next slot, from 1. The program adds up the words of all packets, so that nothing can be
left out, and keeps the sum in s2, the count in s1.

The kernel path: an ecall, the kernel waits if it must (wfi), takes the packet from the card and copies it to where the program
wants it; several at a time if it wants several. The other path: the program looks at the card's registers itself, again and
again, and reads the packets where the card has put them. The kernel and its memory are out of the program's reach (PMP).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from trapline.labs.code import bare
from trapline.labs.code.packets import CARD, SOURCE, Card
from trapline.labs.code.text import assemble
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.addresses import PLIC, RAM_BASE
from trapline.machine.riscv.board import Board

KERNEL, BYPASS = "kernel", "bypass"
USER, BUFFER, RING_MEMORY, STACK = RAM_BASE + 0x1_0000, RAM_BASE + 0x2_0000, RAM_BASE + 0x4_0000, RAM_BASE + 0x8000
SLOTS, SIZE = 128, 256  #: more slots than the card holds packets: one that is being read is not written to
_MASK = (1 << 64) - 1


class Outcome(NamedTuple):
    offered: int
    done: int  #: packets that the program has added up
    whole: bool  #: the sum is that of these packets
    latency: list[int]  #: of each packet taken from the card: instructions since it came
    crossings: int  #: traps
    instructions: int  #: executed; the rest of the time the processor waited


def words_of(packet: int) -> list[int]:
    """The content of a packet."""
    return [(packet * 0x9E37_79B9_7F4A_7C15 + n * 0x1234_5678_9ABC_DEF1) & _MASK for n in range(SIZE // 8)]


class DmaCard(Card):
    """Puts packets into memory; keeps which were taken, and how late."""

    def __init__(self, board: Board, rate: int) -> None:
        super().__init__(board, rate)
        self._memory = board.ram.words
        self._slot = 0
        self._slots: deque[int] = deque()  #: of the packets that wait
        self.taken: list[int] = []

    def _store(self, packet: int) -> None:
        start = (RING_MEMORY - RAM_BASE) // 8 + self._slot * (SIZE // 8)
        self._slots.append(self._slot)
        self._slot = (self._slot + 1) % SLOTS
        for n, word in enumerate(words_of(packet)):
            self._memory[start + n] = word

    def read(self, offset: int, size: int) -> int:
        value = super().read(offset, size)
        if offset != 4 or not value:
            return value
        self.taken.append(value)
        self.latency.append(self._retired() - self._arrived[value - 1])
        return self._slots.popleft() + 1


_SAVED = tuple(enumerate(("t0", "t1", "t2", "t3", "t4", "t5", "t6", "a2", "a3", "ra")))
_SAVE = "".join(f" sd {name}, {8 * n}(sp)\n" for n, name in _SAVED)
_RESTORE = "".join(f" ld {name}, {8 * n}(sp)\n" for n, name in _SAVED)
_KERNEL = f"""
    la t0, trap                 # --- the kernel, M-mode
    csrw mtvec, t0
    li t0, STACK
    csrw mscratch, t0
    li t0, PLIC + PRIORITY
    li t1, 1
    sw t1, 0(t0)
    li t0, PLIC + ENABLES
    li t1, SOURCE_BIT
    sw t1, 0(t0)
    li t0, CARD
    li t1, 1
    sw t1, 8(t0)
    li t0, KERNEL_AREA
    csrw pmpaddr0, t0
    li t0, CARD_AREA
    csrw pmpaddr1, t0
    li t0, -1
    csrw pmpaddr2, t0
    li t0, RIGHTS
    csrw pmpcfg0, t0
    li t0, USER
    csrw mepc, t0
    csrw mstatus, zero
    li s0, CARD
    li s1, 0
    li s2, 0
    li s3, RING_MEMORY
    mret

.align 4
trap:                           # a0: how many packets at most; a1: where to; result in a0: how many, or -1
    csrrw sp, mscratch, sp
    addi sp, sp, -96
{_SAVE}
    csrr t0, mcause
    li t1, 8
    bne t0, t1, refuse
    li t2, 64
    bltu t2, a0, wrong          # what a program gives is only a claim
    li t2, BUFFER
    bltu a1, t2, wrong
    li t2, RING_MEMORY
    slli t1, a0, 8
    add t1, t1, a1
    bltu t2, t1, wrong
    li a2, CARD
    li a3, 0
look:
    lw t0, 0(a2)
    bnez t0, take
    bnez a3, leave              # some are better than waiting
    li t0, MEIE
    csrw mie, t0                # mstatus.MIE is 0 here: it ends the wait, and is not taken
    wfi
    csrw mie, zero
    li t0, PLIC + CLAIM
    lw t1, 0(t0)
    sw t1, 0(t0)
    j look
take:
    lw t0, 4(a2)
    addi t0, t0, -1
    slli t0, t0, 8
    li t1, RING_MEMORY
    add t0, t0, t1
    addi t1, t0, SIZE
copy:
    ld t2, 0(t0)
    ld t3, 8(t0)
    ld t4, 16(t0)
    ld t5, 24(t0)
    sd t2, 0(a1)
    sd t3, 8(a1)
    sd t4, 16(a1)
    sd t5, 24(a1)
    addi t0, t0, 32
    addi a1, a1, 32
    bltu t0, t1, copy
    addi a3, a3, 1
    bltu a3, a0, look
leave:
    addi a0, a3, 0
    j back
wrong:
    li a0, -1
back:
    csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
{_RESTORE}
    addi sp, sp, 96
    csrrw sp, mscratch, sp
    mret
refuse:                         # what the program may not do ends it
    wfi
    j refuse
.align 0x10000
"""
_ADD = """
add:                            # the words of the packet at a3
    addi t1, a3, SIZE
adding:
    ld t2, 0(a3)
    ld t3, 8(a3)
    ld t4, 16(a3)
    ld t5, 24(a3)
    add t2, t2, t3
    add t4, t4, t5
    add s2, s2, t2
    add s2, s2, t4
    addi a3, a3, 32
    bltu a3, t1, adding
    addi s1, s1, 1
    ret
"""
_PROGRAMS = {
    KERNEL: """
    li a0, BATCH
    li a1, BUFFER
    ecall
    addi s4, a0, 0
    li a3, BUFFER
each:
    call add
    addi s4, s4, -1
    bgtz s4, each
    j user
""",
    BYPASS: """
    lw t0, 0(s0)                # the card's own register
    beqz t0, user
    lw t0, 4(s0)
    addi t0, t0, -1
    slli t0, t0, 8
    add a3, t0, s3
    call add
    j user
""",
}


def run(path: str, rate: int, units: int, *, batch: int = 1, granted: bool = True) -> Outcome:
    """`rate`: packets in 10 000 instructions. `batch`: how many a call may bring. `granted`: the program may use the card."""
    napot, all_rights = 3 << 3, 7
    allowed = all_rights if path == BYPASS and granted else 0
    names = {
        "CARD": CARD, "PLIC": PLIC, "CLAIM": 0x20_0004, "PRIORITY": 4 * SOURCE, "ENABLES": 0x2000,
        "SOURCE_BIT": 1 << SOURCE, "MEIE": 1 << t.MEI, "STACK": STACK, "USER": USER, "BUFFER": BUFFER,
        "RING_MEMORY": RING_MEMORY, "SIZE": SIZE,
        "BATCH": batch, "KERNEL_AREA": RAM_BASE >> 2 | 0x1FFF, "CARD_AREA": CARD >> 2 | 0x1FF,
        "RIGHTS": (napot | all_rights) << 16 | (napot | allowed) << 8 | napot,
    }  # fmt: skip
    cards: list[DmaCard] = []
    traps: list[int] = []

    def prepare(board: Board) -> None:
        cards.append(DmaCard(board, rate))
        board.harts.flush.append(lambda: traps.append(board.harts.each[0].cpu[at.TRAPS]))

    code = assemble(f"{_KERNEL}user:\n{_PROGRAMS[path]}{_ADD}", RAM_BASE, names)
    registers, instructions = bare.elapse(code, units, prepare)
    card, done = cards[0], registers[9]
    expected = sum(sum(words_of(packet)) for packet in card.taken[:done]) & _MASK
    return Outcome(card.offered, done, _whole(registers[18], expected, card.taken, done), card.latency, traps[-1], instructions)


def _whole(found: int, expected: int, taken: list[int], done: int) -> bool:
    """The sum is that of the packets that are done, or, if the end came while one was being added up, of a part of it more."""
    if found == expected:
        return True
    partly, total = words_of(taken[done]) if done < len(taken) else [], expected
    for n in range(0, len(partly), 4):
        first, second = partly[n] + partly[n + 1], partly[n + 2] + partly[n + 3]
        if found in ((total + first) & _MASK, (total + first + second) & _MASK):
            return True
        total += first + second
    return False
