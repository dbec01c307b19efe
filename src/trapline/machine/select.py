"""Choosing a machine by name, for whoever starts a kernel. The kernel itself never sees this file.

Sizes that are not given are chosen from what the host has: guest RAM is sparse, so a large one costs nothing until it is used.
"""

from __future__ import annotations

import os
from trapline.typed import TYPE_CHECKING

from trapline.machine.ram import Ram

if TYPE_CHECKING:
    from trapline.machine.contract import Machine

NAMES = ("host", "riscv")
MACHINE_OF = {"x86_64": "host", "riscv64": "riscv"}  #: architecture -> the machine that runs its programs
MIN_MEMORY, MAX_MEMORY = 64 << 20, 64 << 30
MAX_CPUS = 64


class NoMachine(Exception):
    """No machine of that name can be had here; the text says why and what to do."""


def default_memory() -> int:
    """Half of the host's memory, within reason."""
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(max(half, MIN_MEMORY), MAX_MEMORY) & -(2 << 20)


def default_cpus() -> int:
    """As many as the caller may run on."""
    return min(len(os.sched_getaffinity(0)), MAX_CPUS)


def open_machine(name: str = "host", memory_bytes: int = 0, cpus: int = 0) -> Machine:
    """A machine with its RAM; 0 stands for the default. Raises NoMachine.

    `riscv:TIER` says how it executes; `riscv:tlb=SETSxWAYS` makes its TLB so large, and count every load and store.
    """
    name, _, tier = name.partition(":")
    if name not in NAMES or (tier and name != "riscv"):
        raise NoMachine(f"machine {name}: no such machine: there is {', '.join(NAMES)}")
    if name == "riscv":
        return _open_riscv(memory_bytes, cpus, tier)
    from trapline.machine.host import MachineUnavailable

    try:
        from trapline.machine.host import HostMachine

        ram = Ram(memory_bytes or default_memory(), shared=True)
        machine: Machine = HostMachine(ram, cpus or default_cpus())
    except ImportError as error:
        raise NoMachine(f"machine host: its native part is missing ({error}): install trapline with a C compiler") from None
    except (MachineUnavailable, OSError) as error:
        raise NoMachine(f"machine host: {error}: `trapline doctor` says what is missing") from None
    return machine


def _open_riscv(memory_bytes: int, cpus: int, tier: str) -> Machine:
    """The emulated computer; one hart unless more are asked for, for they take turns on one CPU of the host.

    With llvmlite it runs native code; without, the reference tier runs everything.
    """
    from trapline.machine.riscv.jit import available

    if tier.startswith("tlb="):
        return _open_counting(memory_bytes, cpus, tier.removeprefix("tlb="))
    try:
        tier = available.choose(tier)
    except ValueError as error:
        raise NoMachine(f"machine riscv: tier {error}") from None
    ram = Ram(memory_bytes or default_memory())
    if tier == "reference":
        from trapline.machine.riscv.machine import RiscvMachine

        return RiscvMachine(ram, cpus or 1)
    from trapline.machine.riscv.jit.machine import NativeMachine

    return NativeMachine(ram, cpus or 1, tier)


def _open_counting(memory_bytes: int, cpus: int, size: str) -> Machine:
    from trapline.machine.riscv.counting import CountingMachine, geometry

    try:
        sets, ways = geometry(size)
    except ValueError as error:
        raise NoMachine(f"machine riscv: TLB {error}") from None
    return CountingMachine(Ram(memory_bytes or default_memory()), cpus or 1, sets=sets, ways=ways)
