"""The machine whose TLB is all there is: every load and store is a hit or a miss of it, and its size is what was asked for."""

from __future__ import annotations

import pytest

from trapline.machine import contract as c
from trapline.machine.paging.entry import SV39
from trapline.machine.ram import Ram
from trapline.machine.riscv.counting import CountingMachine, geometry
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.select import NoMachine, open_machine

CODE, DATA = 0x10000, 0x20000
PAGES, ROUNDS = 8, 5


def counts(sets: int, ways: int) -> tuple[int, int, int]:
    """(hits, misses, walk steps) of a program that reads one word of each of 8 pages, five times, in order."""
    machine = CountingMachine(Ram(32 << 20), sets=sets, ways=ways)
    ram, frames = machine.ram, machine.ram.frames
    root, middle, last, code = (frames.alloc() for _ in range(4))
    words = ram.words
    words[root << 9], words[middle << 9] = SV39.table(middle), SV39.table(last)
    words[(last << 9) + (CODE >> 12)] = SV39.leaf(code, read=True, write=False, execute=True) | SV39.accessed
    for n in range(PAGES):
        leaf = SV39.leaf(frames.alloc(), read=True, write=True, execute=False)
        words[(last << 9) + (DATA >> 12) + n] = leaf | SV39.accessed | SV39.dirty
    program = []
    for _ in range(ROUNDS):
        for n in range(PAGES):
            program += [encode("lui", rd=10, imm=DATA + (n << 12)), encode("ld", rd=5, rs1=10, imm=0)]
    program.append(encode("ecall"))
    data = b"".join(word.to_bytes(4, "little") for word in program)
    ram.mem[code << 12 : (code << 12) + len(data)] = data
    space = machine.new_space(root)
    context = machine.new_context(space)
    context.regs[32] = CODE
    machine.resume(context)
    trapped = machine.wait(None)
    assert trapped is context and context.kind == c.SYSCALL, (context.kind, hex(context.addr))
    tlb = machine.harts[0].tlb
    found = tlb.hits, tlb.misses, tlb.walk_steps
    assert (tlb.sets, tlb.ways) == (sets, ways)
    machine.close()
    ram.close()
    return found


def test_what_fits_is_missed_once() -> None:
    assert counts(16, 4) == (PAGES * (ROUNDS - 1), PAGES + 1, 3 * (PAGES + 1))  # and the page of code


def test_the_oldest_makes_room_so_a_circle_that_is_too_large_always_misses() -> None:
    assert counts(1, PAGES - 1) == (0, PAGES * ROUNDS + 1, 3 * (PAGES * ROUNDS + 1))


def test_half_of_the_sets_are_too_small() -> None:
    hits, misses, _ = counts(8, 1)  # one page each; the page of code shares the set of the first, and is fetched once
    assert hits == PAGES * (ROUNDS - 1) and misses == PAGES + 1


@pytest.mark.parametrize("text", ["", "16", "3x2", "0x1", "4x0", "x", "-1x2", "4x4x4", "9999999999x99999"])
def test_sizes_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError):
        geometry(text)
    with pytest.raises(NoMachine, match="machine riscv: TLB"):
        open_machine(f"riscv:tlb={text}", 64 << 20)


def test_geometry() -> None:
    assert geometry("16x4") == (16, 4)
