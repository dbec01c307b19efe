"""Calls that only riscv64 has: riscv_flush_icache(2), riscv_hwprobe(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import riscv64 as r
from trapline.abi.errno import EINVAL
from trapline.kernel.syscalls.declare import Arg, Hex, Size, UInt, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task

CPUSET_MAX = 128  #: bytes of a set of CPUs that are looked at
_UNKNOWN = -1


@syscall("riscv_flush_icache")
def sys_riscv_flush_icache(task: Task, start: UserPtr, end: UserPtr, flags: Hex) -> int:
    """riscv_flush_icache(2): what the process wrote as code, its threads now execute.

    As on Linux the range is not looked at: all of the address space is meant.
    """
    if flags & ~r.FLUSH_ICACHE_LOCAL:
        raise EINVAL("flags")
    task.mm.space.flush(0, task.mm.task_size)
    return 0


@syscall("riscv_hwprobe")
def sys_riscv_hwprobe(
    task: Task,
    pairs: UserPtr,
    pair_count: Size,
    cpusetsize: Size,
    cpus: Annotated[int, Arg(64, "ptr")],
    flags: UInt,
) -> int:
    """riscv_hwprobe(2): what the processors can do. All are alike here, so any set of them has the same answer."""
    if flags:
        raise EINVAL("flags")
    if cpusetsize or cpus:
        wanted = int.from_bytes(task.mm.read(cpus, min(cpusetsize, CPUSET_MAX)), "little")
        if not wanted & (1 << task.kernel.machine.cpus) - 1:
            raise EINVAL("none of these CPUs is there")
    answers = _answers(task.kernel)
    for at in range(pairs, pairs + pair_count * r.HWPROBE_PAIR.size, r.HWPROBE_PAIR.size):
        key, _ = r.HWPROBE_PAIR.unpack(task.mm.read(at, r.HWPROBE_PAIR.size))
        known = key in answers
        task.mm.write(at, r.HWPROBE_PAIR.pack(key if known else _UNKNOWN, answers[key] if known else 0))
    return 0


def _answers(kernel: Kernel) -> dict[int, int]:
    have = r.extensions(kernel.machine.arch.isa)
    have |= {"fd"} if {"f", "d"} <= have else set()
    extensions = sum(bit for name, bit in r.HWPROBE_EXTENSIONS.items() if name in have)
    answers = {
        r.HWPROBE_MVENDORID: 0, r.HWPROBE_MARCHID: 0, r.HWPROBE_MIMPID: 0,
        r.HWPROBE_BASE_BEHAVIOR: r.HWPROBE_BASE_IMA if {"i", "m", "a"} <= have else 0,
        r.HWPROBE_IMA_EXT_0: extensions, r.HWPROBE_CPUPERF_0: r.HWPROBE_MISALIGNED_EMULATED,
    }  # fmt: skip
    if "zicboz" in have:
        answers[r.HWPROBE_ZICBOZ_BLOCK_SIZE] = r.CACHE_BLOCK
    return answers
