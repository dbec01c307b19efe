"""The host machine without a kernel: the FP and vector state of contexts, and the bases of FS and GS."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import hostmachine_util
import pytest
from hostmachine_util import DATA, PAGE, Guest, run

from trapline.abi.x86_64 import (
    FS_BASE,
    GP,
    R12,
    RBX,
    RDI,
)
from trapline.machine.contract import (
    EXCEPTION,
    SYSCALL,
)

host = pytest.importorskip("trapline.machine.host")
if sys.platform != "linux" or os.uname().machine != "x86_64":
    pytest.skip("the host machine is for x86-64 Linux", allow_module_level=True)

machine = hostmachine_util.machine  # a fixture
AVX_LOOP = """
    movq xmm0, r12
    movq xmm15, r12
    {avx_load}
1:  mov eax, 24
    syscall
    movq rbx, xmm0
    movq rcx, xmm15
    {avx_store}
    jmp 1b
"""
HAVE_AVX = " avx " in Path("/proc/cpuinfo").read_text()


def test_contexts_of_one_space_keep_their_own_vectors(machine: Any) -> None:
    source = AVX_LOOP.format(
        avx_load="movq xmm1, r12\n vinsertf128 ymm2, ymm2, xmm1, 1" if HAVE_AVX else "",
        avx_store="vextractf128 xmm3, ymm2, 1\n movq rdx, xmm3" if HAVE_AVX else "mov rdx, r12",
    )
    guest = Guest(machine, source.replace("rcx, xmm15", "rdi, xmm15"))
    contexts = [guest.context() for _ in range(5)]
    for i, ctx in enumerate(contexts):
        ctx.regs[R12] = 0x1111 * (i + 1)
        assert run(machine, ctx).kind == SYSCALL
    for _ in range(3):
        for i, ctx in enumerate(contexts):
            run(machine, ctx)
            assert [ctx.regs[RBX], ctx.regs[RDI]] == [0x1111 * (i + 1)] * 2
            assert ctx.regs[12] == 0x1111 * (i + 1)  # rdx: the upper half of ymm2
    assert len(guest.space.process.slots) == 1


def test_fp_image_in_and_out(machine: Any) -> None:
    guest = Guest(machine, "movq xmm0, r12\n syscall\n movq rbx, xmm0\n syscall")
    ctx = guest.context()
    ctx.regs[R12] = 0xABCDEF
    run(machine, ctx)
    image = ctx.get_fp()
    assert len(image) == machine.arch.fp_size
    assert image[160:168] == (0xABCDEF).to_bytes(8, "little")
    changed = bytearray(image)
    changed[160:168] = (0x123).to_bytes(8, "little")
    assert ctx.set_fp(bytes(changed))
    other = guest.context()
    other.copy_from(ctx)
    assert run(machine, other).regs[RBX] == 0x123
    assert run(machine, ctx).regs[RBX] == 0x123
    ctx.reset_fp()
    assert ctx.get_fp()[160:168] == bytes(8)


@pytest.mark.parametrize("at, value", [(24, 0xFFFFFFFF), (512, 1 << 62), (520, 1), (528, 1)])
def test_fp_image_that_the_cpu_would_refuse(machine: Any, at: int, value: int) -> None:
    ctx = run(machine, Guest(machine, "syscall\n syscall").context())
    image = bytearray(ctx.get_fp())
    size = 4 if at == 24 else 8
    image[at : at + size] = value.to_bytes(size, "little")
    before = ctx.get_fp()
    assert not ctx.set_fp(bytes(image))
    assert ctx.get_fp() == before
    assert run(machine, ctx).kind == SYSCALL


def test_fs_and_gs_base(machine: Any) -> None:
    guest = Guest(machine, "mov rbx, fs:[8]\n mov rcx, gs:[8]\n mov rdi, rcx\n syscall\n ud2")
    guest.write(guest.data[0], (11).to_bytes(8, "little"), 8)
    guest.write(guest.data[1], (22).to_bytes(8, "little"), 8)
    ctx = guest.context()
    ctx.regs[FS_BASE], ctx.regs[FS_BASE + 1] = DATA, DATA + PAGE
    run(machine, ctx)
    assert (ctx.regs[RBX], ctx.regs[RDI]) == (11, 22)
    assert list(ctx.regs[FS_BASE:]) == [DATA, DATA + PAGE]


def test_bad_fs_base_is_a_protection_fault(machine: Any) -> None:
    ctx = Guest(machine, "syscall").context()
    ctx.regs[FS_BASE] = 1 << 60
    run(machine, ctx)
    assert (ctx.kind, ctx.vector) == (EXCEPTION, GP)
    ctx.regs[FS_BASE] = 0
    assert run(machine, ctx).kind == SYSCALL
