"""RiscvMachine keeps the kernel's contract: contexts run on harts, trap, and come back with what the kernel needs to know."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Iterator

import pytest

from trapline.machine import contract as c
from trapline.machine.paging.entry import SV39
from trapline.machine.ram import Ram
from trapline.machine.riscv import arch, code
from trapline.machine.riscv import trap as t
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.jit import available
from trapline.machine.riscv.machine import RiscvMachine
from trapline.machine.riscv.space import RiscvContext, RiscvSpace

MACHINES: list[type[RiscvMachine]] = [RiscvMachine]
if not available.why_not():
    from trapline.machine.riscv.jit.machine import NativeMachine

    MACHINES.append(NativeMachine)

CODE, DATA = 0x10000, 0x20000
LOOP = encode("jal")
ECALL = encode("ecall")


class World:
    """A machine of two harts, and spaces of one page of code and one of data."""

    def __init__(self, make: type[RiscvMachine]) -> None:
        self.machine = make(Ram(32 << 20), 2)
        self.ram = self.machine.ram

    def space(self, *words: int) -> RiscvSpace:
        frames = self.ram.frames
        root, middle, last, code, data = (frames.alloc() for _ in range(5))
        table = self.ram.words
        table[root << 9] = SV39.table(middle)
        table[middle << 9] = SV39.table(last)
        table[(last << 9) + (CODE >> 12)] = SV39.leaf(code, read=True, write=False, execute=True)
        table[(last << 9) + (DATA >> 12)] = SV39.leaf(data, read=True, write=True, execute=False)
        self.write(code, *words)
        return self.machine.new_space(root)

    def write(self, frame: int, *words: int) -> None:
        at = frame << 12
        for word in words:
            size = 4 if word & 3 == 3 else 2
            self.ram.mem[at : at + size] = word.to_bytes(size, "little")
            at += size

    def leaf(self, space: RiscvSpace, va: int) -> int:
        """Index of the leaf entry's word."""
        middle = SV39.pfn(self.ram.words[space.root << 9])
        last = SV39.pfn(self.ram.words[middle << 9])
        return (last << 9) + (va >> 12)

    def context(self, *words: int, space: RiscvSpace | None = None) -> RiscvContext:
        ctx = self.machine.new_context(space or self.space(*words))
        ctx.regs[arch.PC] = CODE
        return ctx

    def run(self, ctx: RiscvContext) -> RiscvContext:
        self.machine.resume(ctx)
        back = self.machine.wait(time.monotonic_ns() + 10_000_000_000)
        assert back is ctx
        return ctx


@pytest.fixture(params=MACHINES, ids=lambda make: make.__name__)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """On every tier: the contract is the same."""
    made = World(request.param)
    yield made
    made.machine.close()
    made.machine.close()
    made.ram.close()


def test_system_call_has_its_number_and_arguments_and_the_pc_behind_it(world: World) -> None:
    ctx = world.context(encode("addi", rd=17, imm=64), encode("addi", rd=10, imm=-1), ECALL)
    world.run(ctx)
    assert (ctx.kind, ctx.entry, ctx.regs[arch.PC]) == (c.SYSCALL, c.ENTRY_ECALL, CODE + 12)
    assert (ctx.regs[arch.RISCV64.nr], ctx.regs[arch.RISCV64.args[0]]) == (64, (1 << 64) - 1)


def test_x0_stays_zero_and_an_odd_pc_is_made_even(world: World) -> None:
    ctx = world.context(encode("add", rd=5, rs1=0, rs2=0), ECALL)
    ctx.regs[0], ctx.regs[arch.PC] = 77, CODE + 1
    world.run(ctx)
    assert (ctx.regs[0], ctx.regs[5], ctx.regs[arch.PC]) == (0, 0, CODE + 8)


@pytest.mark.parametrize(
    ("word", "address", "access", "cause"),
    [
        (encode("ld", rs1=6), 0x30008, c.READ, t.LOAD_PAGE),
        (encode("sd", rs1=6), CODE, c.WRITE, t.STORE_PAGE),
        (encode("amoadd.w", rs1=6), 0x30000, c.WRITE, t.STORE_PAGE),
        (encode("jalr", rs1=6), DATA, c.EXEC, t.FETCH_PAGE),
        (encode("ld", rs1=6), 1 << 38, c.READ, t.LOAD_PAGE),
        (encode("ld", rs1=6), (1 << 64) - 8, c.READ, t.LOAD_PAGE),
    ],
)
def test_fault_says_where_how_and_why(world: World, word: int, address: int, access: int, cause: int) -> None:
    ctx = world.context(word)
    ctx.regs[6] = address
    world.run(ctx)
    assert (ctx.kind, ctx.addr, ctx.access, ctx.code) == (c.FAULT, address, access, cause)
    assert ctx.regs[arch.PC] == (address if access == c.EXEC else CODE)


