"""What a board is started from: where files go, what is refused, and files that make no sense."""

from __future__ import annotations

import random
import struct

import pytest

from trapline.abi import elf
from trapline.machine.riscv import layout as at
from trapline.machine.riscv.addresses import FLASH, RAM_BASE, ROM
from trapline.machine.riscv.board import Board
from trapline.machine.riscv.devices.storage import Memory
from trapline.machine.riscv.firmware import ALIGN, BadImage, Files, parse, plan, reset_code, tree_address

SIZE = 64 << 20


def program(*, entry: int = RAM_BASE, paddr: int = RAM_BASE, vaddr: int | None = None, kind: int = elf.ET_EXEC, data: bytes = b"code") -> bytes:
    """An ELF file of one segment."""
    ident = b"\x7fELF" + bytes((elf.ELFCLASS64, elf.ELFDATA2LSB, 1)) + bytes(9)
    header = elf.EHDR.pack(ident, kind, elf.EM_RISCV, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    where = paddr if vaddr is None else vaddr
    return header + elf.PHDR.pack(elf.PT_LOAD, 5, 120, where, paddr, len(data), len(data) + 8, 4096) + data


class TestPlan:
    def test_firmware_then_kernel_then_disk(self) -> None:
        made = plan(Files(bios=b"f" * 3_000_000, kernel=b"k" * 100, initrd=b"i" * 10), RAM_BASE, SIZE)
        assert (made.start, made.next) == (RAM_BASE, RAM_BASE + 2 * ALIGN)
        assert made.initrd == (made.next + SIZE // 2, made.next + SIZE // 2 + 10)

    def test_kernel_alone_starts_at_the_bottom(self) -> None:
        made = plan(Files(kernel=b"k" * 100), RAM_BASE, SIZE)
        assert (made.start, made.next) == (RAM_BASE, RAM_BASE)

    def test_elf_files_go_where_they_say(self) -> None:
        made = plan(Files(bios=b"f", kernel=program(entry=RAM_BASE + 0x40_0000, paddr=RAM_BASE + 0x40_0000)), RAM_BASE, SIZE)
        assert made.next == RAM_BASE + 0x40_0000

    def test_entry_of_a_program_linked_elsewhere_is_physical(self) -> None:
        high = 0xFFFF_FFFF_8000_0000
        assert parse(program(entry=high + 2, vaddr=high, paddr=RAM_BASE + 0x1000)).entry == RAM_BASE + 0x1002

    def test_nothing_to_start(self) -> None:
        with pytest.raises(BadImage, match="nothing"):
            plan(Files(), RAM_BASE, SIZE)
        assert plan(Files(), RAM_BASE, SIZE, FLASH).start == FLASH

    def test_tree_is_at_the_top_and_below_3_gib(self) -> None:
        assert tree_address(5000, RAM_BASE, SIZE) == RAM_BASE + SIZE - ALIGN
        assert tree_address(5000, RAM_BASE, 8 << 30) == (3 << 30) - ALIGN


class TestStart:
    def test_every_hart_starts_in_the_rom_with_its_number_and_the_tree(self) -> None:
        board = Board(SIZE, 3, send=lambda data: None, native=False)
        board.boot(Files(kernel=program(data=struct.pack("<I", 0x0000006F))))  # j .
        assert [hart.cpu[at.PC] for hart in board.harts.each] == [ROM] * 3
        board.harts.run(100)
        for n, hart in enumerate(board.harts.each):
            assert hart.cpu[at.PC] == RAM_BASE and hart.cpu[at.X + 10] == n
            tree = hart.cpu[at.X + 11] - RAM_BASE
            assert board.ram.mem[tree : tree + 4] == b"\xd0\x0d\xfe\xed"
            assert board.bus.read(hart.cpu[at.X + 12], 8) == 0x4942534F

    def test_dynamic_information(self) -> None:
        words = struct.unpack_from("<8Q", reset_code(1, 2, 3), 24)
        assert words == (1, 2, 0x4942534F, 2, 3, 1, 0, 0)

    def test_starts_in_flash(self) -> None:
        contents = bytearray(256 << 10)
        contents[:4] = struct.pack("<I", 0x0000006F)
        board = Board(SIZE, 1, send=lambda data: None, native=False)
        board.add_flash(Memory(contents))
        board.boot(Files())
        board.harts.run(50)
        assert board.harts.each[0].cpu[at.PC] == FLASH

    def test_reset_loads_everything_anew(self) -> None:
        board = Board(SIZE, 1, send=lambda data: None, native=False)
        board.boot(Files(kernel=program(data=struct.pack("<I", 0x0000006F))))
        board.harts.run(1000)
        board.ram.mem[0:4] = b"junk"
        board.ram.mem[1 << 20] = 1
        board.reset()
        assert bytes(board.ram.mem[:4]) == struct.pack("<I", 0x0000006F) and board.ram.mem[1 << 20] == 0
        assert board.harts.each[0].cpu[at.PC] == ROM


@pytest.mark.parametrize("seed", range(3))
def test_files_that_make_no_sense_are_refused_or_loaded_inside_ram(seed: int) -> None:
    rng = random.Random(seed)
    outcomes = {"loaded": 0, "refused": 0}
    board = Board(16 << 20, 1, send=lambda data: None, native=False)
    whole = program(data=b"x" * 100)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.choice((*range(16, 64), *range(64, 120)))
            data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        piece = bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))])
        try:
            board.boot(rng.choice((Files(kernel=piece), Files(bios=piece), Files(bios=b"firmware", kernel=piece, initrd=piece))))
            outcomes["loaded"] += 1
        except BadImage:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10, outcomes