@pytest.mark.parametrize(
    ("word", "vector", "value"),
    [(0xFFFF_FFFF, t.ILLEGAL, 0xFFFF_FFFF), (0x9002, t.BREAKPOINT, CODE), (encode("mret"), t.ILLEGAL, encode("mret")),
     (encode("csrrs", csr=0x180), t.ILLEGAL, encode("csrrs", csr=0x180)), (encode("wfi"), t.ILLEGAL, encode("wfi")),
     (encode("lr.d", rs1=6), t.LOAD_MISALIGNED, DATA + 1)],
)  # fmt: skip
def test_exception_has_its_cause_and_value(world: World, word: int, vector: int, value: int) -> None:
    ctx = world.context(word)
    ctx.regs[6] = DATA + 1
    world.run(ctx)
    assert (ctx.kind, ctx.vector, ctx.addr, ctx.regs[arch.PC]) == (c.EXCEPTION, vector, value, CODE)


def test_accessed_and_dirty_are_set(world: World) -> None:
    space = world.space(encode("ld", rs1=6), encode("sd", rs1=6), ECALL)
    ctx = world.context(space=space)
    ctx.regs[6] = DATA
    world.run(ctx)
    assert world.ram.words[world.leaf(space, DATA)] & (SV39.accessed | SV39.dirty) == SV39.accessed | SV39.dirty
    assert not world.ram.words[world.leaf(space, CODE)] & SV39.dirty


def test_flush_makes_a_changed_entry_seen(world: World) -> None:
    space = world.space(encode("ld", rd=5, rs1=6), ECALL, encode("jal", imm=-8))
    ctx = world.context(space=space)
    ctx.regs[6] = DATA
    world.run(ctx)
    other = world.ram.frames.alloc()
    world.ram.words[other << 9] = 1234
    world.ram.words[world.leaf(space, DATA)] = SV39.leaf(other, read=True, write=False, execute=False)
    space.flush(DATA, DATA + 4096)
    world.run(ctx)
    assert ctx.regs[5] == 1234
    world.ram.words[world.leaf(space, DATA)] = 0
    space.reload(DATA, DATA + 4096)
    world.run(ctx)
    assert (ctx.kind, ctx.addr) == (c.FAULT, DATA)


def test_kick_ends_an_endless_loop_and_a_late_one_does_nothing(world: World) -> None:
    ctx = world.context(LOOP)
    world.machine.resume(ctx)
    assert world.machine.wait(time.monotonic_ns() + 5_000_000) is None
    world.machine.kick(ctx)
    assert world.machine.wait(None) is ctx
    assert ctx.kind == c.INTERRUPT
    world.machine.kick(ctx)
    world.machine.resume(ctx)
    assert world.machine.wait(time.monotonic_ns() + 5_000_000) is None


def test_two_harts_take_turns(world: World) -> None:
    spinner, caller = world.context(LOOP), world.context(encode("addi", rd=5, rs1=5, imm=1), encode("jal", imm=-4))
    world.machine.resume(spinner)
    world.machine.resume(caller)
    world.machine.wait(time.monotonic_ns() + 100_000_000)
    retired = [hart.cpu[hart_instret()] for hart in world.machine.harts]
    assert abs(retired[0] - retired[1]) <= world.machine.quantum
    assert min(retired) >= world.machine.quantum


def hart_instret() -> int:
    from trapline.machine.riscv.layout import INSTRET

    return INSTRET


def test_floating_point_state_follows_its_context(world: World) -> None:
    space = world.space(encode("fadd.d", rd=1, rs1=1, rs2=2), ECALL, encode("jal", imm=-8))
    image = struct.pack("<32QII", *(0x3FF0 << 48 for _ in range(32)), 0, 0)
    contexts = [world.context(space=space) for _ in range(3)]
    for n, ctx in enumerate(contexts):
        assert ctx.set_fp(image)
        for _ in range(n + 1):
            world.run(ctx)
    for _ in range(2):
        for ctx in contexts:
            world.run(ctx)
    assert [struct.unpack_from("<d", ctx.get_fp(), 8)[0] for ctx in contexts] == [4.0, 5.0, 6.0]
    copy = world.context(space=space)
    copy.copy_from(contexts[2])
    world.run(contexts[2])
    assert struct.unpack_from("<d", copy.get_fp(), 8)[0] == 6.0
    contexts[0].reset_fp()
    assert contexts[0].get_fp() == bytes(arch.FP_SIZE)


def test_malformed_floating_point_image_changes_nothing(world: World) -> None:
    ctx = world.context(ECALL)
    assert not ctx.set_fp(b"")
    assert not ctx.set_fp(bytes(arch.FP_SIZE - 8) + struct.pack("<II", 0x100, 0))
    assert ctx.get_fp() == bytes(arch.FP_SIZE)


def test_code_that_the_kernel_wrote_is_executed_after_a_flush(world: World) -> None:
    space = world.space(encode("addi", rd=5, imm=1), ECALL, encode("jal", imm=-8))
    ctx = world.context(space=space)
    world.run(ctx)
    world.write(SV39.pfn(world.ram.words[world.leaf(space, CODE)]), encode("addi", rd=5, imm=2))
    space.flush(CODE, CODE + 4096)
    world.run(ctx)
    assert ctx.regs[5] == 2


def test_ready_descriptors_and_the_bell_end_a_wait(world: World) -> None:
    reading, writing = os.pipe()
    try:
        world.machine.watch(reading, select.EPOLLIN)
        os.write(writing, b"x")
        assert world.machine.wait(None) is None
        assert world.machine.ready == [(reading, select.EPOLLIN)]
        world.machine.ready.clear()
        world.machine.watch(reading, 0)
        world.machine.ring()
        assert world.machine.wait(None) is None
        assert world.machine.wait(0) is None
    finally:
        os.close(reading)
        os.close(writing)


def test_spaces_beyond_the_last_asid_share_one_and_do_not_see_each_other(world: World) -> None:
    world.machine._next_asid = 1 << 16
    word = encode("ld", rd=5, rs1=6), ECALL, encode("jal", imm=-8)
    contexts = [world.context(*word) for _ in range(2)]
    for n, ctx in enumerate(contexts):
        ctx.regs[6] = DATA
        world.ram.words[SV39.pfn(world.ram.words[world.leaf(ctx._space, DATA)]) << 9] = n + 1
    for _ in range(2):
        for n, ctx in enumerate(contexts):
            assert world.run(ctx).regs[5] == n + 1


def test_closed_space_s_asid_comes_back_clean(world: World) -> None:
    word = encode("ld", rd=5, rs1=6), ECALL
    first = world.context(*word)
    first.regs[6] = DATA
    world.run(first)
    asid = first._space.asid
    first._space.close()
    first._space.settle()
    second = world.context(*word)
    assert second._space.asid == asid
    second.regs[6] = DATA
    world.ram.words[SV39.pfn(world.ram.words[world.leaf(second._space, DATA)]) << 9] = 5
    assert world.run(second).regs[5] == 5


def test_description_counts(world: World) -> None:
    world.run(world.context(ECALL))
    assert dict(world.machine.describe())["CPUs"].startswith("2 harts")


def test_walks_are_counted_whoever_makes_them(world: World) -> None:
    """A load of a page that was not looked up yet reads three entries; the native tier's own walks count too."""
    def steps() -> int:
        return int(dict(world.machine.describe())["TLB"].split()[-3])

    ctx = world.context(encode("ld", rd=5, rs1=6), ECALL)
    ctx.regs[6] = DATA
    world.run(ctx)  # sets the accessed bits
    world.machine.harts[0].shoot_down(None, None)
    world.machine.harts[1].shoot_down(None, None)
    before = steps()
    ctx.regs[arch.PC] = CODE
    assert world.run(ctx).kind == c.SYSCALL
    assert steps() - before == 2 * 3  # for the code, and for the data


def test_much_code_makes_the_decoded_pages_start_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "KEEP_PLACES", 5)
    words = [encode("addi", rd=5, rs1=5, imm=1)] * 100
    ctx = world.context(*words, encode("addi", rd=6, rs1=6, imm=-1), encode("bne", rs1=6, imm=-4 * 101), ECALL)
    ctx.regs[6] = 3
    assert world.run(ctx).regs[5] == 300
    monkeypatch.setattr(code, "KEEP_PAGES", 1)
    others = [world.context(*words, ECALL) for _ in range(3)]
    for _ in range(2):
        for other in others:
            other.regs[arch.PC], other.regs[5] = CODE, 0
            assert world.run(other).regs[5] == 100
